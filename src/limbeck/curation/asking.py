"""Whom curation may ask. The pipeline hands it in: this stage knows no teacher, no framing and no store of answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from limbeck.records import Answer, AnsweredExample, Example, GenerationSettings, Question

__all__ = ["Asking"]


@dataclass(frozen=True)
class Asking:
    """Functions that ask, each question once ever; the last argument is what progress shows."""

    settings: GenerationSettings
    """How the teacher was asked in the first place."""
    teacher: Callable[[Sequence[tuple[Example, str | None]], GenerationSettings, str], list[Answer]] | None = None
    """The teacher answers examples just as it did in the synthesis, or reads a text as its answer to one."""
    refine: Callable[[Sequence[AnsweredExample], GenerationSettings, str], list[AnsweredExample]] | None = None
    """The teacher mends its own answers as it did in the synthesis; None where it mended none there."""
    judge: Callable[[Sequence[Question], GenerationSettings, str], list[Answer]] | None = None
