"""The application: one port, several protocols. Picks the face a request speaks to, reads its body, verifies who asks.

    /health               200 when ready
    signed as bedrock     Amazon Bedrock, control plane and runtime
    anything else         Amazon Bedrock, whose answer to an address it does not know is a modelled error

Routes on the raw path: an ARN's slashes arrive encoded.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import Any

from starlette.concurrency import iterate_in_threadpool

from limbeck.api.auth import verify
from limbeck.api.bedrock import Bedrock
from limbeck.api.exchange import Face, Request, Response
from limbeck.control import open_desk
from limbeck.errors import InvalidInput
from limbeck.settings import Settings
from limbeck.storage.keys import Keys

__all__ = ["App"]

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

BODY_SECONDS = 60.0
"""A client that sends its body more slowly than this is let go."""


class App:
    """An ASGI application over one home; ``keys`` are those whose signatures are taken, None takes any request."""

    def __init__(self, settings: Settings, keys: Keys | None) -> None:
        self._keys = keys
        self._bedrock = Bedrock(open_desk(settings))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the server's start and end."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            request_id = str(uuid.uuid4())
            face = self._face(scope)
            try:
                found = await self._answer(face, scope, receive, request_id)
            except Exception as error:
                found = face.fault(error, request_id)
            await _send(found, scope["method"] == "HEAD", request_id, send)

    def _face(self, scope: Scope) -> Face:
        return self._bedrock

    async def _answer(self, face: Face, scope: Scope, receive: Receive, request_id: str) -> Response:
        method, raw_path = scope["method"], scope["raw_path"].decode("latin-1")
        if raw_path == "/health" and method in ("GET", "HEAD"):
            body = f'{{"status":"ready","version":"{version("limbeck")}"}}'.encode()
            return Response(200, body, {"content-type": "application/json"})
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope["query_string"].decode("latin-1")
        body = await _body(receive, face.body_bytes)
        caller = "anonymous"
        if self._keys is not None:
            caller = verify(method, raw_path, query, headers, body, face.services[0], self._keys).user
        return await face.answer(Request(method, raw_path, query, headers, body, request_id, caller))


async def _send(found: Response, head: bool, request_id: str, send: Send) -> None:
    headers = {**found.headers, "x-amzn-requestid": request_id}
    if found.stream is None:
        headers.setdefault("content-length", str(len(found.body)))
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": found.status, "headers": raw})
    if found.stream is not None and not head:
        pieces = found.stream if hasattr(found.stream, "__anext__") else iterate_in_threadpool(found.stream)
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"" if head else found.body})


async def _body(receive: Receive, most: int) -> bytes:
    """The whole body, within its limits of size and time."""
    found = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise InvalidInput("the client left before its request was whole")
                found += message.get("body", b"")
                more = message.get("more_body", False)
                if len(found) > most:
                    raise InvalidInput(f"the request's body is over {most:,} bytes; send less")
    except TimeoutError:
        raise InvalidInput(f"the request's body took over {BODY_SECONDS:g} seconds; send it faster") from None
    return bytes(found)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
