"""Sees to it that a model can be hosted, then makes the name that waits for it ready, or moves it to its new model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limbeck.models.catalog import find
from limbeck.models.gguf_cache import gguf_of
from limbeck.storage.reading import Row
from limbeck.worker.ending import READY
from limbeck.worker.labor import Bench

__all__ = ["ready"]


def ready(row: Row, bench: Bench) -> tuple[str, Mapping[str, Any], str | None]:
    """The row's model, or the next one if an update waits, in the form its replicas read."""
    coming = row.facts.get("next")
    if coming is None:
        gguf_of(find(row.facts["hosts"], bench.settings), bench.settings)
        return READY[row.kind], {}, None
    gguf_of(find(coming["hosts"], bench.settings), bench.settings)
    done = {"modelArn": coming["model"], "updateStatus": "UpdateCompleted"}
    told = {"updateDetails": done, "failureMessage": None}  # of an update before
    return READY[row.kind], {"hosts": coming["hosts"], **told}, coming["model"]
