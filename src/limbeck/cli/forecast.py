"""`limbeck distill … --dry-run`: rows, tokens, time and cost before anything is asked. Opens without torch."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from limbeck import intake
from limbeck.cli.surveying import impossible_cut
from limbeck.errors import InvalidRecipe
from limbeck.recipe import Recipe
from limbeck.settings import Settings
from limbeck.storage.objects import open_objects
from limbeck.storage.workspace import Workspace
from limbeck.teachers.estimate import Estimate, estimate
from limbeck.teachers.known import addressed

__all__ = ["forecast"]


def forecast(recipe: Recipe, settings: Settings) -> Estimate:
    """The estimate for a distillation. Reads all rows, leaves nothing, asks nobody. Raises what intake raises."""
    # Loads what knows patterns and phone numbers, which the other commands need not wait for.
    from limbeck.steps.job import check_data
    from limbeck.steps.stored import stored

    recipe = addressed(recipe, settings)
    if faults := impossible_cut(recipe, settings):
        raise InvalidRecipe("recipe", faults)
    with TemporaryDirectory(prefix="limbeck-") as folder:
        work = Workspace(Path(folder) / recipe.name)
        objects = open_objects(settings) if recipe.source.logs else None
        recipe = intake.bring_logs(recipe, work.folder / "source", objects, work.progress, work.stop)
        check_data(recipe)
        examples = intake.collect(recipe, work)
    known = stored(recipe, examples, settings)
    return estimate(recipe, examples, intake.golden_pairs(recipe.source), settings, stored=known)
