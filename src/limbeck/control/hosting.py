"""What a model identifier stands for: a base, custom or imported model, a deployment, provisioned throughput."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from limbeck.control.desk import Desk
from limbeck.control.models import find_custom_model, usable_entry
from limbeck.errors import InvalidInput, NotReady
from limbeck.models.catalog import catalog, custom_models
from limbeck.records import Hosted

__all__ = ["INVALID", "find_imported", "invocable", "resolve"]

INVALID = "The provided model identifier is invalid."
"""The words Bedrock's users know, and search for."""

READY = {"custom-model-deployment": ("Active",), "provisioned-model": ("InService", "Updating")}


def resolve(identifier: str, desk: Desk) -> Hosted:
    """What ``identifier`` stands for; a name that a model has is the model's, whatever else has it.

    Raises `InvalidInput` for nothing, `NotReady` for what is still being made.
    """
    entry = usable_entry(identifier, desk)
    if entry is not None:
        return Hosted(desk.arns.foundation_model(entry.id), entry.id)
    made = find_custom_model(identifier, desk)
    if made is not None:
        return Hosted(made.arn, made.model.name)
    imported = find_imported(identifier, desk)
    if imported is not None:
        return Hosted(identifier, imported, imported=True)
    for kind, ready in READY.items():
        row = desk.ledger.find(kind, identifier)
        if row is not None:
            if row.status not in ready:
                raise NotReady(f"{kind} {row.name} is {row.status}; ask again when it is {ready[0]}")
            return Hosted(row.arn, str(row.facts["hosts"]))
    raise InvalidInput(INVALID)


def invocable(desk: Desk) -> Iterator[tuple[str, int]]:
    """Everything that can be invoked by a name, and when it was made (seconds since 1970; 0 for base models)."""
    for entry in catalog(desk.settings).values():
        if entry.elsewhere is None:
            yield entry.id, 0
    for model in custom_models(desk.settings).values():
        with suppress(FileNotFoundError):  # removed meanwhile
            yield model.name, int((desk.settings.models / f"{model.name}.json").stat().st_mtime)
    for kind, ready in READY.items():
        for row in desk.ledger.some(1000, kind=kind, statuses=ready):
            yield row.name, int(row.created.timestamp())


def find_imported(identifier: str, desk: Desk) -> str | None:
    """The name of the imported model of that ARN or name, if it is one."""
    models = custom_models(desk.settings)
    if identifier in models:
        return identifier if models[identifier].kind == "imported" else None
    if ":imported-model/" not in identifier:
        return None  # asked with every request to a deployment: nothing is gone through for it
    imported = (model for model in models.values() if model.kind == "imported")
    return next((model.name for model in imported if model.lineage["arn"] == identifier), None)
