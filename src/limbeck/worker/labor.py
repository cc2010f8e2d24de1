"""The child: does one job, and writes into its row how it goes and how it ended.

    python -m limbeck.worker.labor ARN PARENT HOME

Ends with status 0 when the row says how the job ended, with 130 when it stopped as asked. Anything else is a crash,
and the parent begins it again: every kind of job goes on from what is on disk.
"""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from limbeck.errors import LimbeckError, Stopped
from limbeck.jobs.child import die_with_parent
from limbeck.progress import StopSignal
from limbeck.settings import Settings
from limbeck.storage.database import Resource, engine_of
from limbeck.storage.ledger import Ledger
from limbeck.storage.objects import Objects, open_objects
from limbeck.worker.shift import STOPPED, closed

__all__ = ["Bench", "main"]

FAILURE_CHARACTERS = 2048
"""The longest failure message the API takes."""


class Bench:
    """What a job is done with."""

    def __init__(self, settings: Settings, ledger: Ledger, objects: Objects, stop: StopSignal) -> None:
        self.settings, self.ledger, self.objects, self.stop = settings, ledger, objects, stop


Work = Callable[[Resource, Bench], tuple[str, Mapping[str, Any], str | None]]
"""Does a job; gives the status it ends in, facts to add, and the ARN of a model it made."""


def main(arn: str, parent: int, home: Path) -> int:
    """Do the job ``arn``."""
    die_with_parent(parent)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    stop = StopSignal()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    settings = Settings.read(home)
    ledger = Ledger(engine_of(settings.database))
    row = ledger.row(arn)
    if row is None:
        return 0
    bench = Bench(settings, ledger, open_objects(settings), stop)
    failure: str | None = None
    facts: Mapping[str, Any] = {}
    model: str | None = None
    try:
        status, facts, model = _work(row.kind)(row, bench)
    except Stopped:
        return STOPPED
    except LimbeckError as error:
        status, failure = "Failed", str(error)
    except Exception as error:
        traceback.print_exc()
        status, failure = "Failed", f"a fault of ours, not of the job: {type(error).__name__}: {error}"
    _finish(
        ledger, arn, status, {**facts, **({"failureMessage": failure[:FAILURE_CHARACTERS]} if failure else {})}, model
    )
    return 0


def _finish(ledger: Ledger, arn: str, status: str, facts: Mapping[str, Any], model: str | None) -> None:
    row = ledger.row(arn)
    if row is None:
        return
    details = row.facts.get("statusDetails")
    if details is not None:
        facts = {**facts, "statusDetails": closed(details, status)}
    columns = {} if model is None else {"model": model}
    among = ("InProgress", "Creating", "Updating", "Active", "Submitted", "Validating", "Scheduled")
    ledger.change(arn, status, among, facts, end=True, without=("next",), **columns)


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
    sys.exit(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
