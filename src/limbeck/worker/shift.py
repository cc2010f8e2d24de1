"""One worker process: takes jobs from the queue and watches over the child process that does each.

    python -m limbeck.worker.shift PARENT HOME        as the service begins it; `limbeck worker` runs the same alone

The child computes; this process only looks whether it lives, whether its job should stop, and keeps the job's
``lastModifiedTime`` moving. If it is itself killed, its child dies with it and another worker goes on.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from limbeck.jobs.child import GRACE_SECONDS, die_with_parent, supervise
from limbeck.jobs.queue import Laborers, open_database
from limbeck.settings import Settings
from limbeck.storage.database import Resource
from limbeck.storage.ledger import Ledger, now

__all__ = ["run"]

log = logging.getLogger(__name__)

QUEUES = {"jobs": 1, "hosting": 2}
"""How many jobs of each queue one worker does at once. A job computes on all threads; making ready is light."""

TOUCH_SECONDS = 15.0
"""How often a job under way is touched, so that whoever polls sees that it lives."""

LOOK_SECONDS = 0.5

ATTEMPTS = 3
"""How often a job is begun again after its process died, before it is given up."""

STOPPED = 130
"""The status with which a child says that it stopped as asked."""

ENDED = ("Completed", "PartiallyCompleted", "Failed", "Stopped", "Expired", "Active", "InService")


def run(settings: Settings) -> None:
    """Work until SIGINT or SIGTERM. What is under way then is gone on with by the next worker."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    ledger = Ledger(open_database(settings.database))
    shift = Shift(settings, ledger, over.is_set)
    laborers = Laborers(ledger.engine, ledger, QUEUES, shift.work)
    laborers.start()
    over.wait()
    shift.wait_for_children(GRACE_SECONDS + 2)
    os._exit(0)  # the queue's threads still hold their jobs, which is how the next worker finds them


class Shift:
    """What a worker does with a job."""

    def __init__(self, settings: Settings, ledger: Ledger, over: Callable[[], bool]) -> None:
        """``over`` says whether this worker should end: its children write a checkpoint then, and stop."""
        self._settings, self._ledger, self._over = settings, ledger, over
        self._children = 0
        self._lock = threading.Lock()

    def work(self, arn: str) -> None:
        """See one job to its end, whatever that is: afterwards its row says Completed, Failed or Stopped."""
        row = self._ledger.row(arn)
        if row is None or (row.status in ENDED and "next" not in row.facts):
            return
        if row.status == "Stopping":
            self._end(row, "Stopped")
            return
        try:
            self._see_through(row)
        except Exception:
            log.exception("job %s: a fault of the worker", arn)
            self._end(row, "Failed", "a fault of the worker, not of the job; its log has more")

    def _see_through(self, row: Resource) -> None:
        for _ in range(ATTEMPTS):
            status = self._child(row)
            current = self._ledger.row(row.arn)
            if current is None or (current.status in ENDED and "next" not in current.facts):
                return
            if self._over():
                threading.Event().wait()  # to return would tell the queue that the job is done
            if current.status == "Stopping":
                self._end(row, "Stopped")
                return
            log.warning("job %s: its process ended with status %d; begun again", row.name, status)
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        cause = " (out of memory?)" if status == -signal.SIGKILL else ""
        self._end(
            row, "Failed", f"the process doing the job {how}{cause}, {ATTEMPTS} times in a row; see {self._log(row)}"
        )

    def wait_for_children(self, seconds: float) -> None:
        """Wait until no child runs any more, at most so long."""
        until = time.monotonic() + seconds
        while self._children and time.monotonic() < until:
            time.sleep(0.05)

    def _child(self, row: Resource) -> int:
        looked = touched = time.monotonic()
        wanted = True

        def is_wanted() -> bool:
            nonlocal looked, wanted
            if time.monotonic() - looked >= LOOK_SECONDS:
                looked = time.monotonic()
                current = self._ledger.row(row.arn)
                wanted = current is not None and current.status != "Stopping" and not self._over()
            return wanted

        def touch() -> None:
            nonlocal touched
            if time.monotonic() - touched >= TOUCH_SECONDS:
                touched = time.monotonic()
                self._ledger.change(row.arn)

        command = [sys.executable, "-m", "limbeck.worker.labor", row.arn, str(os.getpid()), str(self._settings.home)]
        with self._lock:
            self._children += 1
        try:
            return supervise(command, self._settings.home / self._log(row), is_wanted, touch)
        finally:
            with self._lock:
                self._children -= 1

    def _end(self, row: Resource, status: str, failure: str | None = None) -> None:
        facts: dict[str, Any] = {"failureMessage": failure} if failure else {}
        details = row.facts.get("statusDetails")
        current = self._ledger.row(row.arn)
        if details is not None and current is not None:
            facts["statusDetails"] = closed(current.facts["statusDetails"], status)
        self._ledger.change(row.arn, status, facts=facts, end=True)

    def _log(self, row: Resource) -> str:
        return f"logs/{row.arn.rsplit('/', 1)[-1]}.log"


def closed(details: dict[str, dict[str, str]], status: str) -> dict[str, dict[str, str]]:
    """The stages of a job that has ended: the one under way ended as the job did."""
    moment = now().isoformat()
    return {
        stage: {**one, "status": status, "lastModifiedTime": moment} if one["status"] == "InProgress" else one
        for stage, one in details.items()
    }


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    run(Settings.read(Path(sys.argv[2])))
