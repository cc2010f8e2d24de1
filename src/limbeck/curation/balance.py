"""Class balance: no label may have more than its share of what is trained on."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

__all__ = ["surplus"]


def surplus(labels: Sequence[str], share: float, seed: int = 0) -> dict[int, str]:
    """Which places to drop so that each label keeps at most ``share`` of all that stay, as many as possible staying.

    Which of a label's are dropped is drawn with ``seed``. Where there are too few other labels for the share to be
    reached (two labels cannot both have less than half) the commonest are made equally many.
    """
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, label in enumerate(labels):
        places[label].append(place)
    cap = _cap(sorted((len(own) for own in places.values()), reverse=True), share)
    dropped = {}
    for label in sorted(places):
        own = places[label]
        if len(own) > cap:
            kept = set(random.Random(f"{seed} {label}").sample(own, cap))  # noqa: S311 (a sample, not a secret)
            detail = f'"{label[:60]}" had {len(own)} of {len(labels)}; {cap} are kept'
            dropped.update({place: detail for place in own if place not in kept})
    return dropped


def _cap(counts: Sequence[int], share: float) -> int:
    """The most a label may keep: the largest c for which no label of min(count, c) has more than ``share`` of all."""
    for cap in range(counts[0] if counts else 0, 0, -1):
        capped = [min(count, cap) for count in counts]
        # A hair is added, so that a product such as 0.29 · 100 that comes out below 29 drops nobody.
        if capped[0] <= share * sum(capped) + 1e-9:
            return cap
    return counts[-1] if counts else 0
