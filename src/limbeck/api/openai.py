"""OpenAI's protocol: /v1/models, /v1/chat/completions and /v1/completions, as its own clients speak them.

The forms are those of `wire.bodies.openai`, which imported models take on Bedrock's wire too; models are asked through
`api.runtime`, so an answer here is the answer there. In the log a request is an InvokeModel with its body.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool

from limbeck.api.faults import excuse
from limbeck.api.runtime import Entry, Runtime, Understood, Writing
from limbeck.errors import AccessDenied, InvalidInput, LimbeckError, NotReady, Unknown, UnknownModel
from limbeck.wire.bodies import JSON, Asked
from limbeck.wire.bodies.openai import ChatCompletion, TextCompletion
from limbeck.wire.exchange import Request, Response
from limbeck.wire.operations import json_object

__all__ = ["OpenAI"]

log = logging.getLogger(__name__)

Form = Callable[[JSON], Asked]

FORMS: Mapping[str, Form] = {
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

    services: tuple[str, ...] = ()
    body_bytes = 25_000_000
    """What InvokeModel takes."""

    def __init__(self, runtime: Runtime, models: Callable[[], Iterable[tuple[str, int]]]) -> None:
        """``models`` lists what can be asked: names, and when each was made (seconds since 1970)."""
        self._runtime, self._models = runtime, models

    def has(self, method: str, raw_path: str) -> bool:
        """Whether an address is this face's: all of /v1, so that its clients hear of a wrong one in their own form."""
        return raw_path.startswith("/v1/")

    async def answer(self, request: Request) -> Response:
        """See `Face.answer`."""
        form = FORMS.get(request.raw_path)
        if form is not None and request.method == "POST":
            return await self._complete(request, form)
        if request.method == "GET" and (request.raw_path == MODELS or request.raw_path.startswith(f"{MODELS}/")):
            return _json_response(await run_in_threadpool(self._listed, request.raw_path))
        raise Unknown(f"nothing is at {request.method} {request.raw_path[:200]}")

    def fault(self, error: Exception, request_id: str) -> Response:
        """See `Face.fault`."""
        status, told = _told(error, request_id)
        return _json_response(told, status)

    async def _complete(self, request: Request, form: Form) -> Response:
        body = await run_in_threadpool(json_object, request.body)
        understand = partial(self._understood, form, body)
        if not body.get("stream"):
            told, _ = await self._runtime.whole(request, "InvokeModel", understand)
            return _json_response(told)
        writing = Writing(_event, lambda error: _event(_told(error, request.id)[1]), b"data: [DONE]\n\n")
        stream = await self._runtime.stream(request, "InvokeModelWithResponseStream", understand, writing)
        headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        return Response(200, b"", headers, stream)

    def _understood(self, form: Form, body: JSON, entry: Entry) -> Understood:
        entry.model_id = str(body.get("model", ""))
        asked = form(body)
        entry.metadata = body.get("metadata") or {}
        try:
            hosted = self._runtime.resolve(entry.model_id)
        except InvalidInput as error:
            raise UnknownModel(f"The model `{entry.model_id}` does not exist: {error}") from None
        model = self._runtime.model(hosted)
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


def _told(error: Exception, request_id: str) -> tuple[int, JSON]:
    """An error's status and body in OpenAI's form; one that is not ours is logged whole, under the request's id."""
    message = str(error)
    if not isinstance(error, LimbeckError):
        log.error("request %s failed", request_id, exc_info=error)
        message = excuse(error, request_id)
    known = (found for kind, found in STATUSES.items() if isinstance(error, kind))
    status, kind, code = next(known, (500, "server_error", None))
    return status, {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _event(value: JSON) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _json_response(value: JSON, status: int = 200) -> Response:
    return Response(status, json.dumps(value, ensure_ascii=False).encode(), {"content-type": "application/json"})
