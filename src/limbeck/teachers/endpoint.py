"""What a service over the network has to do to be a teacher: answer one question once, or say how it failed.

`remote` does the rest for all of them: many at once, again after a failure, within a budget. So a new service is one
class with these few members, and a failure is one of two kinds: a `Failure` may pass and is tried again; any
`LimbeckError` will not, and ends the work with its message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from limbeck.records import Answer, GenerationSettings, Question

__all__ = ["NOTHING", "Endpoint", "Failure", "Reply", "Usage", "most_tokens"]

TEMPLATE_TOKENS = 512
"""Allowed for what a service puts around the messages: a chat template, a default system prompt."""
TURN_TOKENS = 16
"""Allowed for what it puts around each."""


@dataclass(frozen=True)
class Usage:
    """Tokens a request took, or may take."""

    prompt_tokens: int
    response_tokens: int

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.prompt_tokens + self.response_tokens


NOTHING = Usage(0, 0)


@dataclass(frozen=True)
class Reply:
    """An answer, what it took, and why it came without distributions, if they were wanted and did not come."""

    answer: Answer
    usage: Usage | None
    """None where the service does not say: the most it can have taken is assumed."""
    text_only: str = ""


class Failure(Exception):
    """One attempt failed, and another may not.

    ``used``: what it took all the same; None where nobody knows, and the worst is assumed. ``wait``: the seconds the
    service asked for. ``busy``: the service is well and has too much to do. ``bad_reply``: it answered, and the
    answer cannot be used.
    """

    def __init__(
        self,
        message: str,
        used: Usage | None = NOTHING,
        wait: float | None = None,
        busy: bool = False,
        bad_reply: bool = False,
    ) -> None:
        super().__init__(message)
        self.used, self.wait, self.busy, self.bad_reply = used, wait, busy, bad_reply


class Endpoint(Protocol):
    """A service that answers, one question a request."""

    id: str
    """What its teacher is called."""

    fingerprint: str
    """Changes if and only if its answers may."""

    reads: bool
    """Whether it can tell its distributions over an answer that a question brings."""

    reading: str
    """In whose tokens, and how many at a place, its distributions are read; empty where what it is says so."""

    place: str
    """Where its answers come from, as a mark on their latency."""

    def alone(self) -> Endpoint | None:
        """The same for one question after another, to be timed; None where asking again costs."""

    async def open(self, questions: Sequence[Question], settings: GenerationSettings) -> None:
        """Get ready for these questions; called before the first, in the loop that will ask."""

    async def close(self) -> None:
        """Let go of what `open` took."""

    def most(self, question: Question, settings: GenerationSettings) -> Usage:
        """The most a request for this question can take."""

    async def ask(self, question: Question, settings: GenerationSettings) -> Reply:
        """One request. Raises `Failure` for what may pass, `LimbeckError` for what will not."""


def most_tokens(question: Question, settings: GenerationSettings) -> Usage:
    """A bound that needs no tokenizer: every token of a text stands for at least one of its UTF-8 bytes."""
    messages = question.conversation.messages
    text = sum(len(message.text.encode(errors="replace")) for message in messages)
    return Usage(text + TURN_TOKENS * len(messages) + TEMPLATE_TOKENS, settings.max_tokens)
