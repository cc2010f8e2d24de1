"""The learning rate at each step: a rise, then a fall."""

from __future__ import annotations

import math
from typing import Literal

__all__ = ["learning_rate"]


def learning_rate(
    step: int, steps: int, peak: float, warmup_steps: int, fall: Literal["linear", "cosine", "constant"]
) -> float:
    """The rate at ``step`` (from 0) of ``steps``.

    It rises in a straight line over ``warmup_steps``, reaching ``peak`` at the last of them, then falls towards 0,
    which it would reach one step after the last.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    match fall:
        case "linear":
            return peak * (1.0 - done)
        case "cosine":
            return peak * 0.5 * (1.0 + math.cos(math.pi * done))
        case "constant":
            return peak
