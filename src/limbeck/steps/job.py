"""Whether a job may be begun, or gone on with; and how one is removed. Opens without torch."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck import curation, intake
from limbeck.errors import Conflict, InvalidInput
from limbeck.models.catalog import custom_models
from limbeck.models.catalog import remove as unregister
from limbeck.recipe import Recipe
from limbeck.records import Example
from limbeck.settings import Settings
from limbeck.storage.workspace import Workspace, read_json

__all__ = ["check_data", "check_examined", "check_job", "check_responses", "check_watched", "remove"]

COSTLY = ("2-*", "4-*")
"""Stages in which somebody was asked, or something learned."""


def check_job(recipe: Recipe, work: Workspace, resume: bool) -> None:
    """A new job wants a free name; a resumed one wants the recipe it began with, once it has come to something."""
    path = work.folder / "recipe.json"
    if not path.exists():
        return
    if not resume:
        raise Conflict(
            f'job "{recipe.name}" is there already ({work.folder});'
            " --resume goes on with it, another name begins a new one"
        )
    # Read as a recipe: one written before a key was known means its default.
    changed = _differences(Recipe.build(read_json(path), str(path)).lasting(), recipe.lasting())
    if changed and any(list(work.folder.glob(stage)) for stage in COSTLY):
        raise Conflict(
            f'job "{recipe.name}" was begun with another recipe (different: {", ".join(changed)});'
            f" resume it with the same one, choose another name, or `limbeck remove {recipe.name}` first"
        )


def check_data(recipe: Recipe) -> None:
    """Refuse, before anybody is asked, rows that cannot make the job and rules that no answer could be held against."""
    censuses = intake.check(recipe)
    if recipe.kind == "continued-pre-training":
        return
    source = recipe.source
    names = intake.names_of(source.files)
    demonstrated = names[source.golden] if source.golden is not None and not source.learn_golden else None
    curation.check(recipe.curation, sum(one.labelled for one in censuses if one.file != demonstrated))


def check_examined(examples: Sequence[Example]) -> None:
    """Refuse, before anything is learned, a job of which nothing could be said afterwards."""
    if not any(example.split == "held-out" for example in examples):
        raise InvalidInput(
            f"{len(examples)} different prompts, and none of them held out to examine on; give more, or source.held_out"
        )


def check_watched(examples: Sequence[Example], recipe: Recipe) -> None:
    """Refuse, before anybody is asked, a training that goes by a validation loss and has no row for it."""
    asked = {"patience": recipe.training.patience, "keep": recipe.training.keep == "best"}
    if any(asked.values()) and not any(example.split == "validation" for example in examples):
        keys = " and ".join(f"training.{key}" for key, said in asked.items() if said)
        raise InvalidInput(
            f"{keys}: none of {len(examples)} different prompts is set aside to be watched; expected source.validation,"
            " or a larger source.validation_share"
        )


def check_responses(examples: Sequence[Example], recipe: Recipe, work: Workspace) -> None:
    """Tell how many prompts bring no response, where only the rows' own are learned.

    Raises `InvalidInput` where none brings one.
    """
    if not recipe.synthesis.use_responses:
        return
    learned = [example for example in examples if example.split != "held-out"]
    bare = sum(example.label is None for example in learned)
    if bare == len(learned):
        raise InvalidInput(
            "synthesis.use_responses: no prompt has a response that could be learned; give rows that have, or drop it,"
            " and the teacher answers"
        )
    if bare:
        work.progress.say(f"responses: {bare:,} of {len(learned):,} prompts have none, and are not learned")


def remove(folder: Path, settings: Settings) -> None:
    """Delete a job's folder and the model it registered; the teacher's answers stay in the home's store.

    Raises `Conflict` for one that runs, or whose model belongs to the service.
    """
    place = folder.resolve()
    made = [model for model in custom_models(settings).values() if model.path.resolve().is_relative_to(place)]
    for model in made:
        if "arn" in model.lineage:
            told = f'"{model.name}" was made by the service, which may host it'
            raise Conflict(f"{told}; delete {model.lineage['arn']} there")
    with Workspace(folder).locked():
        for model in made:
            unregister(model.name, settings)
        shutil.rmtree(folder)


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [
            found for key in keys for found in _differences(old.get(key), new.get(key), f"{where}.{key}".strip("."))
        ]
    return [] if old == new else [where]
