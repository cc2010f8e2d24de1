"""The control plane: one plain function for each operation, named as the API names it.

A function gets what was asked (`Asked`: plain values, checked against the operation's shape) and the settings, and
returns the answer's members. It knows nothing of HTTP, and never reaches torch.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from limbeck.arns import Arns
from limbeck.errors import InvalidInput, UnknownModel
from limbeck.models.catalog import CatalogEntry, catalog, custom_models, remove
from limbeck.records import CustomModel
from limbeck.settings import Settings
from limbeck.storage.workspace import MANIFEST

__all__ = [
    "OPERATIONS",
    "delete_custom_model",
    "get_custom_model",
    "get_foundation_model",
    "get_foundation_model_availability",
    "list_custom_models",
    "list_foundation_models",
]

Asked = Mapping[str, Any]
Answered = dict[str, Any]

CUSTOMIZATIONS = ("FINE_TUNING", "DISTILLATION")
"""What can be done with every base model: any of them fine-tuned, any of them a student."""

KINDS = {
    "distillation": "DISTILLATION",
    "fine-tuning": "FINE_TUNING",
    "continued-pre-training": "CONTINUED_PRE_TRAINING",
}
PAGE = 100
"""Items on a page when nobody says how many."""


def list_foundation_models(asked: Asked, settings: Settings) -> Answered:
    """The catalog, filtered. Not paged, as AWS does not page it."""

    def wanted(details: Mapping[str, Any]) -> bool:
        among = (
            ("byCustomizationType", details["customizationsSupported"]),
            ("byOutputModality", details["outputModalities"]),
            ("byInferenceType", details["inferenceTypesSupported"]),
        )
        provider = asked.get("byProvider")
        return all(asked.get(key) in (None, *values) for key, values in among) and (
            provider is None or provider.casefold() == details["providerName"].casefold()
        )

    found = [_foundation_model(entry, settings) for entry in catalog(settings).values()]
    return {"modelSummaries": [details for details in found if wanted(details)]}


def get_foundation_model(asked: Asked, settings: Settings) -> Answered:
    """One base model, by id or ARN."""
    return {"modelDetails": _foundation_model(_entry(asked["modelIdentifier"], settings), settings)}


def get_foundation_model_availability(asked: Asked, settings: Settings) -> Answered:
    """Whether a base model can be used: here, always."""
    return {
        "modelId": _entry(asked["modelId"], settings).id,
        "agreementAvailability": {"status": "AVAILABLE"},
        "authorizationStatus": "AUTHORIZED",
        "entitlementAvailability": "AVAILABLE",
        "regionAvailability": "AVAILABLE",
    }


def list_custom_models(asked: Asked, settings: Settings) -> Answered:
    """The registered models, filtered, sorted by time of creation (newest first unless asked otherwise), paged."""
    fits: Mapping[str, Callable[[_Registered, Any], bool]] = {
        "creationTimeBefore": lambda one, moment: one.created < moment,
        "creationTimeAfter": lambda one, moment: one.created > moment,
        "nameContains": lambda one, part: part in one.model.name,
        "baseModelArnEquals": lambda one, arn: arn == one.base_arn,
        "foundationModelArnEquals": lambda one, arn: arn == one.foundation_arn,
        "isOwned": lambda one, owned: bool(owned),
        "modelStatus": lambda one, status: status == "Active",
    }
    said = {key: asked[key] for key in fits if key in asked}
    chosen = [one for one in _registered(settings) if all(fits[key](one, value) for key, value in said.items())]
    page, token = _page(chosen, asked)
    summaries = [
        {
            "modelArn": one.arn,
            "modelName": one.model.name,
            "creationTime": one.created,
            "baseModelArn": one.base_arn,
            "baseModelName": one.base_id.split(":")[0],
            "customizationType": KINDS[one.model.kind],
            "ownerAccountId": settings.account,
            "modelStatus": "Active",
        }
        for one in page
    ]
    return {"modelSummaries": summaries, "nextToken": token}


def get_custom_model(asked: Asked, settings: Settings) -> Answered:
    """One registered model, by name or ARN, with its last training loss and its validation loss."""
    one = _custom_model(asked["modelIdentifier"], settings)
    losses = {name: loss for name, loss in (one.model.lineage.get("losses") or {}).items() if _finite(loss)}
    return {
        "modelArn": one.arn,
        "modelName": one.model.name,
        "baseModelArn": one.base_arn,
        "customizationType": KINDS[one.model.kind],
        "trainingMetrics": {"trainingLoss": losses["training_loss"]} if "training_loss" in losses else None,
        "validationMetrics": [{"validationLoss": losses["validation_loss"]}] if "validation_loss" in losses else [],
        "creationTime": one.created,
        "modelStatus": "Active",
    }


def delete_custom_model(asked: Asked, settings: Settings) -> Answered:
    """Unregister a model and delete its weights."""
    remove(_custom_model(asked["modelIdentifier"], settings).model.name, settings)
    return {}


OPERATIONS: Mapping[str, Callable[[Asked, Settings], Answered]] = {
    "DeleteCustomModel": delete_custom_model,
    "GetCustomModel": get_custom_model,
    "GetFoundationModel": get_foundation_model,
    "GetFoundationModelAvailability": get_foundation_model_availability,
    "ListCustomModels": list_custom_models,
    "ListFoundationModels": list_foundation_models,
}


@dataclass(frozen=True)
class _Registered:
    """A registered model under the names AWS gives it."""

    model: CustomModel
    arn: str
    base_id: str
    base_arn: str
    foundation_arn: str
    created: datetime


def _registered(settings: Settings) -> Iterator[_Registered]:
    """The registered models. The base of one may be another of them: then its ARN is that one's."""
    models = {model.name: model for model in custom_models(settings)}
    arns = Arns(settings.region, settings.account)

    def base_id(model: CustomModel) -> str:
        seen = {model.name}
        while model.base in models and model.base not in seen:
            model = models[model.base]
            seen.add(model.name)
        return Arns.id_of(model.base)

    for model in models.values():
        root = base_id(model)
        foundation = arns.foundation_model(root)
        parent = models.get(model.base)
        base_arn = foundation if parent is None else arns.custom_model(root, parent.name, parent.fingerprint)
        manifest = model.path / MANIFEST
        if manifest.exists():  # else its files are gone, and it is no model any more
            created = datetime.fromtimestamp(manifest.stat().st_mtime, UTC)
            arn = arns.custom_model(root, model.name, model.fingerprint)
            yield _Registered(model, arn, root, base_arn, foundation, created)


def _custom_model(identifier: str, settings: Settings) -> _Registered:
    for one in _registered(settings):
        if identifier in (one.arn, one.model.name):
            return one
    raise UnknownModel(f'no custom model "{identifier}"; ListCustomModels says which there are')


def _entry(identifier: str, settings: Settings) -> CatalogEntry:
    known = catalog(settings)
    arns = Arns(settings.region, settings.account)
    for entry in known.values():
        if identifier in (entry.id, arns.foundation_model(entry.id)):
            return entry
    raise UnknownModel(f'no base model "{identifier}"; ListFoundationModels says which there are')


def _foundation_model(entry: CatalogEntry, settings: Settings) -> Answered:
    return {
        "modelArn": Arns(settings.region, settings.account).foundation_model(entry.id),
        "modelId": entry.id,
        "modelName": entry.name,
        "providerName": entry.provider,
        "inputModalities": list(entry.input_modalities),
        "outputModalities": list(entry.output_modalities),
        "responseStreamingSupported": True,
        "customizationsSupported": list(CUSTOMIZATIONS),
        "inferenceTypesSupported": ["ON_DEMAND", "PROVISIONED"],
        "modelLifecycle": {"status": "ACTIVE"},
    }


def _finite(loss: Any) -> bool:
    """A job without validation rows has no validation loss: it is kept as not a number."""
    return isinstance(loss, float) and math.isfinite(loss)


def _page(rows: Sequence[_Registered], asked: Asked) -> tuple[list[_Registered], str | None]:
    """A page of ``rows`` and the token of the next. The token names the last row shown, so rows that come or go
    between two pages neither repeat nor hide another."""
    newest_first = asked.get("sortOrder", "Descending") == "Descending"

    def key(one: _Registered) -> tuple[float, str]:
        return one.created.timestamp(), one.arn

    ordered = sorted(rows, key=key, reverse=newest_first)
    if asked.get("nextToken"):
        last = _position(asked["nextToken"])
        ordered = [one for one in ordered if (key(one) < last if newest_first else key(one) > last)]
    size = asked.get("maxResults", PAGE)
    token = None
    if len(ordered) > size:
        token = base64.urlsafe_b64encode(json.dumps(key(ordered[size - 1])).encode()).decode()
    return ordered[:size], token


def _position(token: str) -> tuple[float, str]:
    try:
        moment, arn = json.loads(base64.urlsafe_b64decode(token.encode()))
        return float(moment), str(arn)
    except (ValueError, TypeError, binascii.Error):
        raise InvalidInput(f'nextToken "{token[:80]}" is none of ours; begin again without it') from None
