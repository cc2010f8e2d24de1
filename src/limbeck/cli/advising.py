"""`limbeck advise`: what the guides say of a recipe, before anything is asked or spent. Opens without torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from limbeck import intake
from limbeck.advice import Advice, Counts, advise
from limbeck.errors import DamagedArtifact, UnknownModel
from limbeck.models.catalog import find
from limbeck.models.sizes import parameters
from limbeck.recipe import Recipe, Shrink
from limbeck.settings import Settings
from limbeck.storage.objects import open_objects
from limbeck.storage.workspace import Workspace
from limbeck.teachers.known import addressed

__all__ = ["advice_on", "lines"]

MARKS = {"fine": "  ", "consider": "? ", "mind": "! "}


def advice_on(recipe: Recipe, settings: Settings) -> tuple[Counts, list[Advice]]:
    """The counts of a recipe's data and models, and the advice on them. Reads all rows, leaves nothing."""
    recipe = addressed(recipe, settings)
    with TemporaryDirectory(prefix="limbeck-") as folder:
        work = Workspace(Path(folder) / recipe.name)
        objects = open_objects(settings) if recipe.source.logs else None
        recipe = intake.bring_logs(recipe, work.folder / "source", objects, work.progress, work.stop)
        intake.check(recipe)
        if recipe.kind == "continued-pre-training":
            intake.collect_documents(recipe, work)
        else:
            intake.collect(recipe, work)
        counted = intake.read_counts(work.folder / "1-intake")
    teacher = recipe.teacher.model if recipe.teacher else None
    student = recipe.student.model or teacher
    counts = replace(
        counted,
        student_parameters=_parameters(student, recipe.student.shrink, settings),
        teacher_parameters=_parameters(teacher, None, settings),
    )
    return counts, advise(recipe, counts)


def lines(advice: list[Advice]) -> list[str]:
    """A line each, what deserves a thought first; ``?`` could be better, ``!`` is not what it seems."""
    order = ("mind", "consider", "fine")
    return [f"{MARKS[one.stance]}{one}" for one in sorted(advice, key=lambda one: order.index(one.stance))]


def _parameters(name: str | None, shrink: Shrink | None, settings: Settings) -> int | None:
    try:
        return None if name is None else parameters(find(name, settings), shrink)
    except (UnknownModel, DamagedArtifact):
        return None  # the job will say so; advice can do without
