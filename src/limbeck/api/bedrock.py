"""Amazon Bedrock: finds the operation, reads the request, calls its function, writes the answer.

Control operations are plain functions of `control`, and run on a thread unless they are brief; those of the runtime
answer as they go (`api.invoking`). An operation that Limbeck does not have answers a modelled ValidationException that
names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool

from limbeck import control
from limbeck.api import faults, invoking
from limbeck.api.runtime import Runtime
from limbeck.errors import InvalidInput, NotYet
from limbeck.wire.exchange import Request, Response
from limbeck.wire.operations import Operation, Service, read, write

__all__ = ["Bedrock"]


class Bedrock:
    """Control plane and runtime: their addresses do not overlap, and both are signed as ``bedrock``."""

    services: tuple[str, ...] = ("bedrock",)
    body_bytes = 25_000_000
    """What InvokeModel takes."""

    def __init__(self, desk: control.Desk, runtime: Runtime | None = None) -> None:
        """Without a ``runtime`` no model answers: its operations are told as not there yet."""
        self._desk, self._runtime = desk, runtime
        self._service = Service("bedrock", "bedrock-runtime")

    def has(self, method: str, raw_path: str) -> bool:
        """Whether an operation is at that address."""
        return self._service.route(method, raw_path) is not None

    async def answer(self, request: Request) -> Response:
        """See `Face.answer`."""
        found = self._service.route(request.method, request.raw_path)
        if found is None:
            return self._nowhere(request)
        operation, labels = found
        invoke = invoking.OPERATIONS.get(operation.name)
        if invoke is not None and self._runtime is not None:
            return await invoke(invoking.Call(self._runtime, operation, labels, request))
        function = control.OPERATIONS.get(operation.name)
        if function is None:
            raise NotYet(f"{operation.name}: not yet; Limbeck does {', '.join(sorted(control.OPERATIONS))}")
        query = parse_qsl(request.raw_query, keep_blank_values=True)
        asked = read(operation, labels, query, request.headers, request.body)
        if places := list(_unkeepable(asked, "")):
            raise InvalidInput(f"{', '.join(places)}: the text holds U+0000, which not every database can keep")
        if control.is_brief(operation.name, asked, self._desk):
            return self._control(operation, function, asked)
        return await run_in_threadpool(self._control, operation, function, asked)

    def fault(self, error: Exception, request_id: str) -> Response:
        """See `Face.fault`."""
        return faults.unforeseen(error, request_id)

    def _control(self, operation: Operation, function: control.Function, asked: Mapping[str, Any]) -> Response:
        return write(operation, function(asked, self._desk))

    def _nowhere(self, request: Request) -> Response:
        methods = self._service.methods(request.raw_path)
        path = request.raw_path[:200]
        if methods:
            said = f"{request.method} is not done at {path}; expected {' or '.join(methods)}"
            return faults.answer("UnknownOperationException", 405, said)
        return faults.answer("UnknownOperationException", 404, f"nothing is at {request.method} {path}")


def _unkeepable(asked: Any, place: str) -> Iterator[str]:
    """The places in a request of texts that Postgres refuses."""
    if isinstance(asked, str) and "\0" in asked:
        yield place
    elif isinstance(asked, Mapping):
        for name, value in asked.items():
            yield from _unkeepable(name, f"a name in {place}")
            yield from _unkeepable(value, f"{place}.{name}".lstrip("."))
    elif isinstance(asked, list):
        for at, value in enumerate(asked):
            yield from _unkeepable(value, f"{place}[{at}]")
