"""How long work tells of itself and hears that it should stop.

A step of the river gets a `Progress` and reports to it; who watches (a bar on a terminal, a log line, an API's
heartbeat) is the watcher's affair. Nothing here knows a terminal.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from limbeck.errors import Stopped

__all__ = ["Lines", "Progress", "Silent", "StopSignal", "Task"]


class StopSignal:
    """A wish to stop, set from a signal or another thread and heard at the next safe point."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask the work to stop at its next safe point."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether somebody asked."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise `Stopped` if somebody asked."""
        if self._event.is_set():
            raise Stopped("stopped at your wish; what is done is kept")


class Task(Protocol):
    """One step under way: ``advance`` moves it, ``note`` says something beside it (a loss, a rate)."""

    def advance(self, amount: float = 1) -> None:
        """Move by ``amount`` of the task's unit."""

    def note(self, text: str) -> None:
        """Show ``text`` beside the figures."""


class Progress(Protocol):
    """Whoever watches the work."""

    def task(self, name: str, total: float, unit: str, done: float = 0) -> AbstractContextManager[Task]:
        """Context manager giving a `Task` of ``total`` units, ``done`` of which were finished earlier."""

    def say(self, text: str) -> None:
        """Tell one line."""

    def stage(self, name: str) -> None:
        """The stage ``name`` of the river begins, or is found done."""


class _LineTask:
    def __init__(self, write: Callable[[str], None], name: str, total: float, unit: str, done: float, every: float):
        self._write, self._name, self._total, self._unit = write, name, total, unit
        self._done = self._start = done
        self._every = every
        self._began = self._last = time.monotonic()
        self._note = ""

    def advance(self, amount: float = 1) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._last >= self._every and self._done < self._total:
            self._last = now
            self._write(self.line(now))

    def note(self, text: str) -> None:
        self._note = text

    def line(self, now: float) -> str:
        rate = (self._done - self._start) / max(now - self._began, 1e-9)
        left = (self._total - self._done) / rate if rate > 0 else float("inf")
        figures = f"{self._done:g} of {self._total:g} {self._unit}"
        if rate > 0:  # what was done earlier is no work of now
            figures += f", {rate:.1f} a second" if rate >= 1 else f", {rate:.2g} a second"
        tail = f", about {left:.0f} s left" if self._done < self._total and rate > 0 else ""
        return f"{self._name}: {figures}{tail}" + (f", {self._note}" if self._note else "")


class Lines:
    """Quiet lines for logs: one when a task ends, and one every ``every`` seconds while it runs."""

    def __init__(self, write: Callable[[str], None], every: float = 15.0) -> None:
        self._write, self._every = write, every

    @contextmanager
    def task(self, name: str, total: float, unit: str, done: float = 0) -> Iterator[Task]:
        """See `Progress.task`."""
        task = _LineTask(self._write, name, total, unit, done, self._every)
        yield task
        self._write(task.line(time.monotonic()))

    def say(self, text: str) -> None:
        """See `Progress.say`."""
        self._write(text)

    def stage(self, name: str) -> None:
        """See `Progress.stage`."""


class Silent:
    """Nobody watches: the library's default and the tests'."""

    @contextmanager
    def task(self, name: str, total: float, unit: str, done: float = 0) -> Iterator[Task]:
        """See `Progress.task`."""
        yield _LineTask(lambda _: None, name, total, unit, done, float("inf"))

    def say(self, text: str) -> None:
        """See `Progress.say`."""

    def stage(self, name: str) -> None:
        """See `Progress.stage`."""
