"""Custom models as AWS names them: those of the registry that are neither base models nor imported ones.

What is known of them is put together anew when the registry changes, and not with each request. Whether their files are
still there is looked at by whoever shows or uses one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from limbeck.arns import Arns
from limbeck.models.catalog import custom_models
from limbeck.records import CustomModel
from limbeck.settings import Settings
from limbeck.storage.reading import Row
from limbeck.storage.workspace import MANIFEST

__all__ = ["Registered", "Shelf", "in_the_making"]

KINDS = {
    "distillation": "DISTILLATION",
    "fine-tuning": "FINE_TUNING",
    "continued-pre-training": "CONTINUED_PRE_TRAINING",
    "adopted": "IMPORTED",
}
"""The kinds of registered models that are custom models; imported ones are listed elsewhere."""

UNKNOWN = "local.unknown"
"""The base of a model whose weights nobody has looked at yet, since a list must name one."""


@dataclass(frozen=True)
class Registered:
    """A registered model under the names AWS gives it."""

    model: CustomModel
    arn: str
    base_id: str
    base_arn: str
    """Of the model it was made from, which may itself be a custom model."""
    foundation_arn: str
    created: datetime
    mark: Path
    """What was written last of its files."""
    position: tuple[str, str]
    """In lists: by time of creation and ARN."""
    status: str = "Active"
    """Another has a model that is not registered: it is Creating, or has Failed."""

    @property
    def customization_type(self) -> str:
        """How it was made."""
        return KINDS[self.model.kind]

    def is_there(self) -> bool:
        """Whether its files are, if it is registered."""
        return self.status != "Active" or self.mark.exists()


class Shelf:
    """The custom models of one home."""

    def __init__(self, settings: Settings, arns: Arns) -> None:
        self._settings, self._arns = settings, arns
        self._seen: tuple[Mapping[str, CustomModel], Sequence[Registered]] = {}, ()
        self._found: Mapping[str, Registered] = {}

    def all(self) -> Sequence[Registered]:
        """Every one."""
        models = custom_models(self._settings)
        seen, known = self._seen
        if models is not seen:
            ours = [model for model in models.values() if model.kind in KINDS]
            known = [one for model in ours if (one := _registered(model, models, self._arns)) is not None]
            self._found = {**{one.arn: one for one in known}, **{one.model.name: one for one in known}}
            if len(known) == len(ours):  # files that are gone may come back: then it is looked again
                self._seen = models, known
        return known

    def find(self, identifier: str) -> Registered | None:
        """The one of that name or ARN, if its files are there."""
        self.all()
        found = self._found.get(identifier)
        return found if found is not None and found.is_there() else None

    def lost(self, identifier: str) -> CustomModel | None:
        """The one registered under that name or ARN, if its files are gone."""
        if self.find(identifier) is not None:
            return None
        ours = (model for model in custom_models(self._settings).values() if model.kind in KINDS)
        return next((model for model in ours if identifier in (model.name, model.lineage.get("arn"))), None)


def in_the_making(row: Row, arns: Arns) -> Registered:
    """What CreateCustomModel was asked for and is not there, as a list has it; its base has no name yet.

    What was Active has Failed: its files are gone.
    """
    model = CustomModel(row.name, Path(), "adopted", UNKNOWN, "", {})
    base_arn, position = arns.foundation_model(UNKNOWN), _position(row.created, row.arn)
    status = "Failed" if row.status == "Active" else row.status
    return Registered(model, row.arn, UNKNOWN, base_arn, base_arn, row.created, Path(), position, status)


def _position(created: datetime, arn: str) -> tuple[str, str]:
    return created.isoformat(timespec="microseconds"), arn


def _registered(model: CustomModel, models: Mapping[str, CustomModel], arns: Arns) -> Registered | None:
    """A model under AWS's names, or None where its files are gone.

    Its base may be another of ``models``: then its base's ARN is that one's.
    """
    mark = model.path if model.kind == "adopted" else model.path / MANIFEST
    if not mark.exists():
        return None
    root = _base_id(model, models)
    foundation = arns.foundation_model(root)
    parent = models.get(model.base)
    base_arn = model.lineage.get("base_arn") or (foundation if parent is None else _arn(parent, models, arns))
    created = datetime.fromtimestamp(mark.stat().st_mtime, UTC)
    arn = _arn(model, models, arns)
    return Registered(model, arn, root, base_arn, foundation, created, mark, _position(created, arn))


def _arn(model: CustomModel, models: Mapping[str, CustomModel], arns: Arns) -> str:
    given = model.lineage.get("arn")
    return str(given) if given else arns.custom_model(_base_id(model, models), model.name, model.fingerprint)


def _base_id(model: CustomModel, models: Mapping[str, CustomModel]) -> str:
    """The id of the base model it descends from, through however many others."""
    given = model.lineage.get("base_id")
    if given:
        return str(given)
    seen = {model.name}
    while model.base in models and model.base not in seen:
        model = models[model.base]
        seen.add(model.name)
    return Arns.id_of(model.base)
