"""How often prompts like those given are asked for: what is foreseen bounds what the rounds take."""

import math

import pytest

from limbeck.recipe import rounds

METHODS = ("similar", "paraphrase", "vary", "evolve")


def asked(missing, new):
    """Questions of a job of which each round has ``new(asked)`` new prompts."""
    total = poor = 0
    while missing > 0 and poor < rounds.PATIENCE:
        size = rounds.size(missing)
        found = min(missing, new(size))
        total, missing, poor = total + size, missing - found, poor + 1 if rounds.is_poor(size, found) else 0
    return total


@pytest.mark.parametrize("missing", [1, 9, 32, 33, 1000])
def test_all_that_is_asked_lies_between_the_fewest_and_the_most(missing):
    fewest, most = rounds.fewest(missing, METHODS), rounds.most(missing)
    assert asked(missing, lambda size: math.ceil(1.75 * size)) == fewest  # four of one method, one of each other
    assert fewest <= asked(missing, lambda size: math.ceil(rounds.LEAST * size)) <= most
    assert asked(missing, lambda size: 0) == rounds.PATIENCE * rounds.size(missing) <= most


def test_nothing_is_asked_where_nothing_is_missing():
    assert rounds.fewest(0, METHODS) == rounds.most(0) == 0
