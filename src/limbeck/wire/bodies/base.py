"""What a body is once it is understood: the question it asks, and the hand that writes the answer in its form."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from limbeck.serving.chat import Answer, Event, Question
from limbeck.wire.operations import Refused

__all__ = ["JSON", "Asked", "Body", "told_at_once"]

JSON = dict[str, Any]


class Asked(Protocol):
    """One body, understood."""

    @property
    def question(self) -> Question:
        """What the model is asked."""

    def whole(self, answer: Answer) -> JSON:
        """The answer in one piece."""

    def parts(self, events: AsyncIterator[Event]) -> AsyncGenerator[JSON, None]:
        """The answer in pieces, as its events come."""


class Body(BaseModel):
    """A body whose members are known; others are refused, and null is as good as left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value is not None}


@contextmanager
def told_at_once(form: str) -> Iterator[None]:
    """Every fault pydantic finds in a body of the form called ``form``, in one `Refused`."""
    try:
        yield
    except ValidationError as error:
        raise Refused([f"{form}: {_place(fault)}: {_wrong(fault)}" for fault in error.errors()]) from None


def _place(fault: Mapping[str, Any]) -> str:
    return ".".join(str(part) for part in fault["loc"]) or "the body"


def _wrong(fault: Mapping[str, Any]) -> str:
    """What is wrong, in words: what must be empty, or 0, is what is not taken here."""
    bounds = fault.get("ctx", {})
    if bounds.get("max_length") == 0:
        return "not taken here; leave it out"
    if bounds.get("le") == 0:
        return "not taken here but as 0"
    return str(fault["msg"])
