"""What every face is given and gives back: one request and one response, whatever protocol they speak."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qsl

__all__ = ["Face", "Request", "Response"]


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
    """Whose key signed it."""

    @property
    def query(self) -> dict[str, str]:
        """The query's names and values, decoded; the first of each name."""
        found: dict[str, str] = {}
        for name, value in parse_qsl(self.raw_query, keep_blank_values=True):
            found.setdefault(name, value)
        return found


@dataclass(frozen=True)
class Response:
    """What goes back: a body, or a stream of pieces sent as they come."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: Iterator[bytes] | AsyncIterator[bytes] | None = None


class Face(Protocol):
    """One protocol of the port."""

    services: tuple[str, ...]
    """The names under which its requests are signed."""
    body_bytes: int
    """The largest body it takes."""

    async def answer(self, request: Request) -> Response:
        """The answer; may raise any error, which `fault` then tells."""

    def fault(self, error: Exception, request_id: str) -> Response:
        """An error as this protocol's clients expect to hear it."""
