"""Sees to it that a model can be hosted, then makes the name that waits for it ready, or moves it to its new model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limbeck.errors import LimbeckError
from limbeck.models.catalog import find
from limbeck.models.gguf_cache import gguf_of
from limbeck.storage.database import Resource
from limbeck.worker.labor import Bench

__all__ = ["ready"]

READY = {"custom-model-deployment": "Active", "provisioned-model": "InService"}


def ready(row: Resource, bench: Bench) -> tuple[str, Mapping[str, Any], str | None]:
    """The row's model, or the next one if an update waits, in the form its replicas read.

    An update that fails leaves the old model where it is.
    """
    coming = row.facts.get("next")
    if coming is None:
        gguf_of(find(row.facts["hosts"], bench.settings), bench.settings)
        return READY[row.kind], {}, None
    try:
        gguf_of(find(coming["hosts"], bench.settings), bench.settings)
    except LimbeckError as error:
        failed = {"modelArn": coming["model"], "updateStatus": "UpdateFailed"}
        return READY[row.kind], {"updateDetails": failed, "failureMessage": str(error)[:2048]}, None
    done = {"modelArn": coming["model"], "updateStatus": "UpdateCompleted"}
    return READY[row.kind], {"hosts": coming["hosts"], "updateDetails": done}, coming["model"]
