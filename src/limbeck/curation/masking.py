"""What is private in an example masked: in prompt, label and answer, and the teacher made to read them again.

What came with the example, its metadata, is masked too, since it is shown; but only what is learned decides whether an
example counts as private. `cover` and `cover_reason` do the same for what others show of a job.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from limbeck.curation.asking import Asking
from limbeck.curation.privacy import Mask, checked_kinds
from limbeck.recipe import Curation
from limbeck.records import Answer, AnsweredExample

__all__ = ["Masked", "cover", "cover_reason", "mask", "read_again"]

CUT = re.compile(r'"[^"]*…"|\S+…(?=[\s:,.]|$)')
"""A value, or a key, of which a reason quotes the beginning."""


@dataclass(frozen=True)
class Masked:
    """An answered example after masking, and the kinds that were found in it: none where it is as it was."""

    one: AnsweredExample
    kinds: tuple[str, ...]


def mask(answered: Sequence[AnsweredExample], kinds: Collection[str], region: str | None) -> list[Masked]:
    """Each as text with placeholders. What was masked has lost its distributions: see `read_again`."""
    masked = []
    for one in answered:
        names = Mask(kinds, region)
        example, text = names.example(one.example), names.text(one.answer.text)
        before = None if one.before is None else names.text(one.before)
        found = tuple(names.found)
        if found:
            answer = Answer(text, (), "stop", one.answer.prompt_tokens)
            one = replace(one, example=example, answer=answer, before=before)
        if one.example.metadata or one.example.others:
            sent, others = names.value(one.example.metadata), tuple(names.value(one.example.others))
            one = replace(one, example=replace(one.example, metadata=sent, others=others))
        masked.append(Masked(one, found))
    return masked


def cover(plan: Curation) -> Callable[[Any], Any]:
    """What makes a JSON value fit to be shown: with placeholders where ``plan`` asks for privacy, else as it is.

    What is of one example goes into one value, so that the same text has the same placeholder.
    """
    if plan.privacy == "keep":
        return lambda value: value
    kinds = checked_kinds(plan.private)
    return lambda value: Mask(kinds, plan.phone_region).value(value)


def cover_reason(plan: Curation) -> Callable[[str], str]:
    """As `cover`, of a reason that may quote a row.

    Where privacy is asked for, the rest of a value that was cut short goes too: nothing finds half an address, and it
    is still somebody's.
    """
    covered = cover(plan)
    return covered if plan.privacy == "keep" else lambda reason: str(covered(CUT.sub('"…"', reason)))


def read_again(before: Sequence[AnsweredExample], masked: Sequence[Masked], asking: Asking) -> list[AnsweredExample]:
    """The masked ones as the teacher reads them, with the distributions those before had, if they had any."""
    places = [at for at, one in enumerate(masked) if one.kinds and before[at].answer.soft_labels is not None]
    found = [one.one for one in masked]
    if not places:
        return found
    assert asking.teacher is not None, "there are soft labels, so there was a teacher"
    pairs = [(found[at].example, found[at].answer.text) for at in places]
    for at, answer in zip(places, asking.teacher(pairs, asking.settings, "reading what was masked"), strict=True):
        found[at] = replace(found[at], answer=answer)
    return found
