"""How long one request takes, one after another, the models taking turns so that a slow minute hits them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["WARM_UP", "Latency", "time_requests"]

WARM_UP = 2
"""Requests before the counted ones: the first pays for allocations."""


@dataclass(frozen=True)
class Latency:
    """Seconds a request, and response tokens a second, for one model."""

    p50: float
    p95: float
    tokens_per_second: float | None
    """None where a service did not tell how many tokens its answers have."""
    requests: int
    place: str = ""
    """Where it was timed, if not here, under the conditions of the others: over the network, say."""
    at_once: bool = False
    """Whether several requests were under way at a time."""


def time_requests(
    models: Mapping[str, Callable[[str], int]], prompts: Sequence[str], each: Callable[[], None]
) -> dict[str, Latency]:
    """Time every model on every prompt. A model takes a prompt and gives how many tokens it answered with.

    ``each`` is called after each prompt, and may raise to stop.
    """
    for answer in models.values():
        for prompt in prompts[:WARM_UP]:
            answer(prompt)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    tokens = dict.fromkeys(models, 0)
    for prompt in prompts:
        for name, answer in models.items():
            began = time.perf_counter()
            tokens[name] += answer(prompt)
            seconds[name].append(time.perf_counter() - began)
        each()
    return {
        name: Latency(
            float(np.quantile(taken, 0.5)),
            float(np.quantile(taken, 0.95)),
            tokens[name] / sum(taken),
            len(taken),
        )
        for name, taken in seconds.items()
    }
