"""The commands that make a model, and what is said of a recipe before: `distill`, `fine-tune`, `pretrain`, `advise`.

The library imports torch, which takes seconds: they import it when they are called.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from limbeck.cli.advising import advice_on, lines
from limbeck.cli.bars import watcher
from limbeck.cli.forecast import forecast
from limbeck.cli.terminal import AsJson, Home, print_json, stoppable, tell
from limbeck.errors import InvalidDataset, InvalidInput, InvalidRecipe, Unknown
from limbeck.recipe import Kind, Recipe, assign, yaml_fault
from limbeck.settings import Settings
from limbeck.storage.workspace import read_json

if TYPE_CHECKING:
    from limbeck.records import CustomModel, Report

__all__ = ["advise", "distill", "fine_tune", "pretrain"]

RecipeFile = Annotated[
    Path | None, typer.Argument(help="A recipe in YAML; flags win over what it says.", show_default=False)
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any key of a recipe, for example training.epochs=2.", metavar="KEY=VALUE"),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a job that was broken off.")]
Name = Annotated[str | None, typer.Option(help="Of the job and of the model it makes.")]
System = Annotated[str | None, typer.Option(help="System prompt for rows without one.")]
Base = Annotated[str | None, typer.Option(help="What it starts from: catalog id, registered name or folder.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the data.")]
Rate = Annotated[float | None, typer.Option(help="The highest rate.")]

KEYS = {
    "name": "name",
    "prompts": "source.prompts",
    "held_out": "source.held_out",
    "golden": "source.golden",
    "system": "source.system",
    "minimum": "source.minimum",
    "teacher": "teacher.model",
    "student": "student.model",
    "layers": "student.shrink.layers",
    "epochs": "training.epochs",
    "learning_rate": "training.learning_rate",
}
"""A recipe's key for what a flag says."""

NEEDED: dict[Kind, dict[str, tuple[str, ...]]] = {
    "distillation": {"name": ("name",), "prompts": ("source",), "teacher": ("teacher", "trial")},
    "fine-tuning": {"name": ("name",), "pairs": ("source",), "model": ("student",)},
    "continued-pre-training": {"name": ("name",), "text": ("source",), "model": ("student",)},
}
"""The flags without which there is no recipe, where no file is one: each with the keys, or sections, it fills."""


def distill(
    recipe: RecipeFile = None,
    name: Name = None,
    prompts: Annotated[Path | None, typer.Option(help="JSONL of prompts, with or without answers.")] = None,
    held_out: Annotated[Path | None, typer.Option(help="JSONL to examine the student on.")] = None,
    golden: Annotated[Path | None, typer.Option(help="JSONL of pairs shown to the teacher.")] = None,
    system: System = None,
    teacher: Annotated[str | None, typer.Option(help="Catalog id, registered name or folder.")] = None,
    student: Annotated[str | None, typer.Option(help="What the student starts from; by default the teacher.")] = None,
    layers: Annotated[int | None, typer.Option(help="Cut the student to so many layers.")] = None,
    epochs: Epochs = None,
    learning_rate: Rate = None,
    minimum: Annotated[int | None, typer.Option(help="Accept so few prompts (by default 100).")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take: rows, tokens, time, cost; ask nobody.")
    ] = False,
    as_json: AsJson = False,
    set_: Set = None,
    resume: Resume = False,
    home: Home = None,
) -> None:
    """Teach a student a teacher's answers, measure it, register it."""
    given = _given(
        set_, name=name, prompts=prompts, held_out=held_out, golden=golden, system=system, minimum=minimum,
        teacher=teacher, student=student, layers=layers, epochs=epochs, learning_rate=learning_rate,
    )  # fmt: skip
    if dry_run:
        settings = Settings.read(home)
        _print_forecast(_recipe("distillation", recipe, given, resume, settings), settings, as_json)
        return
    _run("distillation", recipe, given, resume, home, as_json)


def fine_tune(
    recipe: RecipeFile = None,
    name: Name = None,
    pairs: Annotated[Path | None, typer.Option(help="JSONL of labelled pairs.")] = None,
    held_out: Annotated[Path | None, typer.Option(help="JSONL to examine the model on.")] = None,
    system: System = None,
    model: Base = None,
    layers: Annotated[int | None, typer.Option(help="Cut it to so many layers first.")] = None,
    epochs: Epochs = None,
    learning_rate: Rate = None,
    minimum: Annotated[int | None, typer.Option(help="Accept so few pairs (by default 8).")] = None,
    as_json: AsJson = False,
    set_: Set = None,
    resume: Resume = False,
    home: Home = None,
) -> None:
    """Teach a model labelled pairs, measure it, register it."""
    given = _given(
        set_, name=name, prompts=pairs, held_out=held_out, system=system, minimum=minimum, student=model,
        layers=layers, epochs=epochs, learning_rate=learning_rate,
    )  # fmt: skip
    _run("fine-tuning", recipe, given, resume, home, as_json)


def pretrain(
    recipe: RecipeFile = None,
    name: Name = None,
    text: Annotated[Path | None, typer.Option(help='A text file (.txt, .md), or JSONL of {"input": "…"}.')] = None,
    held_out: Annotated[Path | None, typer.Option(help="Text to examine the model on.")] = None,
    model: Base = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the text.")] = None,
    learning_rate: Rate = None,
    as_json: AsJson = False,
    set_: Set = None,
    resume: Resume = False,
    home: Home = None,
) -> None:
    """Let a model read plain text (continued pre-training), measure what it gained and forgot, register it."""
    given = _given(
        set_, name=name, prompts=text, held_out=held_out, student=model, epochs=epochs, learning_rate=learning_rate
    )
    _run("continued-pre-training", recipe, given, resume, home, as_json)


def advise(
    recipe: Annotated[Path, typer.Argument(help="A recipe in YAML.")],
    set_: Set = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """What the guides say of a recipe and its data, each advice with its reason; nothing is asked or trained."""
    counts, found = advice_on(Recipe.read(recipe, _given(set_)), Settings.read(home))
    if as_json:
        print_json({"counts": asdict(counts), "advice": [asdict(one) for one in found]})
        return
    for line in lines(found):
        print(line)


def _run(kind: Kind, file: Path | None, given: dict[str, Any], resume: bool, home: Path | None, as_json: bool) -> None:
    settings = Settings.read(home)
    recipe = _recipe(kind, file, given, resume, settings)
    with tell.status("loading PyTorch"):
        from limbeck import library

    verbs = {"distillation": "distill", "fine-tuning": "fine_tune", "continued-pre-training": "pretrain"}
    verb, command = getattr(library, verbs[kind]), verbs[kind].replace("_", "-")
    # Where flags changed what the file says, it is the job's own recipe that is gone on with, by the job's name.
    job = ["--name", recipe.name] if file is None or given else [str(file)]
    again = shlex.join(["limbeck", command, *job, "--resume", *(["--home", str(home)] if home else [])])
    together = os.environ.get("WORLD_SIZE", "1") != "1"
    try:
        with stoppable("go on with the same launcher and --resume" if together else f"go on with: {again}") as stop:
            model = verb(recipe, home=home, resume=resume, progress=watcher(tell), stop=stop)
    except InvalidDataset as error:
        can_be_fewer = recipe.minimum_rows > 1 and "expected at least" in str(error)
        fewer = "\n--minimum N accepts fewer" if can_be_fewer else ""
        raise InvalidInput(f"{error}{fewer}") from None
    if not together or os.environ.get("RANK") == "0":  # of several processes that a launcher started, the first
        _print_result(model, as_json)


def _print_forecast(recipe: Recipe, settings: Settings, as_json: bool) -> None:
    found = forecast(recipe, settings)
    if as_json:
        print_json(found.to_json())
        return
    print("\n".join(found.lines))


def _recipe(kind: Kind, file: Path | None, given: dict[str, Any], resume: bool, settings: Settings) -> Recipe:
    """From the file with the flags over it, from flags alone, or, on a resume by name, from the job's folder."""
    if file is not None:
        return Recipe.read(file, given, kind)
    if resume and set(given) == {"name"}:
        stored = settings.jobs / str(given["name"]) / "recipe.json"
        if not stored.exists():
            raise Unknown(f'no job "{given["name"]}" to go on with; `limbeck jobs` lists those of {settings.home}')
        return Recipe.build(read_json(stored), str(stored))
    sections = {key.partition(".")[0] for key in given}
    if missing := [flag for flag, filled in NEEDED[kind].items() if not sections.intersection(filled)]:
        raise InvalidRecipe("flags", [f"--{flag} is missing; or give a recipe in YAML" for flag in missing])
    values: dict[str, Any] = {"kind": kind}
    for key, value in given.items():
        assign(values, key, value)
    return Recipe.build(values, "flags")


def _given(more: list[str] | None, **flags: Any) -> dict[str, Any]:
    """What flags, by the names of `KEYS`, and then ``--set`` say, by a recipe's keys."""
    given = {
        KEYS[name]: str(value.expanduser().resolve()) if isinstance(value, Path) else value
        for name, value in flags.items()
        if value is not None
    }
    for setting in more or []:
        key, found, value = setting.partition("=")
        if not found:
            raise InvalidRecipe("--set", [f'found "{setting}"; expected KEY=VALUE, for example training.epochs=2'])
        try:
            given[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InvalidRecipe("--set", [f'{key}: found "{value}", which is no YAML: {yaml_fault(error)}']) from None
    return given


def _print_result(model: CustomModel, as_json: bool) -> None:
    from limbeck.evaluation.table import table

    if as_json:
        print_json({"model": model.name, "folder": model.path, "kind": model.kind, "report": model.report})
        return
    report = _report(model)
    print(table(report))
    print()
    print(f"Model:   {model.name} ({model.path})")
    print(f"Report:  {model.path.parent / '5-evaluation' / 'report.html'}")
    print(f"Verdict: {report.verdict}")


def _report(model: CustomModel) -> Report:
    from limbeck.records import Report

    found = model.report
    return Report(found["models"], found["rows"], found["verdict"], found["ship"], found["details"])
