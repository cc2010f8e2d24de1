"""One HTTP exchange with a process on this machine: a request goes out, the answer's body comes in as it is written.

A connection serves one exchange; to close it is to break it off. httptools parses. A client for every purpose took a
millisecond of computing more for an answer of sixteen pieces: sessions, redirects, a timer set anew with each piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import httptools

__all__ = ["BrokenOff", "Exchange", "Stalled", "exchange"]

MOST_WAITING = 1_000_000
"""Bytes that may wait for a slow reader; then the other side is not read from any more."""


class BrokenOff(Exception):
    """The connection ended before the answer did."""


class Stalled(Exception):
    """Nothing came for too long."""


class Exchange(asyncio.Protocol):
    """An answer under way."""

    status = 0
    """0 until its head is there."""

    def __init__(self, stall_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._stall_seconds = stall_seconds
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._waiting: asyncio.Future[None] | None = None
        self._whole = self._lost = self._paused = False

    async def wait_for_head(self) -> int:
        """The answer's status. Raises `BrokenOff` and `Stalled`."""
        while not self.status:
            await self._more()
        return self.status

    async def read(self) -> bytes:
        """What came since the last time, nothing only at the end. Raises `BrokenOff` and `Stalled`."""
        while not self._pieces and not self._whole:
            await self._more()
        found = b"".join(self._pieces)
        self._pieces.clear()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return found

    async def read_all(self) -> bytes:
        """The whole body."""
        found = []
        while piece := await self.read():
            found.append(piece)
        return b"".join(found)

    async def _more(self) -> None:
        """Wait until something comes."""
        if self._lost:
            raise BrokenOff("the connection ended before the answer did")
        self._waiting = self._loop.create_future()
        timer = self._loop.call_later(self._stall_seconds, self._wake, Stalled())
        try:
            await self._waiting
        finally:
            self._waiting = None
            timer.cancel()

    def _wake(self, error: Exception | None = None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None) if error is None else self._waiting.set_exception(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._lost = True
            self._transport.abort()
        if sum(map(len, self._pieces)) > MOST_WAITING and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._lost = True
        self._wake()

    def on_headers_complete(self) -> None:
        """See httptools."""
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        self._whole = True


@asynccontextmanager
async def exchange(
    port: int, path: str, headers: Mapping[str, str], body: bytes, stall_seconds: float
) -> AsyncGenerator[Exchange, None]:
    """Post ``body``; the answer is broken off where the block ends. Raises `OSError` where nobody listens."""
    loop = asyncio.get_running_loop()
    made: tuple[Any, Exchange] = await loop.create_connection(lambda: Exchange(stall_seconds), "127.0.0.1", port)
    transport, answer = made
    told = {"Host": f"127.0.0.1:{port}", "Connection": "close", **headers, "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    try:
        transport.write(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        yield answer
    finally:
        transport.abort()
