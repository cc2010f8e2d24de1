"""A job that is asked to stop before anybody has begun it ends where it waits, however long it would still wait.

Whoever takes up a job looks at its row first, and begins none that is Stopping. So a job that is in the queue *after*
its row says Stopping will not be begun any more, and can be called Stopped at once.
"""

from __future__ import annotations

from limbeck.jobs.queue import Queue
from limbeck.storage.ledger import Ledger

__all__ = ["MOST", "end_waiting"]

MOST = 100
"""Jobs looked at in one go."""


def end_waiting(ledger: Ledger, queue: Queue) -> None:
    """End the jobs that are Stopping and wait in the queue. The service does so when it is asked, workers all along:
    a job whose worker died comes back to the queue."""
    stopping = {arn.rsplit("/", 1)[-1]: arn for arn in ledger.arns("Stopping", MOST)}
    for job in queue.waiting(stopping) if stopping else ():
        ledger.change(stopping[job], "Stopped", ("Stopping",), end=True)
