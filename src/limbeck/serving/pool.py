"""Which replicas run: loaded on first use, kept warm, ended to a budget of memory, begun again when they crash.

Knows nothing of engines: a `Launcher` says what a model takes and how it is started (`launch` has the real one).

A model's host goes round: nothing → loading (it waits for its turn after a crash, then for memory) → ready → nothing,
when it is unused for long, when another model needs the room, or when its process dies. A replica with requests under
way is never ended to make room.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

from limbeck.errors import InvalidInput, LimbeckError, NotReady
from limbeck.models.catalog import ModelSource
from limbeck.models.gguf_cache import version
from limbeck.serving.base import Done, Generate, Piece
from limbeck.serving.completion import NeverAsked
from limbeck.serving.metrics import Metrics

__all__ = ["Health", "Launch", "Launcher", "PooledReplica", "ReplicaPool", "Running"]

WAIT_SECONDS = 20.0
"""How long a request waits for its model to be loaded: well below the 60 after which botocore gives up."""

IDLE_SECONDS = 900.0
"""A replica that nobody asks for so long gives its memory back."""

BACKOFF_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""The wait before a crashed model is loaded again, by how often it crashed without answering in between."""


class Running(Protocol):
    """A replica, and what the one who keeps it must know and do."""

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""

    @property
    def pid(self) -> int | None:
        """Its process, if it has one."""

    def generate(self, asked: Generate) -> AsyncGenerator[Piece | Done, None]:
        """See `base.Replica`. Raises `NeverAsked` where another replica may be asked instead."""

    async def close(self) -> None:
        """End it; answers under way break off."""


@dataclass(frozen=True)
class Launch:
    """How a model is hosted."""

    memory_bytes: int
    """What it is reckoned to take."""
    slots: int
    """How many answers it writes at once; more requests wait."""
    start: Callable[[], Awaitable[Running]]


Launcher = Callable[[ModelSource], Launch]
"""Called in a thread: it may read files, and convert them."""


State = Literal["loading", "waiting for memory", "ready", "crashed"]


@dataclass(frozen=True)
class Health:
    """How a model's host is."""

    model: str
    state: State
    pid: int | None
    requests: int
    """Under way, those that wait for a slot among them."""
    memory_bytes: int
    crashes: int
    """Since it last answered."""


@dataclass(eq=False)
class _Host:
    source: ModelSource
    replica: Running | None = None
    loading: asyncio.Task[None] | None = None
    waits_for_memory: bool = False
    slots: asyncio.Semaphore = field(default_factory=asyncio.Semaphore)
    memory_bytes: int = 0
    """Reserved: from before it is loaded until its process is gone."""
    requests: int = 0
    used: float = 0.0
    """When it was last asked or last answered."""
    crashes: int = 0
    not_before: float = 0.0
    """After a crash: when it may be loaded again."""
    failure: Exception | None = None
    """Why the last load failed."""

    @property
    def ready(self) -> bool:
        return self.replica is not None and self.replica.alive

    @property
    def state(self) -> State:
        if self.ready:
            return "ready"
        if self.loading is None:
            return "crashed"
        return "waiting for memory" if self.waits_for_memory else "loading"

    def crashed(self) -> None:
        self.not_before = time.monotonic() + BACKOFF_SECONDS[min(self.crashes, len(BACKOFF_SECONDS) - 1)]
        self.crashes += 1


class ReplicaPool:
    """The replicas of one service, all from one event loop."""

    def __init__(
        self,
        launcher: Launcher,
        *,
        memory_bytes: int,
        wait_seconds: float = WAIT_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
        metrics: Metrics | None = None,
    ) -> None:
        """``memory_bytes``: what all replicas together may take."""
        self.metrics = metrics or Metrics()
        self._launcher = launcher
        self._memory_bytes = memory_bytes
        self._wait_seconds = wait_seconds
        self._idle_seconds = idle_seconds
        self._hosts: dict[tuple[Path, str], _Host] = {}
        self._ending = asyncio.Lock()
        self._room = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def replica(self, source: ModelSource) -> PooledReplica:
        """A replica of the model, loaded if need be.

        Raises `NotReady` when that takes longer than a client waits (it goes on), `InvalidInput` for a model larger
        than the budget, and for one that cannot be loaded what its launcher raises, `ModelFailed` most often; the same
        again until it is tried anew.
        """
        host = self._hosts.setdefault((source.path, version(source)), _Host(source))
        host.requests += 1
        try:
            await self._ready(host)
        finally:
            self._leave(host)
        return PooledReplica(self, host)

    def health(self) -> list[Health]:
        """Every model that is in memory or on its way there."""
        return [
            Health(
                host.source.id,
                host.state,
                host.replica.pid if host.replica else None,
                host.requests,
                host.memory_bytes,
                host.crashes,
            )
            for host in self._hosts.values()
            if host.replica is not None or host.loading is not None
        ]

    async def close(self) -> None:
        """End all replicas, and wait until their processes are gone; answers under way break off."""
        self._closed = True
        tasks = [task for task in (self._keeper, *(host.loading for host in self._hosts.values())) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with self._ending:
            await asyncio.gather(*(self._end(host) for host in self._hosts.values() if host.replica is not None))

    async def _ready(self, host: _Host) -> Running:
        """The host's replica; whoever calls counts among its requests."""
        if self._closed:
            raise NotReady(f"{host.source.id}: the service is shutting down")
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep())
        host.used = time.monotonic()
        if not host.ready:
            if host.failure is not None and host.loading is None and time.monotonic() < host.not_before:
                raise host.failure.with_traceback(None)
            task = self._load_soon(host)
            await asyncio.wait({task}, timeout=self._wait_seconds)
            if not task.done() or task.cancelled():
                raise NotReady(self._why_not_ready(host))
            task.result()
        if host.replica is None:  # ended with the pool
            raise NotReady(self._why_not_ready(host))
        return host.replica

    def _why_not_ready(self, host: _Host) -> str:
        if host.waits_for_memory:
            return (
                f"{host.source.id} waits for memory: the models at work leave no room for it in the"
                f" {_size(self._memory_bytes)} there are (LIMBECK_MEMORY)"
            )
        return f"{host.source.id} is being loaded; ask again in a moment"

    def _leave(self, host: _Host) -> None:
        host.requests -= 1
        host.used = time.monotonic()
        if not host.requests:
            self._room.set()

    def _load_soon(self, host: _Host) -> asyncio.Task[None]:
        if host.loading is None:
            host.loading = asyncio.create_task(self._load(host))
            # Nobody may be waiting any more: its error is heard here, or asyncio complains.
            host.loading.add_done_callback(lambda task: task.cancelled() or task.exception())
        return host.loading

    async def _load(self, host: _Host) -> None:
        model = host.source.id
        try:
            if host.replica is not None:
                await self._bury(host)
            await asyncio.sleep(host.not_before - time.monotonic())
            launch = await asyncio.to_thread(self._launcher, host.source)
            await self._reserve(host, launch.memory_bytes)
            with self.metrics.loads.labels(model).time():
                host.replica = await launch.start()
            host.slots = asyncio.Semaphore(launch.slots)
            host.failure = None
            self.metrics.replicas.inc()
        except Exception as error:
            host.failure = error
            host.crashed()
            raise
        finally:
            host.loading = None
            host.waits_for_memory = False
            if host.replica is None:
                self._reserved(host, 0)

    async def _bury(self, host: _Host) -> None:
        """A replica has died by itself: count it, and let go of what it held."""
        host.crashed()
        await self._end(host)
        self.metrics.restarts.labels(host.source.id).inc()

    async def _reserve(self, host: _Host, needed: int) -> None:
        """Wait until there is room for a model, ending what is idle, the least recently used first."""
        if needed > self._memory_bytes:
            raise InvalidInput(
                f"{host.source.id} takes about {_size(needed)} of memory to host, and there are"
                f" {_size(self._memory_bytes)} for all models; LIMBECK_MEMORY names more, LIMBECK_SLOTS fewer slots"
            )
        while True:
            async with self._ending:
                taken = sum(other.memory_bytes for other in self._hosts.values())
                if taken + needed <= self._memory_bytes:
                    self._reserved(host, needed)
                    return
                idle = [other for other in self._hosts.values() if other.replica is not None and not other.requests]
                if idle:
                    await self._evict(min(idle, key=lambda other: other.used), "room")
                    continue
                self._room.clear()
            host.waits_for_memory = True
            await self._room.wait()

    def _reserved(self, host: _Host, memory_bytes: int) -> None:
        self.metrics.memory.inc(memory_bytes - host.memory_bytes)
        host.memory_bytes = memory_bytes
        if not memory_bytes:
            self._room.set()

    async def _evict(self, host: _Host, why: str) -> None:
        self.metrics.evictions.labels(host.source.id, why).inc()
        await self._end(host)

    async def _end(self, host: _Host) -> None:
        replica, host.replica = host.replica, None
        assert replica is not None
        try:
            await replica.close()
        except asyncio.CancelledError:  # the pool is closing: it will end this one with the others
            host.replica = replica
            raise
        self.metrics.replicas.dec()
        self._reserved(host, 0)

    async def _keep(self) -> None:
        """Look after the hosts: end those unused for long, begin those again that died."""
        while True:
            await asyncio.sleep(min(1.0, self._idle_seconds / 4))
            for host in list(self._hosts.values()):
                if host.replica is None or host.loading is not None:
                    continue
                async with self._ending:
                    unused = time.monotonic() - host.used > self._idle_seconds
                    if host.replica is not None and unused and not host.requests:
                        await self._evict(host, "idle")
                if host.replica is not None and not host.replica.alive:
                    self._load_soon(host)


class PooledReplica:
    """A model of the pool: whichever process hosts it when it is asked."""

    def __init__(self, pool: ReplicaPool, host: _Host) -> None:
        self._pool, self._host = pool, host

    async def generate(self, asked: Generate) -> AsyncGenerator[Piece | Done, None]:
        """The answer in pieces, `Done` last; see `base.Replica`. Raises what `ReplicaPool.replica` raises, too."""
        host, metrics, model = self._host, self._pool.metrics, self._host.source.id
        began = time.monotonic()
        outcome, silent = "canceled", True
        host.requests += 1
        metrics.under_way.labels(model).inc()
        try:
            async with aclosing(self._asked(asked)) as said:
                async for part in said:
                    if silent:
                        metrics.first_piece.labels(model).observe(time.monotonic() - began)
                        silent = False
                    if isinstance(part, Done):
                        outcome = part.reason
                        metrics.tokens_in.labels(model).inc(part.prompt_tokens)
                        metrics.tokens_out.labels(model).inc(part.response_tokens)
                        host.crashes = 0
                    yield part
        except LimbeckError as error:
            outcome = error.api_name
            raise
        finally:
            metrics.latency.labels(model).observe(time.monotonic() - began)
            metrics.requests.labels(model, outcome).inc()
            metrics.under_way.labels(model).dec()
            self._pool._leave(host)

    async def _asked(self, asked: Generate) -> AsyncGenerator[Piece | Done, None]:
        """Ask, and once more if the replica turns out to have died before it heard."""
        for last in (False, True):
            replica = await self._pool._ready(self._host)
            slots = self._host.slots
            with self._pool.metrics.queued.labels(self._host.source.id).track_inprogress():
                await slots.acquire()
            try:
                async with aclosing(replica.generate(asked)) as said:
                    async for part in said:
                        yield part
                return
            except NeverAsked:
                if last:
                    raise
            finally:
                slots.release()


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
