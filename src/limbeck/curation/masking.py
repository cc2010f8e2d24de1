"""What is private in an example masked: in prompt, label and answer, and the teacher made to read them again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from limbeck.curation.asking import Asking
from limbeck.curation.privacy import Mask
from limbeck.records import Answer, AnsweredExample

__all__ = ["Masked", "mask", "read_again"]


@dataclass(frozen=True)
class Masked:
    """An answered example after masking, and the kinds that were found in it: none where it is as it was."""

    one: AnsweredExample
    kinds: tuple[str, ...]


def mask(answered: Sequence[AnsweredExample], kinds: Collection[str], region: str | None) -> list[Masked]:
    """Each as text with placeholders. What was masked has lost its distributions: see `read_again`."""
    masked = []
    for one in answered:
        cover = Mask(kinds, region)
        example, text = cover.example(one.example), cover.text(one.answer.text)
        before = None if one.before is None else cover.text(one.before)
        if cover.found:
            answer = Answer(text, (), "stop", one.answer.prompt_tokens)
            one = replace(one, example=example, answer=answer, before=before)
        masked.append(Masked(one, tuple(cover.found)))
    return masked


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
