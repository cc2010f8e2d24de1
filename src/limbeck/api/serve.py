"""The server: one process on one port, from a checked configuration."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

import uvicorn

from limbeck.api.app import App
from limbeck.errors import Conflict, InvalidInput
from limbeck.models.catalog import catalog
from limbeck.settings import Settings
from limbeck.storage.keys import Keys

__all__ = ["check", "serve"]

BACKLOG = 1024
"""Connections that may wait to be taken."""

IDLE_SECONDS = 75
"""A connection kept open between requests: longer than clients and proxies keep theirs."""


def check(host: str, port: int, auth: bool, settings: Settings) -> list[str]:
    """What is wrong with a configuration, a sentence each; nothing is started."""
    faults = []
    if not auth and not _is_loopback(host):
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
        _listen(host, port).close()
    except Conflict as error:
        faults.append(str(error))
    return faults


def serve(host: str, port: int, auth: bool, settings: Settings, ready: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM; ``ready`` is called when requests can come.

    Raises `InvalidInput` with all that is wrong, before anything is started.
    """
    faults = check(host, port, auth, settings)
    if faults:
        raise InvalidInput("\n".join(faults))
    listener = _listen(host, port)
    app = App(settings, Keys(settings.keys) if auth else None)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=10,
    )
    listener.listen(BACKLOG)  # from here on a client waits instead of being refused
    ready()
    uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Conflict(f"cannot listen on {host}:{port}: {error.strerror or error}; --port names another") from None
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
