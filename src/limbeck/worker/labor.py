"""The child: does one job, and writes into its row how it goes and how it ended.

    python -m limbeck.worker.labor PARENT ARN HOME

Ends with status 0 when the row says how the job ended, with 130 when it stopped as asked. Anything else is a crash,
and the parent begins it again: every kind of job goes on from what is on disk. A second child of one job, begun by a
worker that took the first's for dead, waits for it and then does what is left: most often nothing.
"""

from __future__ import annotations

import fcntl
import logging
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from limbeck.errors import LimbeckError, Stopped, is_full
from limbeck.jobs.child import die_with_parent
from limbeck.progress import StopSignal
from limbeck.settings import Settings
from limbeck.storage.database import AWAY, engine_of
from limbeck.storage.ledger import UNDER_WAY, Ledger
from limbeck.storage.objects import Objects, open_objects
from limbeck.storage.reading import Row
from limbeck.worker.ending import READY, fail, is_due, log_of

__all__ = ["STOPPED", "Bench", "main"]

STOPPED = 130
"""The status with which a child says that it stopped as asked."""

AGAIN = 75
"""The status with which it says that the database was away: what is done is on disk (EX_TEMPFAIL of sysexits.h)."""

WAIT_SECONDS = 0.2
"""Between two looks whether another child of the same job has ended."""


class Bench:
    """What a job is done with."""

    def __init__(self, settings: Settings, ledger: Ledger, objects: Objects, stop: StopSignal) -> None:
        self.settings, self.ledger, self.objects, self.stop = settings, ledger, objects, stop

    def is_unwanted(self, row: Row) -> bool:
        """Whether somebody asked for the job of ``row`` to be stopped."""
        current = self.ledger.row(row.arn)
        return current is not None and current.status == "Stopping"


Work = Callable[[Row, Bench], tuple[str, Mapping[str, Any], str | None]]
"""Does a job; gives the status it ends in, facts to add, and the ARN of a model it made."""


def main(parent: int, arn: str, home: str) -> int:
    """Do the job ``arn``, as a child of the process ``parent``."""
    die_with_parent(parent)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    stop = StopSignal()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    settings = Settings.read(Path(home))
    ledger = Ledger(engine_of(settings.database))
    with log_of(arn, settings).open("ab") as alone:
        while not _locked(alone):
            if stop.is_set():
                return STOPPED
            time.sleep(WAIT_SECONDS)
        row = ledger.row(arn)
        if row is None or not is_due(row):
            return 0
        return _do(row, Bench(settings, ledger, open_objects(settings), stop))


def _do(row: Row, bench: Bench) -> int:
    try:
        status, facts, model = _work(row.kind)(row, bench)
        if model is not None:
            bench.ledger.tag(model, _tags(row))
    except Stopped:
        return STOPPED
    except AWAY:
        traceback.print_exc()
        return AGAIN
    except LimbeckError as error:
        fail(row.arn, str(error), bench.ledger)
    except Exception as error:
        traceback.print_exc()
        why = "the service's disk is full" if is_full(error) else "a fault of ours, not of the job"
        fail(row.arn, f"{why}: {type(error).__name__}: {error}", bench.ledger)
    else:
        columns: dict[str, Any] = {} if model is None else {"model": model}
        # A wish to stop that comes when all is done and published comes too late.
        among = (*UNDER_WAY, *READY.values(), "Stopping")
        bench.ledger.change(row.arn, status, among, facts, end=True, without=("next",), **columns)
    return 0


def _tags(row: Row) -> dict[str, str]:
    """Those the request of a job had for the model it makes."""
    asked = (*row.request.get("customModelTags", ()), *row.request.get("importedModelTags", ()))
    return {tag["key"]: tag["value"] for tag in asked}


def _locked(file: IO[bytes]) -> bool:
    """Whether the file is ours alone now; it stays so until this process ends, however it ends."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _work(kind: str) -> Work:
    """The function for a kind of job; its module is imported only now, since some of them import torch."""
    match kind:
        case "model-customization-job":
            from limbeck.worker.customization import customize

            return customize
        case "custom-model-deployment" | "provisioned-model":
            from limbeck.worker.readying import ready

            return ready
        case "model-import-job" | "custom-model":
            from limbeck.worker.importing import bring_in

            return bring_in
        case "model-invocation-job":
            from limbeck.worker.batch import answer_batch

            return answer_batch
        case "evaluation-job":
            from limbeck.worker.evaluation import evaluate

            return evaluate
        case _:
            raise LimbeckError(f"no worker does a {kind}")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
