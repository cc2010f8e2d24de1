"""The application: one port, several protocols. Picks the face a request speaks to, verifies who asks, reads its body.

    /health        200 when ready
    /metrics       figures as text; from other machines with a bearer key
    signed         the face of that service: bedrock, s3, sts, iam
    not signed     the first face that has the address; where none has, the first of all, which says so

Routes on the raw path: an ARN's slashes arrive encoded.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from starlette.concurrency import run_in_threadpool

from limbeck.api.auth import Visitor, admit, check_here, signed_for
from limbeck.api.body import Body, ChunkedBody
from limbeck.api.presence import while_present
from limbeck.errors import AccessDenied, InvalidInput, NotReady
from limbeck.storage.keys import Keys
from limbeck.wire.exchange import IN_MEMORY, Face, Request, Response

__all__ = ["App", "Hook"]

log = logging.getLogger(__name__)

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Hook = Callable[[], Awaitable[None]]

BODY_SECONDS = 60.0
"""What a client has for its body, and a second more for every `SLOWEST` bytes it has sent."""

SLOWEST = 100_000

READY = f'{{"status":"ready","version":"{version("limbeck")}"}}'.encode()

SPOOLED = 1_000_000
"""A body that goes to a file stays in memory up to this size."""


class App:
    """An ASGI application over its faces, the first of them the one that hears what nobody else has.

    ``keys`` are those whose signatures are taken, None takes any request. ``spool`` is where large bodies wait,
    ``metrics`` gives the text of `/metrics`. The hooks of ``start`` run in order before the first request, those of
    ``stop`` after the last.
    """

    def __init__(
        self,
        faces: Sequence[Face],
        keys: Keys | None,
        spool: Path,
        metrics: Callable[[], str] = str,
        start: Sequence[Hook] = (),
        stop: Sequence[Hook] = (),
    ) -> None:
        self._faces, self._keys, self._spool = faces, keys, spool
        self._metrics, self._start, self._stop = metrics, start, stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the server's start and end."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            head = _head(scope)
            own = self._own(head, scope)
            await (self._ask(head, scope, receive, send) if own is None else _send(own, head, send))

    def _face(self, head: Request) -> Face:
        service = signed_for(head)
        for face in self._faces:
            if service in face.services if service else face.has(head.method, head.raw_path):
                return face
        return self._faces[0]

    def _own(self, head: Request, scope: Scope) -> Response | None:
        """The answer at an address of no face; signed for S3, or with a query, it may be a bucket of that name."""
        if head.raw_query or signed_for(head) == "s3":
            return None
        if head.raw_path == "/health" and head.method in ("GET", "HEAD"):
            return Response(200, READY, {"content-type": "application/json"})
        if head.raw_path == "/metrics" and head.method == "GET":
            try:
                if self._keys is None:
                    check_here(head)
                elif not _is_local(scope):
                    admit(head, (), self._keys, _is_private(scope))
            except AccessDenied as error:
                return Response(error.status, str(error).encode(), {"content-type": "text/plain; charset=utf-8"})
            return Response(200, self._metrics().encode(), {"content-type": "text/plain; version=0.0.4; charset=utf-8"})
        return None

    async def _ask(self, head: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """Have a face answer. A request that is refused for its head is refused before its body is asked for."""
        face = self._face(head)
        in_memory = face.body_bytes <= IN_MEMORY
        file: IO[bytes] = BytesIO() if in_memory else self._spooled()
        with file:
            try:
                if self._keys is None:
                    check_here(head)
                    visitor = Visitor()
                else:
                    visitor = admit(head, face.services, self._keys, _is_private(scope))
                body = _body(head, file, face.body_bytes, visitor)
                await _fill(body, head, receive)
                headers = {**head.headers, **body.end()}
                visitor.check(body.sha256)
            except Exception as error:
                await _send(face.fault(error, head.id), head, send)
                return
            content, spooled = (file.read(), None) if in_memory else (b"", file)
            request = replace(head, headers=headers, caller=visitor.caller, body=content, file=spooled)
            await _while_serving(face, request, receive, send)

    def _spooled(self) -> IO[bytes]:
        self._spool.mkdir(parents=True, exist_ok=True)
        return SpooledTemporaryFile(SPOOLED, "w+b", dir=str(self._spool))

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            for hook in self._start:
                await hook()
        except Exception as error:
            log.error("the server could not start", exc_info=error)
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for hook in self._stop:
            try:
                await hook()
            except Exception as error:
                log.error("a part of the server did not stop well", exc_info=error)
        await send({"type": "lifespan.shutdown.complete"})


def _head(scope: Scope) -> Request:
    """The request without its body. A header that came twice has both values: what is signed is what is read."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    raw_path, raw_query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
    return Request(scope["method"], raw_path, raw_query, headers, b"", str(uuid.uuid4()))


def _is_private(scope: Scope) -> bool:
    """Whether nobody can listen: what comes over TLS, or never leaves this machine."""
    return scope.get("scheme") == "https" or _is_local(scope)


def _is_local(scope: Scope) -> bool:
    client = scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


def _body(head: Request, file: IO[bytes], most: int, visitor: Visitor) -> Body:
    if not head.headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
        return Body(file, most)
    length = head.headers.get("x-amz-decoded-content-length", "")
    if not length.isdecimal():
        raise InvalidInput(f'x-amz-decoded-content-length is "{length[:40]}"; expected the bytes in the chunks')
    return ChunkedBody(file, most, int(length), visitor.seal)


async def _fill(body: Body, head: Request, receive: Receive) -> None:
    """The whole body, within its limits of size and time."""
    said = head.headers.get("content-length", "")
    if said.isdecimal():
        body.check_size(int(said))
    announced = said or "transfer-encoding" in head.headers
    if not announced and _took_last(body, await receive()):
        return  # as most requests do, without a body: no clock is set for them
    clock = asyncio.get_running_loop()
    began = clock.time()
    try:
        async with asyncio.timeout(BODY_SECONDS) as limit:
            while not _took_last(body, await receive()):
                limit.reschedule(began + BODY_SECONDS + body.size / SLOWEST)
    except TimeoutError:
        seconds = clock.time() - began
        raise InvalidInput(
            f"{body.size:,} bytes of the request's body took {seconds:.0f} seconds; send it faster"
        ) from None


def _took_last(body: Body, message: Mapping[str, Any]) -> bool:
    """Whether there is no more behind this piece."""
    if message["type"] == "http.disconnect":
        raise InvalidInput("the client left before its request was whole")
    body.feed(message.get("body", b""))
    return not message.get("more_body", False)


async def _while_serving(face: Face, request: Request, receive: Receive, send: Send) -> None:
    """Respond while the client is there and the service does not end: who is cut off then is told to ask again."""
    begun = False

    async def sending(message: Mapping[str, Any]) -> None:
        nonlocal begun
        begun = True
        await send(message)

    try:
        await while_present(receive, _respond(face, request, sending))
    except asyncio.CancelledError:  # the server waited as long as it waits; its log needs no trace of that
        log.warning("request %s was cut off by the end of the service", request.id)
        if not begun:
            await _send(face.fault(NotReady("the service is shutting down; ask again"), request.id), request, send)


async def _respond(face: Face, request: Request, send: Send) -> None:
    try:
        found = await face.answer(request)
    except Exception as error:
        found = face.fault(error, request.id)
    await _send(found, request, send)


async def _send(found: Response, request: Request, send: Send) -> None:
    headers = {**found.headers, "x-amzn-requestid": request.id}
    if found.stream is None:
        headers.setdefault("content-length", str(len(found.body)))
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    bare = request.method == "HEAD"
    pieces = _Blocking(found.stream) if isinstance(found.stream, Iterator) else found.stream
    try:
        await send({"type": "http.response.start", "status": found.status, "headers": raw})
        if pieces is not None and not bare:
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"" if bare else found.body})
    finally:
        if isinstance(pieces, _Blocking | AsyncGenerator):
            await pieces.aclose()


class _Blocking:
    """A blocking stream, asked for its pieces on a thread, and closed when no thread is in it any more."""

    def __init__(self, stream: Iterator[bytes]) -> None:
        self._stream = stream
        self._step: asyncio.Future[bytes | None] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self._step = asyncio.ensure_future(run_in_threadpool(next, self._stream, None))
        piece = await asyncio.shield(self._step)
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Close the stream."""
        if self._step is not None:
            await asyncio.gather(self._step, return_exceptions=True)
        if hasattr(self._stream, "close"):
            self._stream.close()
