"""Whether a client is still there: a request's work is worth doing only as long as somebody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

__all__ = ["while_present"]


async def while_present(receive: Callable[[], Awaitable[Mapping[str, Any]]], work: Coroutine[Any, Any, None]) -> None:
    """Do ``work``; it is cancelled when the client leaves first. ``receive`` is ASGI's, the body read to its end."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_departure(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (working, watching):
            task.cancel()
        # A cancelled task is waited for: what it closes on its way out is closed when this returns.
        await asyncio.gather(working, watching, return_exceptions=True)
    if not working.cancelled():
        working.result()


async def _departure(receive: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
