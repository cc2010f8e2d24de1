"""Whether a client is still there: a request's work is worth doing only as long as somebody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

__all__ = ["while_present"]

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


async def while_present(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do ``work``; it is cancelled when the client leaves first. ``receive`` is ASGI's, the body read to its end.

    The watch begins when the work first waits for something: what is answered at once is not watched.
    """
    working = asyncio.current_task()
    assert working is not None
    watch = _Watch(receive, working)
    beginning = working.get_loop().call_soon(watch.begin)
    try:
        await work
    except asyncio.CancelledError:
        if not watch.left or working.cancelling() > 1:  # somebody else wants it to end
            raise
    finally:
        beginning.cancel()
        watch.end()


class _Watch:
    """Looks out for a client's departure, and cancels a task when it comes."""

    def __init__(self, receive: Receive, working: asyncio.Task[Any]) -> None:
        self._receive, self._working = receive, working
        self._watching: asyncio.Task[None] | None = None
        self.left = False

    def begin(self) -> None:
        self._watching = asyncio.ensure_future(self._departure())

    def end(self) -> None:
        if self.left:
            self._working.uncancel()
        elif self._watching is not None:
            self._watching.cancel()

    async def _departure(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.left = True
        self._working.cancel()
