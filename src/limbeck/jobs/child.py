"""A heavy step as a process of its own: it ends with its parent, and stops within seconds of being asked to.

The parent begins it with `spawn` (a `program`) or `fork` and calls `supervise`; the child calls `die_with_parent`
first.

`spawn` starts an interpreter. `fork` has a warm process do it, which has loaded what the child needs (torch and
transformers take many seconds) and has done nothing with it: no thread runs there that a fork could break. The warm
process is begun with the first such child, and ends with the parent.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from setproctitle import setproctitle

__all__ = ["GRACE_SECONDS", "Child", "die_with_parent", "fork", "program", "spawn", "supervise"]

LOOK_SECONDS = 0.2
"""How often the parent looks whether the child ended or should stop."""

GRACE_SECONDS = 8.0
"""What a child has to write its checkpoint, once asked to stop, before it is killed."""

PR_SET_PDEATHSIG = 1


class Child(Protocol):
    """A process that was begun."""

    def wait(self, seconds: float | None = None) -> int | None:
        """Its exit status (negative: the signal that killed it); None if it has not ended within ``seconds``."""

    def terminate(self) -> None:
        """Ask it to stop (SIGTERM)."""

    def kill(self) -> None:
        """End it (SIGKILL)."""


def die_with_parent(parent: int) -> None:
    """Be killed when the process ``parent`` ends, however it ends: a child without a parent would go on unseen."""
    if os.getppid() == parent:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            return
    # Forked by the warm process, which lives as long as its children do: so the parent itself is watched.
    try:
        ended = os.pidfd_open(parent)
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        threading.Thread(target=_die_when, args=(ended,), daemon=True).start()


def _die_when(ended: int) -> None:
    select.select([ended], [], [])
    os.kill(os.getpid(), signal.SIGKILL)


def program(module: str, *arguments: str) -> list[str]:
    """The command that runs the module called ``module`` as a program, with ``arguments``.

    The folder it is begun in stays off its path (``-P``): a file there that has a module's name would be run instead.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def spawn(command: Sequence[str], log: Path) -> Child:
    """Run ``command``; what it says goes to ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        return _Spawned(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out))  # noqa: S603 (our own)


def fork(target: Callable[..., int], arguments: Sequence[str], log: Path, needs: str, title: str) -> Child:
    """Call ``target`` in a process forked from one that has imported the module ``needs``; its result is the status.

    ``target`` is called with this process's id and ``arguments``. What it says goes to ``log``; the system shows it as
    ``title``.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([needs])
    process = context.Process(target=_forked, args=(target, os.getpid(), list(arguments), str(log), title))
    process.start()
    return _Forked(process)


def supervise(child: Child, wanted: Callable[[], bool], tick: Callable[[], None]) -> int:
    """Watch ``child`` to its end; gives its exit status (negative: the signal that killed it).

    ``tick`` is called while it runs. Once ``wanted`` is false it is asked to stop (SIGTERM), and killed if it does not
    and is not wanted again.
    """
    asked_at: float | None = None
    try:
        while True:
            if (status := child.wait(LOOK_SECONDS)) is not None:
                return status
            tick()
            if wanted():
                asked_at = None
            elif asked_at is None:
                child.terminate()
                asked_at = time.monotonic()
            elif time.monotonic() - asked_at > GRACE_SECONDS:
                child.kill()
    except BaseException:
        child.kill()
        child.wait()
        raise


class _Spawned:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.terminate, self.kill = process.terminate, process.kill

    def wait(self, seconds: float | None = None) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None


class _Forked:
    def __init__(self, process: multiprocessing.process.BaseProcess) -> None:
        self._process = process
        self.terminate, self.kill = process.terminate, process.kill

    def wait(self, seconds: float | None = None) -> int | None:
        self._process.join(seconds)
        return self._process.exitcode


def _forked(target: Callable[..., int], parent: int, arguments: list[str], log: str, title: str) -> None:
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(out, sys.stdout.fileno())
    os.dup2(out, sys.stderr.fileno())
    setproctitle(title)
    sys.exit(target(parent, *arguments))
