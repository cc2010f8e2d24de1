"""The interface every teacher has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

from limbeck.errors import InvalidInput
from limbeck.records import Answer, GenerationSettings, Question

__all__ = ["Teacher", "refused"]


class Teacher(Protocol):
    """Answers questions in its own order, as fast as it can."""

    id: str
    """What it is called: a catalog id, a registered name, a folder."""

    fingerprint: str
    """What it is: changes if and only if its answers may."""

    def stored_as(self, settings: GenerationSettings) -> str:
        """Of what its answers under ``settings`` are stored as: its fingerprint, and whatever else they depend on."""

    def answers(
        self,
        questions: Sequence[Question],
        settings: GenerationSettings,
        skip: Collection[int] = (),
        check: Callable[[], None] = lambda: None,
    ) -> Iterator[list[tuple[int, Answer]]]:
        """Answer all questions but those whose index is in ``skip``; groups of (index, answer) as they arrive.

        Whoever takes a group stores it whole before asking for the next. ``check`` is called often and may raise
        to stop. Skipping questions changes no other answer beyond the last bits of its log-probabilities, and
        skipping whole groups changes nothing at all.
        """


def refused(question: Question, why: InvalidInput) -> InvalidInput:
    """Why ``question`` cannot be asked, with the place where that stands."""
    return InvalidInput(f"{question.place}: {why}") if question.place else why
