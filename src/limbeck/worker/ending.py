"""How work ends, in the words of its row: which states are ends, and what a failure leaves behind.

job           Submitted, Validating, Scheduled, InProgress -> Completed | Failed | Expired; Stopping -> Stopped,
              or InProgress again if it had made its model before it could stop
deployment    Creating -> Active | Failed; then an update (`next`) comes and goes, and it stays Active
provisioned   Creating -> InService | Failed; then Updating -> InService
"""

from __future__ import annotations

from pathlib import Path

from limbeck.settings import Settings
from limbeck.storage.ledger import UNDER_WAY, Ledger
from limbeck.storage.reading import Row

__all__ = ["READY", "fail", "is_due", "log_of"]

READY = {"custom-model-deployment": "Active", "provisioned-model": "InService"}
"""Of what stands, and is never done: an update may be under way."""

FAILURE_CHARACTERS = 2048
"""The longest failure message the API takes."""


def is_due(row: Row) -> bool:
    """Whether there is work to do for a row, or to stop."""
    return row.status in (*UNDER_WAY, "Stopping") or (row.status in READY.values() and "next" in row.facts)


def fail(arn: str, why: str, ledger: Ledger) -> None:
    """The work for a row failed.

    A model that was registered before stays, and the row names it. A failed update leaves what stands as it was, with
    the old model.
    """
    row = ledger.row(arn)
    if row is None:
        return
    made, coming = row.facts.get("registered"), row.facts.get("next")
    also = f"; the model was made before that, and is there: {made}" if made else ""
    message = {"failureMessage": why[: FAILURE_CHARACTERS - len(also)] + also}
    if coming is None:
        ledger.change(arn, "Failed", UNDER_WAY, message, end=True, model=made or row.model)
        return
    details = {"updateDetails": {"modelArn": coming["model"], "updateStatus": "UpdateFailed"}}
    ledger.change(arn, READY[row.kind], (*READY.values(), "Updating"), {**message, **details}, without=("next",))


def log_of(arn: str, settings: Settings) -> Path:
    """What the children of a job say; whoever does the job holds a lock on it."""
    return settings.logs / f"{arn.rsplit('/', 1)[-1]}.log"
