"""A judge marks answers by a rubric: the teacher itself, or another model."""

from __future__ import annotations

from collections.abc import Sequence

from limbeck.curation.asking import Asking
from limbeck.records import AnsweredExample, GenerationSettings, Message, Prompt, Question
from limbeck.rubrics import MARK_TOKENS, Rubric, question, read_mark

__all__ = ["marks"]

SETTINGS = GenerationSettings(max_tokens=MARK_TOKENS)
"""Greedy."""


def marks(items: Sequence[AnsweredExample], rubric: Rubric, asking: Asking) -> list[tuple[float | None, str]]:
    """How good each answer is, from 0 to 1, and what the judge said; None where it came to no mark."""
    assert asking.judge is not None, "the pipeline hands one in where the recipe has one"
    asked = [
        Question(
            Prompt((Message("user", question(rubric, _request(one), _reference(one), one.answer.text)),)),
            place=one.example.place,
        )
        for one in items
    ]
    found = [read_mark(rubric, answer.text) for answer in asking.judge(asked, SETTINGS, "marks")]
    return [(mark if mark is None or rubric.good else 1 - mark, said) for mark, said in found]


def _request(one: AnsweredExample) -> str:
    """The prompt as the judge reads it, with what only the teacher saw: its text, with the speakers where there are
    several turns."""
    messages = (one.example.whole or one.example.prompt).messages
    return messages[0].text if len(messages) == 1 else "\n\n".join(f"{turn.role}: {turn.text}" for turn in messages)


def _reference(one: AnsweredExample) -> str | None:
    """The user's own answer, where another one is judged."""
    return one.example.label if one.example.label != one.answer.text else None
