"""All rules over one job."""

from __future__ import annotations

from limbeck.advice.afterwards import afterwards
from limbeck.advice.data import data
from limbeck.advice.hyperparameters import hyperparameters
from limbeck.advice.notes import Advice, Counts, Outcome
from limbeck.recipe import Recipe

__all__ = ["advise"]


def advise(recipe: Recipe, counts: Counts, outcome: Outcome | None = None) -> list[Advice]:
    """What the guides say of ``recipe`` on data of these ``counts``; with ``outcome``, what its figures say too.

    Reads nothing and changes nothing: equal arguments give equal advice.
    """
    found = [*hyperparameters(recipe, counts), *data(recipe, counts)]
    return found if outcome is None else [*found, *afterwards(outcome)]
