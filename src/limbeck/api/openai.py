"""OpenAI's protocol: /v1/models, /v1/chat/completions and /v1/completions, as its own clients speak them.

The forms are those of `api.bodies.openai`, which imported models take on Bedrock's wire too; models are asked through
`api.runtime`, so an answer here is the answer there. In the log a request is an InvokeModel with its body.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import Any
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool

from limbeck.api.bodies import JSON, Asked, parse
from limbeck.api.bodies.openai import ChatCompletion, TextCompletion
from limbeck.api.exchange import Request, Response
from limbeck.api.runtime import Entry, Events, Runtime, Understood, error_name
from limbeck.errors import AccessDenied, InvalidInput, LimbeckError, NotReady, Unknown, UnknownModel
from limbeck.serving.chat import collect

__all__ = ["OpenAI"]

log = logging.getLogger(__name__)

FORMS: Mapping[str, Callable[[Mapping[str, Any]], ChatCompletion | TextCompletion]] = {
    "/v1/chat/completions": ChatCompletion,
    "/v1/completions": TextCompletion,
}
MODELS = "/v1/models"

STATUSES: Mapping[type[LimbeckError], tuple[int, str, str | None]] = {
    AccessDenied: (401, "invalid_request_error", "invalid_api_key"),
    UnknownModel: (404, "invalid_request_error", "model_not_found"),
    Unknown: (404, "invalid_request_error", None),
    NotReady: (503, "service_unavailable", "model_not_ready"),
    InvalidInput: (400, "invalid_request_error", None),
}
"""Status, type and code of an error; the first that fits. All others are the server's own."""


class OpenAI:
    """The face that OpenAI's clients see."""

    services = ()
    body_bytes = 25_000_000
    """What InvokeModel takes."""

    def __init__(self, runtime: Runtime, models: Callable[[], Iterable[tuple[str, int]]]) -> None:
        """``models`` lists what can be asked: names, and when each was made (seconds since 1970)."""
        self._runtime, self._models = runtime, models

    def has(self, raw_path: str) -> bool:
        """Whether something is at that address."""
        return raw_path in FORMS or raw_path == MODELS or raw_path.startswith(f"{MODELS}/")

    async def answer(self, request: Request) -> Response:
        """See `Face.answer`."""
        form = FORMS.get(request.raw_path)
        if form is not None and request.method == "POST":
            body = await run_in_threadpool(parse, request.body)
            if body.get("stream"):
                return await self._stream(request, form, body)
            return await self._whole(request, form, body)
        if self.has(request.raw_path) and form is None and request.method == "GET":
            return _json_response(await run_in_threadpool(self._listed, request.raw_path))
        raise Unknown(f"nothing is at {request.method} {request.raw_path[:200]}")

    def fault(self, error: Exception, request_id: str) -> Response:
        """See `Face.fault`."""
        status, told = _told(error, request_id)
        return _json_response(told, status)

    async def _whole(self, request: Request, form: Callable[[JSON], Asked], body: JSON) -> Response:
        with self._runtime.logged(request, "InvokeModel") as entry:
            asked, events = await self._runtime.begin(entry, partial(self._understood, entry, form, body))
            async with aclosing(events):
                entry.output = asked.whole(await collect(events))
            return _json_response(entry.output)

    async def _stream(self, request: Request, form: Callable[[JSON], Asked], body: JSON) -> Response:
        async with AsyncExitStack() as stack:
            entry = stack.enter_context(self._runtime.logged(request, "InvokeModelWithResponseStream"))
            asked, events = await self._runtime.begin(entry, partial(self._understood, entry, form, body))
            stack.push_async_callback(events.aclose)
            headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
            return Response(200, b"", headers, _sent(entry, asked, events, stack.pop_all()))
        raise AssertionError("unreachable: the stack swallows nothing")

    def _understood(self, entry: Entry, form: Callable[[JSON], Asked], body: JSON) -> Understood:
        entry.model_id = str(body.get("model", ""))
        asked = form(body)
        if not entry.model_id:
            raise InvalidInput(f"model: expected one of those listed at {MODELS}")
        try:
            _, model = self._runtime.hosted(entry.model_id)
        except InvalidInput as error:
            raise UnknownModel(f"The model `{entry.model_id}` does not exist: {error}") from None
        return Understood(model, asked, model.prepare(asked.question))

    def _listed(self, raw_path: str) -> JSON:
        models = [
            {"id": name, "object": "model", "created": created, "owned_by": "limbeck"}
            for name, created in self._models()
        ]
        if raw_path == MODELS:
            return {"object": "list", "data": models}
        asked = unquote(raw_path.removeprefix(f"{MODELS}/"))
        for model in models:
            if model["id"] == asked:
                return model
        raise UnknownModel(f"The model `{asked}` does not exist")


async def _sent(entry: Entry, asked: Asked, events: Events, opened: AsyncExitStack) -> AsyncGenerator[bytes, None]:
    """Server-sent events. An error in the middle is one of them, and the last."""
    async with opened:
        entry.output = []
        try:
            async for part in asked.parts(events):
                entry.output.append(part)
                yield _sse(part)
            yield b"data: [DONE]\n\n"
        except Exception as error:
            entry.error = error_name(error)
            yield _sse(_told(error, entry.request.id)[1])


def _told(error: Exception, request_id: str) -> tuple[int, JSON]:
    """An error's status and body in OpenAI's form; one that is not ours is logged whole, under the request's id."""
    message = str(error)
    if not isinstance(error, LimbeckError):
        log.error("request %s failed", request_id, exc_info=error)
        message = f"a fault of ours, not of your request; the server's log has it under {request_id}"
    known = (found for kind, found in STATUSES.items() if isinstance(error, kind))
    status, kind, code = next(known, (500, "server_error", None))
    return status, {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _sse(value: JSON) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _json_response(value: JSON, status: int = 200) -> Response:
    return Response(status, json.dumps(value, ensure_ascii=False).encode(), {"content-type": "application/json"})
