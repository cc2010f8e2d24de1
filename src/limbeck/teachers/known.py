"""Teachers, judges and writers that the catalog knows behind an address, put in the place of their ids."""

from __future__ import annotations

from typing import Any

from limbeck.models.catalog import CatalogEntry, catalog
from limbeck.recipe import TEACHERS, Recipe, sections
from limbeck.settings import Settings

__all__ = ["addressed"]


def addressed(recipe: Recipe, settings: Settings) -> Recipe:
    """``recipe``, in which whoever the catalog has behind an address is named as that address says.

    Raises `InvalidRecipe` where what then stands there cannot be: a student that would start from weights elsewhere.
    """
    known = {entry.id: entry for entry in catalog(settings).values() if entry.elsewhere is not None}
    values = recipe.dump()
    called = [one for one in sections(values, TEACHERS) if one["via"] == "transformers" and one["model"] in known]
    for one in called:
        one.update(_as_recipe(known[one["model"]]) | ({"prices": one["prices"]} if one["prices"] else {}))
    return Recipe.build(values, "the recipe") if called else recipe


def _as_recipe(entry: CatalogEntry) -> dict[str, Any]:
    assert entry.elsewhere is not None, "asked for those alone"
    prices = (entry.elsewhere.prices or entry.prices).model_dump()
    return {**entry.elsewhere.model_dump(mode="json"), "prices": prices}
