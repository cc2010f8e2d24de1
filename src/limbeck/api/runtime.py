"""What every face needs to have a model answer: find it, prepare the question, generate, and keep the log.

Bedrock's runtime operations (`api.invoking`) and the OpenAI endpoint (`api.openai`) differ in how they read a question
and write an answer; all else is here, once. Whatever takes a while (reading a body, a database, a tokenizer) runs on
a thread. The log is written behind the answer, on a thread of its own, in the order in which requests ended.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from starlette.concurrency import run_in_threadpool

from limbeck.errors import InvalidInput, LimbeckError
from limbeck.models.catalog import find
from limbeck.models.gguf_cache import version
from limbeck.records import Hosted, Invocation
from limbeck.serving.base import Pool
from limbeck.serving.chat import ChatModel, Event, Finish, Prepared, answer, collect
from limbeck.settings import Settings
from limbeck.wire.bodies import JSON, Asked
from limbeck.wire.exchange import Request
from limbeck.wire.operations import json_object

__all__ = ["Entry", "Events", "Measure", "Runtime", "Understand", "Understood", "Writing"]

log = logging.getLogger(__name__)

MODELS_KEPT = 16
"""Tokenizers held in memory; one of 150,000 tokens is some 60 MB."""

DISCONNECTED = "ClientDisconnected"
"""In the log, the error of a request whose client left before the answer was whole."""

Measure = Callable[[Invocation, float, float | None], None]
"""Told of every finished request: the seconds it took, and those until its first piece, None if there was none."""


@dataclass
class Entry:
    """What the log will say of a request, filled in as it becomes known."""

    request: Request
    operation: str
    model_id: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    output: Any = None
    input_tokens: int = 0
    output_tokens: int = 0
    error: str | None = None
    first_seconds: float | None = None
    timestamp: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Understood:
    """A request whose every fault would have been told by now."""

    model: ChatModel
    asked: Asked
    prepared: Prepared


Understand = Callable[[Entry], Understood]
"""Reads a request and tells the entry what it is; blocks, and raises `InvalidInput` with every fault."""


class Events:
    """The events of one answer. Its counts go into the log as they come."""

    def __init__(self, events: AsyncGenerator[Event, None], entry: Entry) -> None:
        self._events, self._entry = events, entry
        self._first: Event | None = None
        self.finish: Finish | None = None

    async def wait_for_first(self) -> None:
        """Until then an error can still be an answer of its own, with a status."""
        self._first = await anext(self._events)
        self._entry.first_seconds = time.monotonic() - self._entry.began

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        event = self._first if self._first is not None else await anext(self._events)
        self._first = None
        if isinstance(event, Finish):
            self.finish = event
            self._entry.input_tokens, self._entry.output_tokens = event.input_tokens, event.output_tokens
        return event

    async def aclose(self) -> None:
        """Frees the replica's slot, if the answer is still under way."""
        await self._events.aclose()


Stream = AsyncGenerator[bytes, None]


def _parts(asked: Asked, events: Events) -> AsyncGenerator[JSON, None]:
    return asked.parts(events)


@dataclass(frozen=True)
class Writing:
    """How an answer under way goes over a protocol."""

    piece: Callable[[JSON], bytes]
    fault: Callable[[Exception], bytes]
    """An error after the first piece: the last that is sent."""
    end: bytes = b""
    """What is sent last when all went well."""
    parts: Callable[[Asked, Events], AsyncGenerator[JSON, None]] = _parts


class Runtime:
    """The models of one home, ready to be asked."""

    def __init__(
        self,
        settings: Settings,
        resolve: Callable[[str], Hosted],
        pool: Pool,
        record: Callable[[Invocation], None],
        measure: Measure | None = None,
    ) -> None:
        """``resolve`` says what a model identifier stands for, and raises `InvalidInput` where it is nothing.

        ``record`` and ``measure`` get one invocation for each request, failed ones too.
        """
        self.resolve = resolve
        self._settings, self._pool = settings, pool
        self._record, self._measure = record, measure
        self._scribe = ThreadPoolExecutor(1, "invocation-log")
        self._opened = lru_cache(MODELS_KEPT)(lambda source, _version: ChatModel(source))

    def close(self) -> None:
        """Ends when the log is written."""
        self._scribe.shutdown()

    def model(self, hosted: Hosted) -> ChatModel:
        """The side of a model that reads and writes text. Blocks while it is opened."""
        source = find(hosted.model, self._settings)
        return self._opened(source, version(source))

    async def whole(self, request: Request, operation: str, understand: Understand) -> tuple[JSON, Finish]:
        """The answer in one piece, and what it took."""
        with self._logged(request, operation) as entry:
            asked, events = await self._begin(entry, understand)
            async with aclosing(events):
                answer = await collect(events)
            entry.output = asked.whole(answer)
            return entry.output, answer.finish

    async def stream(self, request: Request, operation: str, understand: Understand, writing: Writing) -> Stream:
        """The answer in pieces. The first is there when this returns: until then an error can have its own status.

        Everything opened is closed when the pieces end, or are closed because their reader left.
        """
        async with AsyncExitStack() as stack:
            entry = stack.enter_context(self._logged(request, operation))
            asked, events = await self._begin(entry, understand)
            stack.push_async_callback(events.aclose)
            return _written(entry, writing, asked, events, stack.pop_all())
        raise AssertionError("unreachable: the stack swallows nothing")

    @contextmanager
    def _logged(self, request: Request, operation: str) -> Iterator[Entry]:
        """While the request is under way; at its end it goes into the log, whatever the end."""
        entry = Entry(request, operation)
        try:
            yield entry
        except Exception as error:
            entry.error = _name(error)
            raise
        except BaseException:  # cancelled or closed: the client left
            entry.error = DISCONNECTED
            raise
        finally:
            self._scribe.submit(self._write, entry, time.monotonic() - entry.began)

    async def _begin(self, entry: Entry, understand: Understand) -> tuple[Asked, Events]:
        """The request understood, on a thread, and its answer's events, the first of which is there."""
        understood = await run_in_threadpool(understand, entry)
        entry.input_tokens = understood.prepared.prompt_tokens
        replica = await self._pool.replica(understood.model.source)
        events = Events(answer(replica, understood.prepared, entry.began), entry)
        try:
            await events.wait_for_first()
        except BaseException:
            await events.aclose()
            raise
        return understood.asked, events

    def _write(self, entry: Entry, seconds: float) -> None:
        try:
            told = Invocation(
                request_id=entry.request.id,
                timestamp=entry.timestamp,
                operation=entry.operation,
                model_id=entry.model_id,
                caller=entry.request.caller,
                metadata=entry.metadata,
                input_body=_json(entry.request.body),
                output_body=entry.output,
                input_tokens=entry.input_tokens,
                output_tokens=entry.output_tokens,
                error=entry.error,
            )
            self._record(told)
            if self._measure is not None:
                self._measure(told, seconds, entry.first_seconds)
        except Exception:
            log.exception("request %s is not in the log", entry.request.id)


async def _written(
    entry: Entry, writing: Writing, asked: Asked, events: Events, opened: AsyncExitStack
) -> AsyncGenerator[bytes, None]:
    async with opened:
        entry.output = []
        try:
            async for part in writing.parts(asked, events):
                entry.output.append(part)
                yield writing.piece(part)
            if writing.end:
                yield writing.end
        except Exception as error:
            entry.error = _name(error)
            yield writing.fault(error)


def _name(error: Exception) -> str:
    """What an error is called on the wire."""
    return error.api_name if isinstance(error, LimbeckError) else LimbeckError.api_name


def _json(body: bytes) -> Any:
    try:
        return json_object(body)
    except InvalidInput:
        return None
