"""The order of the data: a pure function of the seed and the epoch, so a resumed run sees what an unbroken one does."""

from __future__ import annotations

import numpy as np

__all__ = ["batches_of_epoch"]


def batches_of_epoch(count: int, batch_size: int, epoch: int, seed: int) -> list[list[int]]:
    """Indices of ``count`` examples, shuffled for this epoch, in batches of ``batch_size``; the last may be smaller."""
    order = np.random.default_rng([seed, epoch]).permutation(count).tolist()
    return [order[start : start + batch_size] for start in range(0, count, batch_size)]
