"""The half of an engine's process that runs inside it: what it is told, how it says it is ready, when it dies.

A child reads its settings, one JSON object, from standard input; says `{"port": …, "context_tokens": …}` in a line on
standard output when requests can come; and dies with its parent. All else that it or a library prints goes to its
log, which is standard error.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["begin"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def begin() -> tuple[dict[str, Any], Callable[[int, int], None]]:
    """The settings the parent gave, and a function to tell it the port and the tokens of context when all is ready.

    From here on the child cannot outlive its parent (on Linux; elsewhere only a parent that ends in order ends it).
    The kernel's signal comes when the parent's thread that started the child is gone: its event loop's.
    """
    settings: dict[str, Any] = json.load(sys.stdin)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != settings["parent"]:  # it died before the kernel knew of our wish
        os._exit(1)
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def ready(port: int, context_tokens: int) -> None:
        with answer:
            print(json.dumps({"port": port, "context_tokens": context_tokens}), file=answer)

    return settings, ready
