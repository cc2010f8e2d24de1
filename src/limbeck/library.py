"""The verbs, as Python functions: what the command line does, with values in and out.

A recipe is a `Recipe`, a path to a YAML file, or plain values:

    limbeck.distill({"kind": "distillation", "name": "desk", "source": {"prompts": "prompts.jsonl"},
                     "teacher": {"model": "desk-teacher"}, "student": {"shrink": {"layers": 6}}})
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck import pipeline
from limbeck.errors import InvalidRecipe
from limbeck.inference.engine import Engine
from limbeck.inference.parity import Parity
from limbeck.progress import Progress, Silent, StopSignal
from limbeck.recipe import Evaluation, Kind, Recipe
from limbeck.records import Answer, CustomModel, GenerationSettings, Message, Prompt, Quantization
from limbeck.settings import Settings
from limbeck.storage.workspace import Workspace

__all__ = ["Model", "distill", "evaluate", "export", "fine_tune", "load", "pretrain"]

RecipeLike = Recipe | Path | str | Mapping[str, Any]


def distill(
    recipe: RecipeLike,
    *,
    home: Path | str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    stop: StopSignal | None = None,
) -> CustomModel:
    """Distill a teacher into a student and register it. ``resume`` goes on with a job that was broken off."""
    return _run("distillation", recipe, home, resume, progress, stop)


def fine_tune(
    recipe: RecipeLike,
    *,
    home: Path | str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    stop: StopSignal | None = None,
) -> CustomModel:
    """Teach a model labelled pairs and register it. ``resume`` goes on with a job that was broken off."""
    return _run("fine-tuning", recipe, home, resume, progress, stop)


def pretrain(
    recipe: RecipeLike,
    *,
    home: Path | str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    stop: StopSignal | None = None,
) -> CustomModel:
    """Let a model read plain text, measure it, register it. ``resume`` goes on with a job that was broken off."""
    return _run("continued-pre-training", recipe, home, resume, progress, stop)


def evaluate(
    model: str,
    rows: Path | str,
    *,
    max_response_tokens: int = 256,
    system: str | None = None,
    plan: Evaluation | None = None,
    home: Path | str | None = None,
    progress: Progress | None = None,
    stop: StopSignal | None = None,
) -> dict[str, Any]:
    """Scores (with 95% intervals), latency and cost of ``model`` on a file of labelled rows."""
    settings = _settings(home)
    work = Workspace(settings.home / "evaluations", progress or Silent(), stop or StopSignal())
    answers = GenerationSettings(max_response_tokens)
    return pipeline.evaluate(model, Path(rows), plan or Evaluation(), answers, work, settings, system)


def export(
    model: str,
    to: Path | str,
    *,
    quantization: Quantization = "f16",
    prompts: Path | str | None = None,
    home: Path | str | None = None,
) -> Parity:
    """Copy ``model`` to the folder ``to`` with a GGUF file and Ollama's Modelfile; gives what the file loses.

    It is measured on the rows of ``prompts``, on what the model's own job held out, or on a few plain questions.
    """
    return pipeline.export(model, Path(to), quantization, Path(prompts) if prompts else None, _settings(home))


def load(model: str, *, home: Path | str | None = None) -> Model:
    """A model ready to answer: by catalog id, registered name, or folder."""
    return Model(pipeline.load_engine(model, _settings(home)))


class Model:
    """A loaded model that answers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def answer(
        self,
        prompt: str | Sequence[Mapping[str, str]],
        *,
        system: str | None = None,
        max_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> str:
        """The answer to ``prompt``: the user's text, or turns ``{"role", "content"}`` that end with the user's."""
        return self.complete(prompt, system, GenerationSettings(max_tokens, temperature, seed=seed)).text

    def stream(
        self,
        prompt: str | Sequence[Mapping[str, str]],
        *,
        system: str | None = None,
        max_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[str]:
        """The answer, piece by piece."""
        tokens = self._engine.renderer.prompt(_prompt(prompt, system))
        return self._engine.stream(tokens, GenerationSettings(max_tokens, temperature, seed=seed))

    def complete(
        self, prompt: str | Sequence[Mapping[str, str]], system: str | None, settings: GenerationSettings
    ) -> Answer:
        """The answer with its tokens and, if ``settings`` ask for them, its distributions."""
        tokens = self._engine.renderer.prompt(_prompt(prompt, system))
        return self._engine.generate([tokens], settings)[0]


def _prompt(prompt: str | Sequence[Mapping[str, str]], system: str | None) -> Prompt:
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    made = Prompt(tuple(Message(turn["role"], turn["content"]) for turn in turns))  # type: ignore[arg-type]
    return made.with_system(system) if system else made


def _run(
    kind: Kind,
    recipe: RecipeLike,
    home: Path | str | None,
    resume: bool,
    progress: Progress | None,
    stop: StopSignal | None,
) -> CustomModel:
    if isinstance(recipe, str | Path):
        recipe = Recipe.read(Path(recipe))
    elif not isinstance(recipe, Recipe):
        recipe = Recipe.build({"kind": kind, **recipe})
    if recipe.kind != kind:
        raise InvalidRecipe("recipe", [f'kind: found "{recipe.kind}"; this verb does {kind}'])
    settings = _settings(home)
    work = Workspace(settings.jobs / recipe.name, progress or Silent(), stop or StopSignal())
    return pipeline.run(recipe, work, settings, resume)


def _settings(home: Path | str | None) -> Settings:
    return Settings.read(Path(home) if home is not None else None)
