"""What can be told before a job is made: what logs hold, what a recipe names in vain, which of its wishes cannot be.

Opens without torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from limbeck.errors import DamagedArtifact, InvalidInput, InvalidRecipe, UnknownModel
from limbeck.filters import filter_faults
from limbeck.intake import extract_logs, unreadable
from limbeck.models.catalog import find
from limbeck.models.sizes import depth
from limbeck.recipe import Recipe
from limbeck.settings import Settings
from limbeck.storage.objects import open_objects

__all__ = ["impossible_cut", "impossible_rules", "named_in_vain", "parsed_filter", "survey_logs"]


def parsed_filter(text: str | None) -> dict[str, Any] | None:
    """A filter from JSON. Raises `InvalidInput` with all that is wrong with it."""
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidInput(
            f'--filter: not JSON ({error}); expected for example {{"equals": {{"team": "desk"}}}}'
        ) from None
    if faults := filter_faults(found):
        raise InvalidInput("\n".join(f"--filter: {fault}" for fault in faults))
    return dict(found)


def survey_logs(
    uri: str, filters: Mapping[str, Any] | None, responses_of: str | None, to: Path | None, settings: Settings
) -> dict[str, int]:
    """How many records became what; with ``to`` the rows are kept there, with what was passed over beside it."""
    if to is not None and to.suffix.lower() not in (".jsonl", ".ndjson"):
        raise InvalidInput(f"--to {to}: rows are written as JSON lines; expected a name that ends in .jsonl")
    objects = open_objects(settings) if uri.startswith("s3://") else None
    with TemporaryDirectory(prefix="limbeck-") as folder:
        path = to or Path(folder) / "logs.jsonl"
        return dict(extract_logs(objects, uri, path, filters, responses_of, threads=settings.threads))


def impossible_rules(recipe: Recipe) -> list[str]:
    """A sentence for each rule of curation that no answer could be held against."""
    # Loads what knows patterns and phone numbers, which the other commands need not wait for.
    from limbeck import curation

    try:
        curation.check(recipe.curation)
    except InvalidRecipe as error:
        return list(error.faults)
    return []


def impossible_cut(recipe: Recipe, settings: Settings) -> list[str]:
    """A sentence where the student is to keep layers that the model it is cut from has not."""
    name = recipe.student.model or (recipe.teacher.model if recipe.teacher else None)
    wish = recipe.student.shrink.layers if recipe.student.shrink else None
    if name is None or wish is None:
        return []
    try:
        layers = depth(find(name, settings))
    except (UnknownModel, DamagedArtifact):
        return []  # `named_in_vain` tells
    deepest = wish if isinstance(wish, int) else wish[-1] + 1
    if not layers or deepest <= layers:
        return []
    expected = f"1 to {layers}" if isinstance(wish, int) else f"numbers from 0 to {layers - 1}"
    found = wish if isinstance(wish, int) else list(wish)
    return [f"student.shrink.layers: found {found}; {name} has {layers} layers, expected {expected}"]


def named_in_vain(recipe: Recipe, settings: Settings) -> list[str]:
    """A sentence for each file of rows, and each model to be loaded here, that a recipe names and that is not there."""
    told = unreadable(recipe.source.files)
    for name in dict.fromkeys(recipe.models):
        try:
            find(name, settings)
        except (UnknownModel, DamagedArtifact) as error:
            told.append(str(error))
    return told
