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
from contextlib import suppress
from pathlib import Path

from limbeck.jobs.child import GRACE_SECONDS, Child, die_with_parent, fork, program, spawn, supervise
from limbeck.jobs.queue import Laborers, Queue, open_database
from limbeck.jobs.stopping import end_waiting
from limbeck.settings import Settings
from limbeck.storage.database import AWAY
from limbeck.storage.ledger import Ledger
from limbeck.worker import labor
from limbeck.worker.ending import fail, is_due, log_of
from limbeck.worker.sweeping import sweep

__all__ = ["run"]

log = logging.getLogger(__name__)

QUEUES = {"jobs": 1, "hosting": 2}
"""How many jobs of each queue one worker does at once. A job computes on all threads; making ready is light."""

TRAINING = "model-customization-job"
"""The kind of job that needs torch."""

TOUCH_SECONDS = 15.0
"""How often a job under way is touched, so that whoever polls sees that it lives."""

LOOK_SECONDS = 0.5

AWAY_SECONDS = 2.0
"""Between two tries to reach a database that is away."""

ATTEMPTS = 3
"""How often a job is begun again after its process died, before it is given up."""


def run(settings: Settings) -> None:
    """Work until SIGINT or SIGTERM. What is under way then is gone on with by the next worker."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    sweep(settings)
    ledger = Ledger(open_database(settings.database))
    queue = Queue(ledger.engine)
    shift = Shift(settings, ledger, over.is_set)
    laborers = Laborers(ledger.engine, ledger, QUEUES, shift.work, lambda: end_waiting(ledger, queue))
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
        """See one job to its end, whatever that is: afterwards its row says Completed, Failed or Stopped.

        Where the database cannot be asked, that waits until it can.
        """
        while True:
            try:
                self._see_through_or_fail(arn)
                return
            except AWAY as error:
                log.warning("job %s: the database is away (%s); again in %g s", arn, error.orig, AWAY_SECONDS)
                time.sleep(AWAY_SECONDS)

    def _see_through_or_fail(self, arn: str) -> None:
        try:
            self._see_through(arn)
        except AWAY:
            raise
        except Exception:
            log.exception("job %s: a fault of the worker", arn)
            fail(arn, "a fault of the worker, not of the job; its log has more", self._ledger)
            self._ledger.change(arn, "Stopped", ("Stopping",), end=True)

    def _see_through(self, arn: str) -> None:
        deaths = 0
        while self._is_left(arn):
            status = self._child(arn)
            if self._over():
                threading.Event().wait()  # to return would tell the queue that the job is done
            if status == 0:  # ended well; what is left was asked for meanwhile, as the update of a deployment is
                continue
            deaths += 1
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            log.warning("job %s: its process %s, the %d. time", arn, how, deaths)
            if deaths == ATTEMPTS and self._is_left(arn):
                cause = " (out of memory?)" if status == -signal.SIGKILL else ""
                where = log_of(arn, self._settings).relative_to(self._settings.home)
                fail(
                    arn, f"the process doing the job {how}{cause}, {ATTEMPTS} times in a row; see {where}", self._ledger
                )

    def _is_left(self, arn: str) -> bool:
        """Whether something is to be done for a row: not if it ended, and not if it should stop, which it then has."""
        row = self._ledger.row(arn)
        if row is not None and row.status == "Stopping":
            self._ledger.change(arn, "Stopped", ("Stopping",), end=True)
            return False
        return row is not None and is_due(row)

    def wait_for_children(self, seconds: float) -> None:
        """Wait until no child runs any more, at most so long."""
        until = time.monotonic() + seconds
        while self._children and time.monotonic() < until:
            time.sleep(0.05)

    def _child(self, arn: str) -> int:
        looked = touched = time.monotonic()
        wanted = True

        def is_wanted() -> bool:
            nonlocal looked, wanted
            if time.monotonic() - looked >= LOOK_SECONDS:
                looked = time.monotonic()
                with suppress(*AWAY):
                    row = self._ledger.row(arn)
                    wanted = row is not None and row.status not in ("Stopping", "Stopped")
            return wanted and not self._over()

        def touch() -> None:
            nonlocal touched
            if time.monotonic() - touched >= TOUCH_SECONDS:
                touched = time.monotonic()
                with suppress(*AWAY):
                    self._ledger.change(arn)

        with self._lock:
            self._children += 1
        try:
            return supervise(self._begin(arn), is_wanted, touch)
        finally:
            with self._lock:
                self._children -= 1

    def _begin(self, arn: str) -> Child:
        """A job that trains is forked from a process that has torch loaded; the others do without."""
        home, told = str(self._settings.home), log_of(arn, self._settings)
        arguments = (str(os.getpid()), arn, home)
        if f":{TRAINING}/" not in arn:
            return spawn(program(labor.__name__, *arguments), told)
        return fork(labor.main, [arn, home], told, "limbeck.pipeline", " ".join((labor.__name__, *arguments)))


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    run(Settings.read(Path(sys.argv[2])))
