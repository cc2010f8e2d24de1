"""The verbs, as Python functions: what the command line does, with values in and out.

A recipe is a `Recipe`, a path to a YAML file, or plain values:

    limbeck.distill({"kind": "distillation", "name": "desk", "source": {"prompts": "prompts.jsonl"},
                     "teacher": {"model": "desk-teacher"}, "student": {"shrink": {"layers": 6}}})
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from limbeck import pipeline
from limbeck.errors import InvalidInput, InvalidRecipe
from limbeck.inference.engine import Engine
from limbeck.inference.parity import Parity
from limbeck.intake.faults import flaw
from limbeck.models.catalog import system_of
from limbeck.progress import Progress, Silent, StopSignal
from limbeck.recipe import Evaluation, Kind, Recipe
from limbeck.records import Answer, CustomModel, GenerationSettings, Message, Prompt, Quantization, Role
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
    model: str | CustomModel,
    rows: Path | str,
    *,
    max_response_tokens: int = 256,
    system: str | None = None,
    plan: Evaluation | None = None,
    to: Path | str | None = None,
    home: Path | str | None = None,
    progress: Progress | None = None,
    stop: StopSignal | None = None,
) -> dict[str, Any]:
    """Scores (with 95% intervals), latency and cost of ``model`` on a file of labelled rows.

    Under ``intake`` stands what became of the rows, with the faults of those that were refused; under ``remarks``, what
    is to be known of the result.

    ``system`` is for rows without one: by default the system prompt the model learned with, if there was one. ``to`` is
    a file for every row's answer, beside its reference and what it scored, as JSON lines.
    """
    settings, model = _settings(home), _named(model)
    work = Workspace(settings.home / "evaluations", progress or Silent(), stop or StopSignal())
    answers = _asked(max_response_tokens)
    learned = system_of(model, settings) if system is None else system
    return pipeline.evaluate(
        model, Path(rows), plan or Evaluation(), answers, work, settings, learned or None, Path(to) if to else None
    )


def export(
    model: str | CustomModel,
    to: Path | str,
    *,
    quantization: Quantization = "f16",
    prompts: Path | str | None = None,
    home: Path | str | None = None,
) -> Parity:
    """Copy ``model`` to the folder ``to`` with a GGUF file and Ollama's Modelfile; gives what the file loses.

    It is measured on the rows of ``prompts``, on what the model's own job held out, or on a few plain questions.
    """
    return pipeline.export(_named(model), Path(to), quantization, Path(prompts) if prompts else None, _settings(home))


def load(model: str | CustomModel, *, home: Path | str | None = None) -> Model:
    """A model ready to answer: by catalog id, registered name, or folder; or what a verb gave."""
    settings, model = _settings(home), _named(model)
    return Model(pipeline.load_engine(model, settings), system_of(model, settings))


class Model:
    """A loaded model that answers.

    Where a question says nothing of a ``system`` prompt, it is asked under the one it learned with, if there was one;
    an empty text stands for none.
    """

    def __init__(self, engine: Engine, system: str | None = None) -> None:
        self._engine, self._system = engine, system

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
        return self.complete(prompt, system, _asked(max_tokens, temperature, seed)).text

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
        return self._engine.stream(self._tokens(prompt, system), _asked(max_tokens, temperature, seed))

    def complete(
        self, prompt: str | Sequence[Mapping[str, str]], system: str | None, settings: GenerationSettings
    ) -> Answer:
        """The answer with its tokens and, if ``settings`` ask for them, its distributions."""
        return self._engine.generate([self._tokens(prompt, system)], settings)[0]

    def _tokens(self, prompt: str | Sequence[Mapping[str, str]], system: str | None) -> Sequence[int]:
        return self._engine.renderer.prompt(_prompt(prompt, self._system if system is None else system))


def _named(model: str | CustomModel) -> str:
    return model.name if isinstance(model, CustomModel) else model


def _asked(max_tokens: int, temperature: float = 0.0, seed: int = 0) -> GenerationSettings:
    """How to answer. Raises `InvalidInput` for what nothing can be sampled with."""
    if max_tokens < 1:
        raise InvalidInput(f"max_tokens: {max_tokens}; expected 1 or more")
    if not 0.0 <= temperature <= 2.0:
        raise InvalidInput(f"temperature: {temperature:g}; expected 0 (greedy) to 2")
    return GenerationSettings(max_tokens, temperature, seed=seed)


def _prompt(prompt: str | Sequence[Mapping[str, str]], system: str | None) -> Prompt:
    """What a caller asks, under ``system`` where it names none. Raises `InvalidInput` for what waits for no answer."""
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if not isinstance(turns, Sequence):
        raise InvalidInput(f'prompt: found {turns!r}; expected text, or turns {{"role", "content"}}')
    made = Prompt(tuple(_turn(turn, at) for at, turn in enumerate(turns)))
    if not made.turns or made.turns[-1].role != "user":
        found = made.turns[-1].role if made.turns else "nobody"
        raise InvalidInput(f"prompt: the last to speak is {found}; expected the user")
    return made.with_system(system) if system else made


def _turn(turn: Any, at: int) -> Message:
    role, text = (turn.get("role"), turn.get("content")) if isinstance(turn, Mapping) else (None, None)
    if role not in get_args(Role):
        expected = f'{{"role", "content"}}, role one of {", ".join(get_args(Role))}'
        raise InvalidInput(f"prompt: turn {at + 1}: found {turn!r}; expected {expected}")
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput(f"prompt: turn {at + 1}: found {text!r}; expected text")
    if wrong := flaw(text):
        raise InvalidInput(f"prompt: turn {at + 1}: found {wrong}; expected text that is valid Unicode")
    return Message(role, text)  # type: ignore[arg-type]


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
