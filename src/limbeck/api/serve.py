"""The server: one process on one port, from a checked configuration."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from limbeck.api.app import App
from limbeck.api.auth import is_loopback
from limbeck.api.bedrock import Bedrock
from limbeck.api.identity import Identity
from limbeck.api.logs import log_to_stderr
from limbeck.api.openai import OpenAI
from limbeck.api.runtime import Runtime
from limbeck.api.s3 import S3
from limbeck.api.tls import Certificate
from limbeck.control import LOGGING, invocable, open_desk, resolve
from limbeck.errors import Conflict, InvalidInput, LimbeckError
from limbeck.models.catalog import catalog
from limbeck.serving.launch import open_pool
from limbeck.serving.logbook import Logbook
from limbeck.settings import Settings
from limbeck.storage.database import reached
from limbeck.storage.keys import Keys
from limbeck.storage.objects import Buckets
from limbeck.worker.keeper import Keeper

__all__ = ["check", "make_app", "serve"]

BACKLOG = 1024
"""Connections that may wait to be taken."""

IDLE_SECONDS = 75
"""A connection kept open between requests: longer than clients and proxies keep theirs."""


def check(host: str, port: int, auth: bool, settings: Settings, certificate: Certificate | None = None) -> list[str]:
    """What is wrong with a configuration, a sentence each; nothing is started."""
    faults = certificate.faults(host) if certificate else []
    if not auth and not is_loopback(host):
        faults.append(f"--no-auth on {host}: anybody on the network could call; it is for loopback (127.0.0.1) only")
    try:
        catalog(settings)
    except InvalidInput as error:
        faults.append(str(error))
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        probe = settings.home / ".limbeck-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        faults.append(f"home {settings.home} cannot be written: {error.strerror}; --home names another")
    else:
        if auth and not Keys(settings.keys).all():
            faults.append(
                "no access key is known, so every request would be refused;"
                " `limbeck keys add NAME` makes one, --no-auth takes any request on loopback"
            )
    try:
        reached(settings.database).dispose()
    except InvalidInput as error:
        faults.append(str(error))
    try:
        _listen(host, port).close()
    except Conflict as error:
        faults.append(str(error))
    return faults


def serve(
    host: str,
    port: int,
    auth: bool,
    settings: Settings,
    ready: Callable[[], None],
    certificate: Certificate | None = None,
    work: bool = True,
) -> None:
    """Serve until SIGINT or SIGTERM, over TLS where there is a ``certificate``; ``ready`` is called when requests can
    come. With ``work``, a worker process takes the jobs.

    Raises `InvalidInput` with all that is wrong, before anything is started.
    """
    faults = check(host, port, auth, settings, certificate)
    if faults:
        raise InvalidInput("\n".join(faults))
    listener = _listen(host, port)
    log_to_stderr([settings.s3.secret_access_key] if settings.s3 else [])
    config = uvicorn.Config(
        make_app(settings, auth, work),
        http=_Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=10,
        ssl_certfile=certificate.chain if certificate else None,
        ssl_keyfile=certificate.key if certificate else None,
    )
    with _closing_if_taken(listener, host, port):
        listener.listen(BACKLOG)  # from here on a client waits instead of being refused
    ready()
    server = uvicorn.Server(config)
    server.run(sockets=[listener])
    if not server.started:
        raise LimbeckError("the server could not start; the lines above say why")


def make_app(settings: Settings, auth: bool, work: bool = True) -> App:
    """The application over a home, with every face; with ``work``, a worker runs beside it."""
    desk = open_desk(settings)
    pool = open_pool(settings)
    logbook = Logbook(settings, desk.objects, lambda: desk.ledger.setting(LOGGING))
    runtime = Runtime(settings, lambda identifier: resolve(identifier, desk), pool, logbook.record)
    keeper = Keeper(settings)

    async def end() -> None:
        await asyncio.to_thread(runtime.close)
        await asyncio.to_thread(logbook.close)

    return App(
        faces=(
            Bedrock(desk, runtime),
            OpenAI(runtime, lambda: invocable(desk)),
            Identity(settings),
            S3(Buckets(settings.buckets), settings.region, settings.s3.url if settings.s3 else None),
        ),
        keys=Keys(settings.keys) if auth else None,
        spool=settings.scratch,
        metrics=lambda: pool.metrics.render().decode(),
        start=[keeper.start] if work else [],
        stop=[keeper.stop, pool.close, end],
    )


class _Connection(HttpToolsProtocol):
    """uvicorn's, but when the server stops an idle client is not asked to take leave of TLS.

    A client's pool does not read the connections it keeps, so it would not answer, and the stop would wait for it.
    """

    def shutdown(self) -> None:
        """Close what is idle; let a request under way finish."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
        else:
            super().shutdown()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with _closing_if_taken(listener, host, port):
        listener.bind((host, port))
    return listener


@contextmanager
def _closing_if_taken(listener: socket.socket, host: str, port: int) -> Iterator[None]:
    """Of two that begin at once both may have the address; one of them may listen there."""
    try:
        yield
    except OSError as error:
        listener.close()
        raise Conflict(f"cannot listen on {host}:{port}: {error.strerror or error}; --port names another") from None
