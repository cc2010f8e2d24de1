"""The teacher a recipe names, whatever it is reached by.

Vendors' own packages are extras: they are imported when a recipe names them, and what is missing says so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from limbeck.errors import InvalidInput
from limbeck.models.catalog import find
from limbeck.models.chat import Renderer
from limbeck.models.cutting import provide
from limbeck.models.token_bytes import TokenBytes
from limbeck.models.tokenizer import Tokenizer
from limbeck.recipe import Budget, Teacher
from limbeck.settings import Settings
from limbeck.teachers.anthropic import AnthropicEndpoint
from limbeck.teachers.bedrock import BedrockEndpoint
from limbeck.teachers.budget import Purse
from limbeck.teachers.endpoint import Endpoint
from limbeck.teachers.estimate import prices_of
from limbeck.teachers.labels import Labels
from limbeck.teachers.llama import LlamaEndpoint
from limbeck.teachers.openai import OpenAIEndpoint
from limbeck.teachers.patience import Patience
from limbeck.teachers.remote import RemoteTeacher

__all__ = ["llama_teacher", "remote_teacher"]


def remote_teacher(
    teacher: Teacher,
    student: str | None,
    settings: Settings,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
    key: str = "teacher",
    text_will_do: bool = False,
) -> RemoteTeacher:
    """A teacher over the network, as the recipe has it under ``key``.

    ``student`` names the model whose tokenizer reads the teacher's log-probabilities, where the recipe names no
    other. ``folder``: the job's, where its spending is written down. ``text_will_do``: see `RemoteTeacher`. Raises
    `InvalidInput` for a key that is not set, a package that is not there, a cap on money without prices.
    """
    renderer = _renderer(teacher.tokenizer or student, settings, must=teacher.tokenizer is not None)
    made = RemoteTeacher(
        _endpoint(teacher, renderer),
        Purse(teacher.budget, prices_of(teacher, settings), folder, key),
        teacher.concurrency,
        Patience(attempts=teacher.attempts),
        say=say,
        text_will_do=text_will_do,
    )
    made.renderer = renderer
    return made


def llama_teacher(teacher: Teacher, settings: Settings, say: Callable[[str], None] = lambda _: None) -> RemoteTeacher:
    """A GGUF file, answered from by llama.cpp. Raises `InvalidInput` for a model that is none."""
    source = find(teacher.model, settings)
    if source.path.suffix != ".gguf":
        raise InvalidInput(
            f"teacher.via: llama.cpp answers from a GGUF file; {teacher.model} is a folder ({source.path})"
        )
    endpoint = LlamaEndpoint(source.id, provide(source), teacher.concurrency, settings.threads)
    made = RemoteTeacher(endpoint, Purse(Budget(), teacher.prices or source.prices), teacher.concurrency, say=say)
    made.renderer, made.parameters = endpoint.renderer, source.parameters
    return made


def _endpoint(teacher: Teacher, renderer: Renderer | None) -> Endpoint:
    labels = Labels(TokenBytes(renderer.tokenizer), renderer.stop_ids) if renderer else None
    match teacher.via:
        case "anthropic":
            return AnthropicEndpoint(teacher)
        case "bedrock":
            return BedrockEndpoint(teacher)
        case _:
            return OpenAIEndpoint(teacher, labels)


def _renderer(name: str | None, settings: Settings, must: bool) -> Renderer | None:
    """A model's tokenizer; None where it is of no kind that is read here, unless the recipe says it ``must`` be."""
    if name is None:
        return None
    try:
        return Renderer(Tokenizer.open(find(name, settings).path))
    except InvalidInput:
        if must:
            raise
        return None
