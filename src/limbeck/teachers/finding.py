"""The teacher a recipe names, whatever it is reached by.

Vendors' own packages are extras: they are imported when a recipe names them, and what is missing says so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from limbeck.errors import InvalidInput, NotYet
from limbeck.models.catalog import catalog, find
from limbeck.models.chat import Renderer
from limbeck.models.token_bytes import TokenBytes
from limbeck.models.tokenizer import Tokenizer
from limbeck.recipe import Prices, Teacher
from limbeck.settings import Settings
from limbeck.teachers.budget import Purse
from limbeck.teachers.endpoint import Endpoint
from limbeck.teachers.labels import Labels
from limbeck.teachers.openai import OpenAIEndpoint
from limbeck.teachers.patience import Patience
from limbeck.teachers.remote import RemoteTeacher

__all__ = ["prices_of", "remote_teacher"]


def remote_teacher(
    teacher: Teacher,
    student: str | None,
    settings: Settings,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> RemoteTeacher:
    """A teacher over the network, as the recipe has it.

    ``student`` names the model whose tokenizer reads the teacher's log-probabilities, where the recipe names no
    other. ``folder``: the job's, where its spending is written down. Raises `InvalidInput` for a key that is not set,
    a package that is not there, a cap on money without prices.
    """
    renderer = _renderer(teacher.tokenizer or student, settings, must=teacher.tokenizer is not None)
    made = RemoteTeacher(
        _endpoint(teacher, renderer),
        Purse(teacher.budget, prices_of(teacher, settings), folder),
        teacher.concurrency,
        Patience(attempts=teacher.attempts),
        say=say,
    )
    made.renderer = renderer
    return made


def prices_of(teacher: Teacher, settings: Settings) -> Prices | None:
    """The recipe's prices, else the catalog's for a model of that id."""
    entry = catalog(settings).get(teacher.model)
    return teacher.prices or (entry.prices if entry else None)


def _endpoint(teacher: Teacher, renderer: Renderer | None) -> Endpoint:
    labels = Labels(TokenBytes(renderer.tokenizer), renderer.stop_ids) if renderer else None
    if teacher.via == "openai":
        return OpenAIEndpoint(teacher, labels)
    raise NotYet(f"teacher.via: {teacher.via} is not built yet")


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
