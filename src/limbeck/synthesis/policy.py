"""What becomes of the labels that users gave: kept, improved or ignored; `auto` measures them and says why.

`auto` follows Amazon Bedrock's guidelines for distillation. Without labels, add about ten golden pairs; where there is
room for improvement, include the labels; poor ones, leave out. What is measured, on a seeded sample of the labels:

| measure   | of a label                                                                                     |
|-----------|------------------------------------------------------------------------------------------------|
| blank     | it says nothing: no letter or digit, or a place-holder such as "n/a"                           |
| agreement | how like it is to the teacher's own answer, from 0 to 1                                        |
| shape     | it has the shape of the teacher's own answer: JSON object, list, number, a line, several lines |
| fit       | the teacher finds it likelier after its own prompt than after another's; by chance 0.5         |

Agreement alone would call good labels poor under a teacher that answers otherwise. Fit does not: a label is likelier
after the prompt it belongs to as soon as the teacher understands anything of the task (this is the sign of a difference
of pointwise mutual information; Church and Hanks 1990). It needs a teacher that can be read; without, agreement decides
alone. Under a teacher that understands nothing, good labels and bad look the same: one that does not bring its own
answers to an end is no measure, and otherwise the advice says so.

| found, in this order                               | policy  |
|----------------------------------------------------|---------|
| no label                                           | keep    |
| half or more blank                                 | ignore  |
| half or more of the teacher's own unfinished       | keep    |
| agreement at least 0.8                             | keep    |
| agreement below 0.4 and fit below 0.65             | ignore  |
| (without fit) agreement below 0.2                  | ignore  |
| fit at least 0.9 and shape at least 0.8            | keep    |
| anything between                                   | improve |
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from limbeck.records import Answer, Example
from limbeck.synthesis.session import Session, token_logprobs

__all__ = ["Labels", "Policy", "decide"]

Labels = Literal["keep", "improve", "ignore"]

SAMPLE = 50
"""Labels measured: a share is then known to 7 points (one standard error), which tells the bounds below apart."""

BLANK, UNFINISHED, AGREE, DISAGREE, DISAGREE_UNREAD = 0.5, 0.5, 0.8, 0.4, 0.2
FITS, UNFIT, SHAPED = 0.9, 0.65, 0.8
"""`UNFIT` is two standard errors above chance on a whole sample."""

PLACE_HOLDERS = {"n/a", "na", "null", "nil", "todo", "tbd", "xxx", "lorem ipsum"}


@dataclass(frozen=True)
class Policy:
    """What is done with labels, and why."""

    labels: Labels
    reason: str
    advice: str = ""
    measured: Mapping[str, float | int | None] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"labels: {self.labels}, {self.reason}" + (f"; {self.advice}" if self.advice else "")


def decide(
    wish: Labels | Literal["auto"],
    examples: Sequence[Example],
    session: Session,
    agree: Callable[[str, str], float],
    seed: int,
) -> Policy:
    """The policy for the labels of ``examples``, golden ones aside. ``agree`` tells how alike two texts are."""
    if wish != "auto":
        return Policy(wish, "as the recipe says")
    framing = session.framing
    labelled = [example for example in examples if example.label is not None and not framing.is_golden(example)]
    counts = {"examples": len(examples), "labels": len(labelled)}
    if not labelled:
        advice = "" if framing.golden.pairs else "about ten golden pairs (source.golden) would show it what you want"
        return Policy("keep", f"none of {len(examples)} prompts has a label", advice, counts)
    sample = random.Random(seed).sample(labelled, min(SAMPLE, len(labelled)))  # noqa: S311 (a sample, not a secret)
    own = session.put([framing.question(example) for example in sample], "the teacher's own answers to a sample")
    said = [(example.label or "", answer.text) for example, answer in zip(sample, own, strict=True)]
    measured = {
        **counts,
        "sample": len(sample),
        "blank": float(np.mean([_is_blank(label) for label, _ in said])),
        "unfinished": float(np.mean([answer.finish_reason != "stop" or _is_blank(answer.text) for answer in own])),
        "agreement": float(np.mean([agree(text, label) for label, text in said])),
        "shape": float(np.mean([_shape(label) == _shape(text) for label, text in said])),
        "fit": _fit(sample, session),
    }
    return _judged(measured)


def _judged(measured: Mapping[str, float | int | None]) -> Policy:
    """The table at the top of this file."""
    blank, unfinished, agreement, shape, fit = (
        float(measured[name] or 0.0) for name in ("blank", "unfinished", "agreement", "shape", "fit")
    )
    read = measured["fit"] is not None
    figures = f"agreement with the teacher {agreement:.0%}"
    figures += f", likelier after its own prompt than after another's {fit:.0%}" if read else ", not to be read by it"
    figures = f"a sample of {measured['sample']} of {measured['labels']} labels: {figures}"
    if blank >= BLANK:
        return Policy("ignore", f"{figures}; {blank:.0%} of them say nothing, so they are left out", "", measured)
    if unfinished >= UNFINISHED:
        advice = "it may not know the task, or want more synthesis.max_response_tokens"
        why = f"{unfinished:.0%} of the teacher's own answers are cut off or empty, so it is no measure of them"
        return Policy("keep", f"{figures}; {why}", advice, measured)
    if agreement >= AGREE:
        return Policy("keep", f"{figures}; the teacher says the same", "", measured)
    if (agreement < DISAGREE and fit < UNFIT) if read else agreement < DISAGREE_UNREAD:
        advice = "if it is the teacher that is poor, labels: keep takes them all the same (2-synthesis/answers.jsonl)"
        return Policy("ignore", f"{figures}; they are poor by its lights, so they are left out", advice, measured)
    if read and fit >= FITS and shape >= SHAPED:
        return Policy("keep", f"{figures}; they fit their prompts, the teacher words its own otherwise", "", measured)
    return Policy("improve", f"{figures}; there is room for improvement, so the teacher mends them", "", measured)


def _is_blank(label: str) -> bool:
    text = label.strip().casefold()
    return text in PLACE_HOLDERS or not any(character.isalnum() for character in text)


def _shape(text: str) -> str:
    """What a text is at first sight."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "lines" if "\n" in text.strip() else "a line"
    match value:
        case dict():
            return "object"
        case list():
            return "list"
        case str():
            return "a line"
        case _:
            return "number"


def _fit(sample: Sequence[Example], session: Session) -> float | None:
    """The share of labels that are likelier after their own prompt than after another's; a tie counts half.

    None where the teacher cannot be read, or all labels are the same.
    """
    others = [_another(sample, place) for place in range(len(sample))]
    pairs = [(example, other) for example, other in zip(sample, others, strict=True) if other is not None]
    question = session.framing.question
    own = session.put([question(one, one.label) for one, _ in pairs], "reading labels of a sample")
    swapped = session.put([question(other, one.label) for one, other in pairs], "reading them elsewhere")
    gains = [_gain(here, there) for here, there in zip(own, swapped, strict=True)]
    known = [0.5 + 0.5 * float(np.sign(gain)) for gain in gains if gain is not None]
    return float(np.mean(known)) if known and len(known) == len(gains) else None


def _gain(here: Answer, there: Answer) -> float | None:
    """By how much one text is likelier in one place than in another, over its tokens; None where it was not read.

    A token that is among the likeliest in neither place says nothing.
    """
    first, second = token_logprobs(here), token_logprobs(there)
    if first is None or second is None:
        return None
    (here_T, seen_here_T), (there_T, seen_there_T) = first, second
    return float(np.where(seen_here_T | seen_there_T, here_T - there_T, 0.0).sum())


def _another(sample: Sequence[Example], place: int) -> Example | None:
    """The next example of the sample, around its end, that has another label."""
    turned = (*sample[place + 1 :], *sample[:place])
    return next((other for other in turned if other.label != sample[place].label), None)
