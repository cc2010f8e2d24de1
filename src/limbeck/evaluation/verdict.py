"""Ship or do not ship, and why, in words a person can act on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from limbeck.evaluation.metrics import FEWEST, chance, difference
from limbeck.records import Score

__all__ = ["decide"]

NAMES = {"exact_match": "exact match", "token_f1": "token F1"}

AS_FAST = 1.1
"""Median times whose ratio is less than this are not told apart: a machine is never quite quiet."""


def decide(
    scores: Mapping[str, Sequence[float]],
    latency: Mapping[str, float],
    metric: str,
    tolerance: float,
    seed: int,
) -> tuple[bool, str]:
    """The verdict from per-row ``scores`` and median ``latency`` (seconds), both by part played.

    The student ships if it is within ``tolerance`` of the teacher (or, without one, better than it was before),
    beats its untouched self, and no classical baseline is clearly better than it, on `FEWEST` rows or more.
    """
    name = NAMES[metric]
    mean = {part: sum(values) / len(values) for part, values in scores.items()}
    after = mean["student after"]
    against: list[str] = []
    reasons: list[str] = []

    if (rows := len(scores["student after"])) < FEWEST:
        against.append(f"{rows} held-out rows tell nothing from chance; hold out {FEWEST} at least, better a hundred")
    if "teacher" in scores:
        gap = difference(scores["student after"], scores["teacher"], seed)
        told = f"{_percent(after)} {name} against the teacher's {_percent(mean['teacher'])}"
        told += f" ({_points(gap.value)}, {_range(gap)})"
        if not after and not mean["teacher"]:
            against.append(f"{told}: no answer of either is a right one; 5-evaluation/answers.jsonl shows them")
        elif gap.value >= -tolerance:
            reasons.append(told)
        else:
            against.append(f"{told}, more than the {_percent(tolerance)} allowed")
        ratio = latency["teacher"] / latency["student after"]
        if ratio >= AS_FAST:
            reasons.append(f"{ratio:.1f} times as fast a request")
        elif ratio > 1 / AS_FAST:
            reasons.append("about as fast a request")
        else:
            against.append(f"it is slower than its teacher ({1 / ratio:.1f} times the time)")
    else:
        (reasons if after else against).append(f"{_percent(after)} {name}")
    if "student before" in scores:
        gain = difference(scores["student after"], scores["student before"], seed)
        if _clearly(gain, scores["student after"], scores["student before"]):
            reasons.append(f"{_percent(mean['student before'])} before")
        else:
            against.append(f"it is not clearly better than before ({_percent(mean['student before'])}, {_range(gain)})")
    note = ""
    if "baseline" in scores:
        lead = difference(scores["baseline"], scores["student after"], seed)
        told = f"TF-IDF with logistic regression reaches {_percent(mean['baseline'])}"
        if _clearly(lead, scores["baseline"], scores["student after"]):
            against.append(f"{told}, clearly better and far cheaper")
        elif lead.high < 0:
            reasons.append(f"the classical baseline reaches {_percent(mean['baseline'])}")
        elif mean["baseline"]:
            note = f" Note: {told}, within the noise of the student; it may be all you need."
    if against:
        return False, f"do not ship: {'; '.join(against)}." + (
            f" For it: {'; '.join(reasons)}." if reasons else ""
        ) + note
    return True, f"ship: {'; '.join(reasons)}.{note}"


def _clearly(gain: Score, values: Sequence[float], others: Sequence[float]) -> bool:
    """Whether ``values`` are better than ``others``: by the interval of their mean ``gain``, and by how many rows."""
    return gain.low > 0 and chance(values, others) < 0.05


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points"


def _range(score: Score) -> str:
    return f"95% interval {100 * score.low:+.1f} to {100 * score.high:+.1f}"
