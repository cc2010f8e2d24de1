"""A heavy step as a process of its own: it ends with its parent, and stops within seconds of being asked to.

The parent calls `supervise`; the child's program calls `die_with_parent` first.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["GRACE_SECONDS", "die_with_parent", "supervise"]

LOOK_SECONDS = 0.2
"""How often the parent looks whether the child ended or should stop."""

GRACE_SECONDS = 8.0
"""What a child has to write its checkpoint, once asked to stop, before it is killed."""

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Be killed when the process ``parent`` ends, however it ends: a child without a parent would go on unseen."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        os.kill(os.getpid(), signal.SIGKILL)


def supervise(command: Sequence[str], log: Path, wanted: Callable[[], bool], tick: Callable[[], None]) -> int:
    """Run ``command`` to its end; gives its exit status (negative: the signal that killed it).

    What it says goes to ``log``. ``tick`` is called while it runs. Once ``wanted`` is false it is asked to stop
    (SIGTERM), and killed if it does not.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)  # noqa: S603 (our own)
    asked_at: float | None = None
    try:
        while True:
            try:
                return process.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                tick()
            if asked_at is None and not wanted():
                process.terminate()
                asked_at = time.monotonic()
            elif asked_at is not None and time.monotonic() - asked_at > GRACE_SECONDS:
                process.kill()
    except BaseException:
        process.kill()
        process.wait()
        raise
