"""The half of an engine's process that runs in its parent: starting it, knowing whether it lives, ending it.

Knows nothing of models; `child` is the other half. Who asks for completions knows the port and the key.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from limbeck.errors import ModelFailed
from limbeck.jobs.child import program

__all__ = ["Process"]

READY_SECONDS = 600.0
"""A child that is not ready by then is given up: a large model from a slow disk takes minutes."""

CLOSE_SECONDS = 3.0
"""How long a child may take to end before it is killed: it holds nothing that would have to be saved."""

TAIL_BYTES = 4096
"""How much of the log's end is looked at for what went wrong."""


class Process:
    """A child that serves one model on a port of the loopback interface, to whoever knows its key."""

    def __init__(self, what: str, child: asyncio.subprocess.Process, log: IO[bytes], key: str) -> None:
        self.what = what
        """What it serves, for messages."""
        self.key = key
        self.port = 0
        self.context_tokens = 0
        """The most tokens of one request, prompt and answer together."""
        self._child = child
        self._log = log

    @classmethod
    async def start(cls, module: str, what: str, settings: Mapping[str, Any], log: Path | None) -> Process:
        """Start ``module`` as a child and wait until requests can come. Raises `ModelFailed` if it never gets there.

        What the child prints is appended to the file ``log``; without one, only its end is kept for messages.
        """
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
        # Kept open: why a child has died is read from its end.
        file: IO[bytes] = tempfile.TemporaryFile() if log is None else log.open("a+b")  # noqa: SIM115
        # A session of its own: Ctrl-C at the terminal is for the parent, which lets requests under way finish.
        child = await asyncio.create_subprocess_exec(
            *program(module),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=file,
            start_new_session=True,
        )
        process = cls(what, child, file, secrets.token_hex())
        try:
            await asyncio.wait_for(process._until_ready(settings), READY_SECONDS)
        except TimeoutError:
            await process.close()
            raise ModelFailed(f"{what}: not ready after {READY_SECONDS:.0f} seconds") from None
        except BaseException:
            await process.close()
            raise
        return process

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._child.returncode is None

    async def failure(self) -> ModelFailed:
        """The error of a connection that broke: how the child ended, if it did, and the last it said."""
        with contextlib.suppress(TimeoutError):  # the connection breaks a moment before the process is gone
            await asyncio.wait_for(self._child.wait(), 1.0)
        code = self._child.returncode
        if code is None:
            return ModelFailed(f"{self.what}: its process broke off an answer")
        ended = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return ModelFailed("\n".join([f"{self.what}: its process was {ended}", *self.last_lines(3)]))

    def last_lines(self, count: int, since: int = 0) -> list[str]:
        """The end of the log, from byte ``since`` on."""
        if self._log.closed:
            return []
        start = max(since, self.log_bytes - TAIL_BYTES)
        lines = os.pread(self._log.fileno(), TAIL_BYTES, start).decode(errors="replace").splitlines()
        return [line for line in lines if line.strip()][-count:]

    @property
    def log_bytes(self) -> int:
        """How long the log is."""
        return os.fstat(self._log.fileno()).st_size

    async def close(self) -> None:
        """End the child and wait for its end."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                self._child.terminate()
        try:
            await asyncio.wait_for(self._child.wait(), CLOSE_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()
            await self._child.wait()
        self._log.close()

    async def _until_ready(self, settings: Mapping[str, Any]) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        told = json.dumps({**settings, "parent": os.getpid(), "key": self.key})
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._child.stdin.write(told.encode())
            await self._child.stdin.drain()
        self._child.stdin.close()
        line = await self._child.stdout.readline()
        if not line:
            await self._child.wait()
            raise ModelFailed("\n".join([f"{self.what}: could not be loaded", *self.last_lines(8)]))
        ready = json.loads(line)
        self.port, self.context_tokens = ready["port"], ready["context_tokens"]
