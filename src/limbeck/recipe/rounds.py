"""The rounds in which prompts like those given are asked for: how large each is, and when the last one was.

Who asks goes by it, and who foresees what will be asked; neither needs to know the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from limbeck.recipe.synthesis import Method

__all__ = ["AT_ONCE", "LEAST", "PATIENCE", "fewest", "is_poor", "most", "size"]

ROUND = 64
"""Questions a round: what is asked next depends on what came of the last."""
SMALLEST = 8
"""Questions of a round when little is missing."""
LEAST = 0.05
"""New prompts a question, below which a round yielded too little."""
PATIENCE = 2
"""Such rounds in a row after which the teacher has no more."""
AT_ONCE = 4
"""Prompts that `similar` asks for at once: a small teacher repeats itself in longer lists."""


def size(missing: int) -> int:
    """The questions of a round when so many prompts are ``missing``."""
    return min(ROUND, max(SMALLEST, 2 * missing))


def is_poor(asked: int, new: int) -> bool:
    """Whether a round of ``asked`` questions yielded too little."""
    return new < LEAST * asked


def fewest(missing: int, methods: Sequence[Method]) -> int:
    """The questions until nothing is ``missing``, where all that is asked for comes and is let in."""
    each = sum(AT_ONCE if method == "similar" else 1 for method in methods) / len(methods)
    asked = 0
    while missing > 0:
        asked += size(missing)
        missing -= math.ceil(each * size(missing))
    return asked


def most(missing: int) -> int:
    """The questions where each round yields just enough for another, and the last ones nothing."""
    return math.ceil(missing / LEAST) + PATIENCE * size(missing) if missing > 0 else 0
