"""What the examination says of the job's own choices: rules T11, T17 and T19, when there are figures."""

from __future__ import annotations

from collections.abc import Iterator

from limbeck.advice.notes import Advice, Outcome

__all__ = ["afterwards"]

DISTILLATION = "Amazon Bedrock, guidance on model distillation"

GOOD, POOR = 0.9, 0.6
"""Share of the held-out labels the teacher gives too: from the one on the labels are good, below the other one of the
two is poor. Choices of ours."""

SAME_TIME = 0.25
"""A request may take so much longer or shorter and still count as the same: timings on one machine vary."""


def afterwards(outcome: Outcome) -> Iterator[Advice]:
    """Advice for the next job."""
    scores, latency = outcome.scores, outcome.latency
    if "teacher" in scores:
        yield _labels(scores["teacher"], outcome.metric)
    if {"student before", "student after"} <= scores.keys():
        yield _kind(outcome)
    if {"student before", "student after"} <= latency.keys():
        yield _latency(latency["student before"], latency["student after"])


def _labels(teacher: float, metric: str) -> Advice:
    told = f"the teacher scores {_percent(teacher)} {metric.replace('_', ' ')} against the held-out labels"
    if teacher >= GOOD:
        text, stance = f"{told}: keep the labels, and the teacher's answers beside them", "fine"
    elif teacher >= POOR:
        text, stance = f"{told}: keep the labels, or have the teacher improve them", "consider"
    else:
        text, stance = f"{told}: either is poor; look at both, and leave out the labels if it is they", "mind"
    return Advice(
        ("T11",), "source.prompts", stance, text,  # type: ignore[arg-type]
        "an answer that was given is learned as it stands; a poor one teaches its faults", DISTILLATION,
    )  # fmt: skip


def _kind(outcome: Outcome) -> Advice:
    scores = outcome.scores
    before, after, teacher = scores["student before"], scores["student after"], scores.get("teacher")
    stance = "consider"
    if teacher is not None and before >= max(teacher - outcome.tolerance, POOR):
        text = f"the student untouched reaches {_percent(before)}: use it as it is"
    elif teacher is not None and teacher < POOR:
        text = f"the teacher itself reaches {_percent(teacher)}: fine-tune on labels, or choose another teacher"
    elif after <= before:
        text = f"nothing was gained: {_percent(before)} before, {_percent(after)} after"
    else:
        text, stance = f"{_percent(before)} before, {_percent(after)} after", "fine"
    return Advice(
        ("T17",), "kind", stance, text,  # type: ignore[arg-type]
        "distill where a teacher is good and the student worse; fine-tune where even the teacher is bad; a student that"
        " matches already needs neither", DISTILLATION,
    )  # fmt: skip


def _latency(before: float, after: float) -> Advice:
    ratio = after / before if before else 1.0
    same = abs(ratio - 1.0) <= SAME_TIME
    told = f"{1000 * before:.0f} ms a request before, {1000 * after:.0f} ms after"
    return Advice(
        ("T19",),
        "student.model",
        "fine",
        told if same else f"{told}: its answers became {'longer' if ratio > 1 else 'shorter'}",
        "a token costs the same before and after; a request costs as much as its answer is long",
        DISTILLATION,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
