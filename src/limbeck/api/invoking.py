"""The five operations of Bedrock's runtime that have a model answer: one function each, named as the API names it.

Converse and InvokeModel are one path with two ways of reading and writing (`wire.bodies`); their streaming sisters
write the same answer in events. An error before the first token is an answer with its own status; after it, an
exception event that ends the stream.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool

from limbeck.api import eventstream, faults
from limbeck.api.runtime import Entry, Events, Runtime, Understood, Writing
from limbeck.errors import InvalidInput
from limbeck.records import Hosted
from limbeck.serving.chat import ChatModel, Finish
from limbeck.wire.bodies import JSON, Asked, understand
from limbeck.wire.bodies.converse import Converse
from limbeck.wire.exchange import Request, Response
from limbeck.wire.operations import Operation, json_object, read, write, write_event

__all__ = [
    "OPERATIONS",
    "Call",
    "converse",
    "converse_stream",
    "count_tokens",
    "invoke_model",
    "invoke_model_with_response_stream",
]

METRICS = "amazon-bedrock-invocationMetrics"
"""The member that InvokeModel's streams add to their last chunk."""

ECHOED = ("x-amzn-bedrock-performanceconfig-latency", "x-amzn-bedrock-service-tier")
"""Headers of a request that are told back as they came."""


@dataclass(frozen=True)
class Call:
    """A request to one of the operations."""

    runtime: Runtime
    operation: Operation
    labels: Mapping[str, str]
    request: Request

    def read(self) -> dict[str, Any]:
        """The members of the request. Raises `Refused` with every fault."""
        query = parse_qsl(self.request.raw_query, keep_blank_values=True)
        return read(self.operation, self.labels, query, self.request.headers, self.request.body)


async def converse(call: Call) -> Response:
    """A conversation's next turn, whole."""
    told, _ = await call.runtime.whole(call.request, call.operation.name, partial(_conversation, call))
    return write(call.operation, told)


async def converse_stream(call: Call) -> Response:
    """A conversation's next turn, as it is written."""
    writing = Writing(partial(_named, call.operation), partial(_exception, call))
    stream = await call.runtime.stream(call.request, call.operation.name, partial(_conversation, call), writing)
    return Response(200, b"", {"content-type": eventstream.CONTENT_TYPE}, stream)


async def invoke_model(call: Call) -> Response:
    """An answer in the model's native form."""
    told, took = await call.runtime.whole(call.request, call.operation.name, partial(_native, call))
    response = write(call.operation, {"body": _json(told), "contentType": "application/json"})
    measured = {
        "x-amzn-bedrock-input-token-count": str(took.input_tokens),
        "x-amzn-bedrock-output-token-count": str(took.output_tokens),
        "x-amzn-bedrock-invocation-latency": str(took.milliseconds),
    }
    return replace(response, headers={**response.headers, **measured, **_echo(call.request)})


async def invoke_model_with_response_stream(call: Call) -> Response:
    """An answer in the model's native form, as it is written."""
    writing = Writing(partial(_chunk, call.operation), partial(_exception, call), parts=_measured)
    stream = await call.runtime.stream(call.request, call.operation.name, partial(_native, call), writing)
    types = {"content-type": eventstream.CONTENT_TYPE, "x-amzn-bedrock-content-type": "application/json"}
    return Response(200, b"", {**types, **_echo(call.request)}, stream)


async def count_tokens(call: Call) -> Response:
    """How many tokens a request would be; nothing is generated, and nothing logged."""
    return await run_in_threadpool(_counted, call)


OPERATIONS: Mapping[str, Callable[[Call], Awaitable[Response]]] = {
    "Converse": converse,
    "ConverseStream": converse_stream,
    "CountTokens": count_tokens,
    "InvokeModel": invoke_model,
    "InvokeModelWithResponseStream": invoke_model_with_response_stream,
}


def _conversation(call: Call, entry: Entry) -> Understood:
    entry.model_id = call.labels["modelId"]
    asked = call.read()
    entry.metadata = asked.get("requestMetadata", {})
    model = call.runtime.model(call.runtime.resolve(asked["modelId"]))
    return _understood(model, Converse(asked))


def _native(call: Call, entry: Entry) -> Understood:
    entry.model_id = call.labels["modelId"]
    asked = call.read()
    if asked.get("guardrailIdentifier"):
        raise InvalidInput("guardrailIdentifier: Limbeck has no guardrails; leave it out")
    entry.metadata = _metadata(call.operation, asked.get("requestMetadata"))
    hosted = call.runtime.resolve(asked["modelId"])
    form = _form(call, hosted, asked.get("body", b""))
    return _understood(call.runtime.model(hosted), form)


def _understood(model: ChatModel, asked: Asked) -> Understood:
    return Understood(model, asked, model.prepare(asked.question))


def _form(call: Call, hosted: Hosted, body: bytes) -> Asked:
    return understand(json_object(body), call.labels["modelId"], hosted.imported, _sibling(call.operation, "Converse"))


def _counted(call: Call) -> Response:
    asked = call.read()
    hosted = call.runtime.resolve(asked["modelId"])
    given = asked["input"]
    form = Converse(given["converse"]) if "converse" in given else _form(call, hosted, given["invokeModel"]["body"])
    return write(call.operation, {"inputTokens": len(call.runtime.model(hosted).tokens(form.question))})


def _metadata(operation: Operation, header: str | None) -> Mapping[str, str]:
    """Request metadata from InvokeModel's header, held to what Converse's member of that name is held to."""
    if header is None:
        return {}
    try:
        given = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"requestMetadata: the header is not JSON: {error}") from None
    document = json.dumps({"requestMetadata": given}).encode()
    read_as = _sibling(operation, "Converse")
    return dict(read(read_as, {"modelId": "any"}, body=document).get("requestMetadata", {}))


def _sibling(operation: Operation, name: str) -> Operation:
    """Another operation of the same service."""
    return Operation(operation.service, operation.model.service_model.operation_model(name))


async def _measured(asked: Asked, events: Events) -> AsyncGenerator[JSON, None]:
    """The pieces of a native answer, the last with what it took."""
    last: JSON | None = None
    async for part in asked.parts(events):
        if last is not None:
            yield last
        if events.finish is None:
            yield part
        else:
            last = part
    if last is not None and events.finish is not None:
        yield {**last, METRICS: _metrics(events.finish)}


def _metrics(finish: Finish) -> JSON:
    return {
        "inputTokenCount": finish.input_tokens,
        "outputTokenCount": finish.output_tokens,
        "invocationLatency": finish.milliseconds,
        "firstByteLatency": finish.first_milliseconds,
    }


def _named(operation: Operation, part: JSON) -> bytes:
    ((name, values),) = part.items()
    return eventstream.event(name, write_event(operation, name, values))


def _chunk(operation: Operation, part: JSON) -> bytes:
    return eventstream.event("chunk", write_event(operation, "chunk", {"bytes": _json(part)}))


def _exception(call: Call, error: Exception) -> bytes:
    """An error as the stream's own event; one that the stream does not have is a ModelStreamErrorException."""
    fault = faults.unforeseen(error, call.request.id)
    wire_name, values = fault.headers["x-amzn-errortype"], json.loads(fault.body)
    name = wire_name[0].lower() + wire_name[1:]
    if name not in call.operation.model.get_event_stream_output().members:
        name = "modelStreamErrorException"
        values |= {"originalStatusCode": fault.status, "originalMessage": values["message"]}
    return eventstream.exception(name, write_event(call.operation, name, values))


def _echo(request: Request) -> dict[str, str]:
    return {name: request.headers[name] for name in ECHOED if name in request.headers}


def _json(value: JSON) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
