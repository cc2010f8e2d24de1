"""When to try again, and when to let a service rest.

After a failure a question waits a random time up to a bound that doubles with each attempt ("full jitter": AWS
Architecture Blog, "Exponential Backoff And Jitter", 2015), and never less than the service asked for. What a service
asks for with 429 holds for every request, so all wait at one `Gate`. The gate is a circuit breaker too: after several
failures in a row it closes, lets one request through after a while, and opens again when that one succeeds.

Time is the event loop's, and nothing else's: a test's loop may run as fast as it likes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from math import isfinite

from limbeck.errors import TeacherFailed
from limbeck.teachers.endpoint import Failure

__all__ = ["Gate", "Patience", "retry_after"]


@dataclass(frozen=True)
class Patience:
    """How much a service is forgiven. Seconds, where not said otherwise."""

    attempts: int = 6
    """Of each question."""
    bad_replies: int = 3
    """Of those, the most that came to an answer that cannot be used: each may have cost money."""
    first_wait: float = 1.0
    longest_wait: float = 60.0
    """What the bound of the random waits grows to."""
    longest_asked: float = 900.0
    """A service that asks for more is not waited for."""
    failures: int = 8
    """In a row, and the gate closes."""
    rest: float = 15.0
    """How long it stays closed; doubles each time nothing has come between."""
    rests: int = 5
    """In a row, and the service is given up."""

    def wait(self, attempt: int) -> float:
        """A random time before the next attempt, after ``attempt`` have failed."""
        bound: float = min(self.longest_wait, self.first_wait * 2 ** min(attempt - 1, 30))
        return random.uniform(0, bound)  # noqa: S311 (spreads requests, keeps no secret)


class Gate:
    """Where all requests to one service wait while it wants, or needs, to be left alone."""

    def __init__(self, what: str, patience: Patience) -> None:
        self._what, self._patience = what, patience
        self._opens_at = 0.0
        self._failures = self._rests = 0
        self._trial: asyncio.Lock | None = None
        """While the gate lets through one request at a time."""

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[bool]:
        """Wait until a request may go; True for one that goes alone, on trial, after the gate was closed."""
        loop = asyncio.get_running_loop()
        while True:
            if loop.time() < self._opens_at:
                await asyncio.sleep(self._opens_at - loop.time())
                continue
            trial = self._trial
            if trial is None:
                yield False
                return
            async with trial:
                if trial is self._trial and loop.time() >= self._opens_at:
                    yield True
                    return

    def succeeded(self) -> None:
        """A request was answered: the service is well."""
        self._failures = self._rests = 0
        self._trial = None

    def failed(self, failure: Failure, on_trial: bool) -> None:
        """A request failed. Raises `TeacherFailed` for a service that does not come back."""
        if failure.wait is not None and failure.wait > self._patience.longest_asked:
            raise TeacherFailed(f"{self._what}: {failure}; it asks to be left alone for {failure.wait:,.0f} seconds")
        now = asyncio.get_running_loop().time()
        if failure.wait is not None:
            self._opens_at = max(self._opens_at, now + failure.wait)
        if failure.busy or failure.bad_reply or (self._trial and not on_trial):  # those were sent before it closed
            return
        self._failures += 1
        if not on_trial and self._failures < self._patience.failures:
            return
        if self._rests == self._patience.rests:
            raise TeacherFailed(f"{self._what}: {failure}; it has not answered for a long while")
        self._opens_at = max(self._opens_at, now + self._patience.rest * 2**self._rests)
        self._rests += 1
        self._failures = 0
        self._trial = self._trial or asyncio.Lock()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds a response asks to wait, from its headers in lower case; None where it does not, or not clearly.

    A number of seconds, or a date, which is compared with the response's own (RFC 9110, 10.2.3); OpenAI's
    ``retry-after-ms`` is finer.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        if isfinite(seconds):
            return max(0.0, seconds)
    try:
        then, now = (parsedate_to_datetime(headers[name]) for name in ("retry-after", "date"))
        return max(0.0, (then - now).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None
