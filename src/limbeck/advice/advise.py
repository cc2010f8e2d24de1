"""All rules over one job."""

from __future__ import annotations

from dataclasses import replace

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
    counts = _with_those_to_come(recipe, counts)
    found = [*hyperparameters(recipe, counts), *data(recipe, counts)]
    return found if outcome is None else [*found, *afterwards(outcome)]


def _with_those_to_come(recipe: Recipe, counts: Counts) -> Counts:
    """The counts with the prompts that the teacher is to write, all of which are trained on."""
    augment = recipe.synthesis.augment
    return counts if augment is None else replace(counts, training=max(counts.training, augment.to - counts.validation))
