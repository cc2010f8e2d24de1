"""The answers that stand in a conversation before its last, read by the teacher, so that they too are learned softly.

Each is read after what was said before it, framed as the teacher's own questions are, and kept in the store of answers:
a job that goes on reads none again. The text is the row's, whatever becomes of labels: what was said was said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from limbeck.records import AnsweredExample, Example, Prompt, Question
from limbeck.synthesis.session import Session

__all__ = ["read_earlier"]


def read_earlier(answered: Sequence[AnsweredExample], session: Session) -> list[AnsweredExample]:
    """``answered``, those with earlier answers with the teacher's reading of them.

    A teacher that shows no distributions reads nothing: of such conversations the last answer is learned, and that is
    told.
    """
    questions = [_questions(one.example, session) for one in answered]
    readings = iter(session.put([one for several in questions for one in several], "earlier answers read"))
    read, without = [], 0
    for one, several in zip(answered, questions, strict=True):
        earlier = tuple(next(readings) for _ in several)
        shown = [reading for reading in earlier if reading.soft_labels is not None]
        read.append(replace(one, earlier=earlier) if earlier and len(shown) == len(earlier) else one)
        without += len(shown) < len(earlier)
    if without:
        session.work.progress.say(
            f"synthesis: the teacher shows no distributions for the earlier answers of {without} conversations;"
            " their last answer is learned"
        )
    return read


def _questions(example: Example, session: Session) -> list[Question]:
    """One for each earlier answer: the conversation up to it, and itself to read."""
    found = []
    for place, turn in enumerate(example.prompt.turns):
        if turn.role == "assistant":
            begun = replace(
                example,
                prompt=_first(example.prompt, place),
                whole=None if example.whole is None else _first(example.whole, place),
            )
            found.append(session.framing.question(begun, turn.text))
    return found


def _first(prompt: Prompt, turns: int) -> Prompt:
    """The first ``turns`` of a conversation, with its system prompt."""
    return Prompt(prompt.messages[: len(prompt.messages) - len(prompt.turns) + turns])
