"""The application: finds the operation, reads the request, calls its function of `control`, writes the answer.

    /health            200 when ready
    everything else    Amazon Bedrock's control plane, routed on the raw path (an ARN's slashes arrive encoded)

An operation that Limbeck does not have answers a modelled ValidationException that names it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import Any
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool

from limbeck import control
from limbeck.api import faults
from limbeck.api.auth import verify
from limbeck.api.wire import Operation, Response, Service, read, write
from limbeck.errors import InvalidInput, NotYet
from limbeck.settings import Settings
from limbeck.storage.keys import Keys

__all__ = ["App"]

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

SIGNING_NAME = "bedrock"
"""Control plane and runtime are signed under the same name."""

BODY_BYTES = 25_000_000
"""The largest body Bedrock takes, of InvokeModel."""

BODY_SECONDS = 60.0
"""A client that sends its body more slowly than this is let go."""


class App:
    """An ASGI application over one home; ``keys`` are those whose signatures are taken, None takes any request."""

    def __init__(self, settings: Settings, keys: Keys | None) -> None:
        self._settings, self._keys = settings, keys
        self._service = Service("bedrock", "bedrock-runtime")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the server's start and end."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            request_id = str(uuid.uuid4())
            try:
                found = await self._answer(scope, receive)
            except Exception as error:
                found = faults.unforeseen(error, request_id)
            headers = {**found.headers, "x-amzn-requestid": request_id, "content-length": str(len(found.body))}
            raw = [(name.encode(), value.encode()) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": found.status, "headers": raw})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else found.body})

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        method, raw_path = scope["method"], scope["raw_path"].decode("latin-1")
        if raw_path == "/health" and method in ("GET", "HEAD"):
            body = f'{{"status":"ready","version":"{version("limbeck")}"}}'.encode()
            return Response(200, body, {"content-type": "application/json"})
        found = self._service.route(method, raw_path)
        if found is None:
            return self._nowhere(method, raw_path)
        operation, labels = found
        body = await _body(scope, receive)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope["query_string"].decode("latin-1")
        if self._keys is not None:
            verify(method, raw_path, query, headers, body, SIGNING_NAME, self._keys)
        function = control.OPERATIONS.get(operation.name)
        if function is None:
            raise NotYet(f"{operation.name}: not yet; Limbeck does {', '.join(sorted(control.OPERATIONS))}")
        asked = read(operation, labels, parse_qsl(query, keep_blank_values=True), headers, body)
        return await run_in_threadpool(self._work, operation, function, asked)

    def _work(
        self, operation: Operation, function: Callable[[Mapping[str, Any], Settings], dict[str, Any]], asked: Any
    ) -> Response:
        return write(operation, function(asked, self._settings))

    def _nowhere(self, method: str, raw_path: str) -> Response:
        methods = self._service.methods(raw_path)
        if methods:
            said = f"{method} is not done at {raw_path[:200]}; expected {' or '.join(methods)}"
            return faults.answer("UnknownOperationException", 405, said)
        return faults.answer("UnknownOperationException", 404, f"nothing is at {method} {raw_path[:200]}")


async def _body(scope: Scope, receive: Receive) -> bytes:
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
                if len(found) > BODY_BYTES:
                    raise InvalidInput(f"the request's body is over {BODY_BYTES:,} bytes; send less")
    except TimeoutError:
        raise InvalidInput(f"the request's body took over {BODY_SECONDS:g} seconds; send it faster") from None
    return bytes(found)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
