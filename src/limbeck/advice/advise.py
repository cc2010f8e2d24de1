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
    counts = _as_trained_on(recipe, counts)
    found = [*hyperparameters(recipe, counts), *data(recipe, counts)]
    return found if outcome is None else [*found, *afterwards(outcome)]


def _as_trained_on(recipe: Recipe, counts: Counts) -> Counts:
    """The counts with all that is trained on: golden pairs too, and the prompts that the teacher is to write, and where
    the rows' own answers are learned no prompt that has none."""
    training, augment = counts.training, recipe.synthesis.augment
    if recipe.synthesis.use_responses:
        training = min(training, counts.labelled)
    if recipe.source.golden is not None and recipe.source.learn_golden:
        training += counts.golden
    if augment is not None:
        training = max(training, augment.to - counts.validation)
    return replace(counts, training=training)
