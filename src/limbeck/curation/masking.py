"""What is private in an example masked: in prompt, label and answer, and the teacher made to read them again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from limbeck.curation.asking import Asking
from limbeck.curation.privacy import Mask
from limbeck.records import Answer, AnsweredExample, Example, Prompt

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
            one = replace(one, example=example, answer=answer, before=before, earlier=())
        masked.append(Masked(one, tuple(cover.found)))
    return masked


def read_again(before: Sequence[AnsweredExample], masked: Sequence[Masked], asking: Asking) -> list[AnsweredExample]:
    """The masked ones as the teacher reads them, with the distributions those before had, if they had any."""
    places = [at for at, one in enumerate(masked) if one.kinds and before[at].answer.soft_labels is not None]
    wanted = [(at, pair) for at in places for pair in _to_read(before[at], masked[at].one)]
    found = [one.one for one in masked]
    if not wanted:
        return found
    assert asking.teacher is not None, "there are soft labels, so there was a teacher"
    read = asking.teacher([pair for _, pair in wanted], asking.settings, "reading what was masked")
    for at in places:
        own = [answer for (place, _), answer in zip(wanted, read, strict=True) if place == at]
        found[at] = replace(found[at], answer=own[-1], earlier=tuple(own[:-1]))
    return found


def _to_read(before: AnsweredExample, after: AnsweredExample) -> list[tuple[Example, str | None]]:
    """The answers to read, each after the turns before it: those in the prompt if they are learned, then the last."""
    messages = after.example.prompt.messages
    earlier = [at for at, turn in enumerate(messages) if turn.role == "assistant" and before.earlier]
    pairs = [(replace(after.example, prompt=Prompt(messages[:at]), whole=None), messages[at].text) for at in earlier]
    return [*pairs, (after.example, after.answer.text)]
