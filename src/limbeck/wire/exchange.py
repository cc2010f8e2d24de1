"""What every face is given and gives back: one request and one response, whatever protocol they speak."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Protocol
from urllib.parse import parse_qsl

__all__ = ["IN_MEMORY", "Face", "Request", "Response"]

IN_MEMORY = 64_000_000
"""The largest body that is held in memory; a face that takes larger ones gets every body as a file."""


@dataclass(frozen=True)
class Request:
    """What came over HTTP. ``headers`` have lower-case names; the path is still percent-encoded."""

    method: str
    raw_path: str
    raw_query: str
    headers: Mapping[str, str]
    body: bytes
    id: str
    """Ours, told in every answer and in the log."""
    caller: str = "anonymous"
    """Whose key signed it: a user's name, or ROLE/SESSION of who took a role."""
    file: IO[bytes] | None = None
    """The body at its beginning, in place of ``body``, for a face whose ``body_bytes`` is over `IN_MEMORY`."""

    @property
    def query(self) -> dict[str, str]:
        """The query's names and values, decoded; the first of each name."""
        found: dict[str, str] = {}
        for name, value in parse_qsl(self.raw_query, keep_blank_values=True):
            found.setdefault(name, value)
        return found


@dataclass(frozen=True)
class Response:
    """What goes back: a body, or a stream of pieces sent as they come.

    A stream is closed when it ends, and when the client leaves before: an async generator by its ``aclose``, an
    iterator by its ``close`` if it has one.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: Iterator[bytes] | AsyncIterator[bytes] | None = None


class Face(Protocol):
    """One protocol of the port."""

    @property
    def services(self) -> tuple[str, ...]:
        """The names under which its requests are signed; none where they carry a bearer key."""

    @property
    def body_bytes(self) -> int:
        """The largest body it takes."""

    def has(self, method: str, raw_path: str) -> bool:
        """Whether a request that does not say by its signature what it is for is for this face."""

    async def answer(self, request: Request) -> Response:
        """The answer; may raise any error, which `fault` then tells."""

    def fault(self, error: Exception, request_id: str) -> Response:
        """An error as this protocol's clients expect to hear it."""
