"""Base models of the catalog and custom models of the registry: listed, described, imported from files, deleted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.orm import Session

from limbeck.control.desk import Answered, Asked, Desk, models_of, once, page_of
from limbeck.control.shelf import Registered, in_the_making
from limbeck.errors import Conflict, InvalidInput, UnknownModel
from limbeck.models.catalog import CatalogEntry, catalog, remove
from limbeck.storage.ledger import UNDER_WAY
from limbeck.storage.reading import Row

__all__ = [
    "base_entry",
    "create_custom_model",
    "custom_model",
    "delete_custom_model",
    "get_custom_model",
    "get_foundation_model",
    "get_foundation_model_availability",
    "list_custom_models",
    "list_foundation_models",
    "usable_entry",
]

CUSTOMIZATIONS = ("FINE_TUNING", "CONTINUED_PRE_TRAINING", "DISTILLATION")
"""What can be done with every base model: any of them fine-tuned or trained on plain text, any of them a student."""

STANDING = ("custom-model-deployment", "provisioned-model")
"""What may stand on a model, whatever its state, and keeps it from being deleted."""

WORKING = ("model-customization-job", "model-invocation-job", "evaluation-job")
"""What may work with a model, and keeps it from being deleted until it has ended."""


def list_foundation_models(asked: Asked, desk: Desk) -> Answered:
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

    found = [_foundation_model(entry, desk) for entry in catalog(desk.settings).values()]
    return {"modelSummaries": [details for details in found if wanted(details)]}


def get_foundation_model(asked: Asked, desk: Desk) -> Answered:
    """One base model, by id or ARN."""
    return {"modelDetails": _foundation_model(_entry(asked["modelIdentifier"], desk), desk)}


def get_foundation_model_availability(asked: Asked, desk: Desk) -> Answered:
    """Whether a base model can be used: here, always."""
    return {
        "modelId": _entry(asked["modelId"], desk).id,
        "agreementAvailability": {"status": "AVAILABLE"},
        "authorizationStatus": "AUTHORIZED",
        "entitlementAvailability": "AVAILABLE",
        "regionAvailability": "AVAILABLE",
    }


@once("CreateCustomModel", "modelArn")
def create_custom_model(asked: Asked, desk: Desk) -> Answered:
    """A custom model from a folder of weights in a bucket: checked and adopted in the background."""
    source = (asked.get("modelSourceConfig") or {}).get("s3DataSource")
    if source is None:
        raise InvalidInput("modelSourceConfig.s3DataSource: missing; expected the s3:// URI of a folder of weights")
    desk.check_source(source["s3Uri"])
    name = asked["modelName"]
    arn = desk.order(
        "custom-model",
        name,
        "Creating",
        asked,
        "CreateCustomModel",
        base="imported",
        facts={"source": source["s3Uri"], "model": name},
        tags="modelTags",
        check=lambda session: check_model_name(name, desk, session),
    )
    return {"modelArn": arn}


def list_custom_models(asked: Asked, desk: Desk) -> Answered:
    """The models registered, being made, not made and lost, filtered, sorted by time of creation (newest first unless
    asked otherwise), paged.
    """
    fits: Mapping[str, Callable[[Registered, Any], bool]] = {
        "creationTimeBefore": lambda one, moment: one.created < moment,
        "creationTimeAfter": lambda one, moment: one.created > moment,
        "nameContains": lambda one, part: part in one.model.name,
        "baseModelArnEquals": lambda one, arn: arn == one.base_arn,
        "foundationModelArnEquals": lambda one, arn: arn == one.foundation_arn,
        "isOwned": lambda one, owned: bool(owned),
        "modelStatus": lambda one, status: status == one.status,
    }
    said = {key: asked[key] for key in fits if key in asked}
    registered = desk.shelf.all()
    rows = desk.ledger.some(1000, kind="custom-model")
    coming = [in_the_making(row, desk.arns) for row in rows if desk.shelf.find(row.arn) is None]
    chosen = [one for one in (*registered, *coming) if all(fits[key](one, value) for key, value in said.items())]
    page, token = page_of(chosen, lambda one: one.position, asked)
    summaries = [
        {
            "modelArn": one.arn,
            "modelName": one.model.name,
            "creationTime": one.created,
            "baseModelArn": one.base_arn,
            "baseModelName": desk.arns.name_of(one.base_id),
            "customizationType": one.customization_type,
            "ownerAccountId": desk.settings.account,
            "modelStatus": one.status,
        }
        for one in page
        if one.is_there()
    ]
    return {"modelSummaries": summaries, "nextToken": token}


def get_custom_model(asked: Asked, desk: Desk) -> Answered:
    """One registered model, by name or ARN: its losses, and what the job that made it was asked."""
    identifier = asked["modelIdentifier"]
    one = find_custom_model(identifier, desk)
    if one is None:
        return _in_the_making(identifier, desk)
    losses = {name: loss for name, loss in (one.model.lineage.get("losses") or {}).items() if _finite(loss)}
    answer = {
        "modelArn": one.arn,
        "modelName": one.model.name,
        "baseModelArn": one.base_arn,
        "customizationType": one.customization_type,
        "trainingMetrics": {"trainingLoss": losses["training_loss"]} if "training_loss" in losses else None,
        "validationMetrics": [{"validationLoss": losses["validation_loss"]}] if "validation_loss" in losses else [],
        "creationTime": one.created,
        "modelStatus": "Active",
    }
    brought = desk.ledger.row(one.arn)
    if brought is not None:
        answer["modelKmsKeyArn"] = brought.request.get("modelKmsKeyArn")
    made_by = desk.ledger.some(1, kind="model-customization-job", model=one.arn)
    for job in made_by:
        copied = ("hyperParameters", "trainingMetrics", "validationMetrics")
        asked_then = ("trainingDataConfig", "validationDataConfig", "outputDataConfig", "customizationConfig")
        answer |= {key: job.facts[key] for key in copied if key in job.facts}
        answer |= {key: job.request[key] for key in asked_then if key in job.request}
        encrypted_by = desk.arns.kms_key(job.request.get("customModelKmsKeyId"))
        answer |= {"jobArn": job.arn, "jobName": job.name, "modelKmsKeyArn": encrypted_by}
    return answer


def delete_custom_model(asked: Asked, desk: Desk) -> Answered:
    """Unregister a model and delete its weights, or forget one that could not be made, or whose files are gone.

    Raises `Conflict` while it is used.
    """
    identifier = asked["modelIdentifier"]
    if (one := find_custom_model(identifier, desk)) is not None:
        delete_unused(one.model.name, desk)
        desk.ledger.remove(one.arn)
    elif (lost := desk.shelf.lost(identifier)) is not None:
        delete_unused(lost.name, desk)
        desk.ledger.remove(lost.lineage.get("arn", ""))
    else:
        row = _row_in_the_making(identifier, desk)
        if row.status == "Creating":
            raise Conflict(f'model "{row.name}" is Creating; delete it when it is Active or Failed')
        desk.ledger.remove(row.arn)
    return {}


def delete_unused(name: str, desk: Desk) -> None:
    """Unregister the model called ``name`` and delete its weights.

    Raises `Conflict` while something stands on it, is being moved to it, or works with it. Nobody orders such a thing
    meanwhile.
    """
    with desk.ledger.alone() as session:
        standing = desk.ledger.some(1000, within=session, kinds=STANDING)
        working = desk.ledger.some(1000, within=session, kinds=WORKING, statuses=(*UNDER_WAY, "Stopping"))
        users = [f"{row.kind} {row.name}" for row in (*standing, *working) if name in _models_of(row, desk)]
        if users:
            raise Conflict(f'model "{name}" is in use by {", ".join(users[:3])}; delete or stop that first')
        remove(name, desk.settings)


def find_custom_model(identifier: str, desk: Desk) -> Registered | None:
    """The custom model of that name or ARN."""
    return desk.shelf.find(identifier)


def custom_model(identifier: str, desk: Desk) -> Registered:
    """The custom model of that name or ARN. Raises `UnknownModel`."""
    found = find_custom_model(identifier, desk)
    if found is None:
        raise UnknownModel(f'no custom model "{identifier}"; ListCustomModels says which there are')
    return found


def base_entry(identifier: str, desk: Desk) -> CatalogEntry | None:
    """The base model of that id or ARN, or of that inference profile: an id or ARN with the prefix of a geography."""
    bare = identifier.removeprefix(desk.arns.foundation_model(""))
    bare = bare.removeprefix(desk.arns.resource("inference-profile", ""))
    known = catalog(desk.settings)
    head, _, rest = bare.partition(".")
    return known.get(bare) or (known.get(rest) if head in GEOGRAPHIES else None)


def usable_entry(identifier: str, desk: Desk, to_teach: bool = False) -> CatalogEntry | None:
    """As `base_entry`, for a model that is to do something.

    Raises `InvalidInput` for a legacy one, and for one behind an address where it is not ``to_teach``.
    """
    entry = base_entry(identifier, desk)
    if entry is not None and entry.elsewhere is not None and not to_teach:
        raise InvalidInput(f"{entry.id} can only teach: its weights are not here")
    if entry is not None and entry.lifecycle == "LEGACY":
        raise InvalidInput(f"{entry.id} is LEGACY and cannot be used; ListFoundationModels says which are ACTIVE")
    return entry


GEOGRAPHIES = ("us", "eu", "apac", "us-gov", "global")


def check_model_name(name: str, desk: Desk, within: Session | None = None) -> None:
    """Refuse a name that a model has, or a job under way will give; ``within`` the transaction that makes another.

    Raises `Conflict`.
    """
    if (desk.settings.models / f"{name}.json").exists():
        raise Conflict(f'a model named "{name}" is there already; choose another name')
    ongoing = desk.ledger.some(
        1000,
        within=within,
        kinds=("model-customization-job", "model-import-job", "custom-model"),
        statuses=("InProgress", "Stopping", "Creating"),
    )
    for job in ongoing:
        if job.facts.get("model") == name:
            raise Conflict(f'{job.arn} is making a model named "{name}"; choose another name')


def _models_of(row: Row, desk: Desk) -> set[str]:
    return models_of(row.facts, desk.ledger.recipe(row.arn) if row.kind == "model-customization-job" else None)


def _in_the_making(identifier: str, desk: Desk) -> Answered:
    row = _row_in_the_making(identifier, desk)
    failure = row.facts.get("failureMessage")
    if row.status == "Active":
        lost = desk.shelf.lost(identifier)
        place = desk.settings.imported / row.arn.rsplit("/", 1)[-1] if lost is None else lost.path
        failure = f"its files are gone from {place}; put them back, or delete the model"
    return {
        "modelArn": row.arn,
        "modelName": row.name,
        "customizationType": "IMPORTED",
        "modelKmsKeyArn": row.request.get("modelKmsKeyArn"),
        "creationTime": row.created,
        "modelStatus": in_the_making(row, desk.arns).status,
        "failureMessage": failure,
    }


def _row_in_the_making(identifier: str, desk: Desk) -> Row:
    row = desk.ledger.find("custom-model", identifier)
    if row is None:
        raise UnknownModel(f'no custom model "{identifier}"; ListCustomModels says which there are')
    return row


def _entry(identifier: str, desk: Desk) -> CatalogEntry:
    found = base_entry(identifier, desk)
    if found is None:
        raise UnknownModel(f'no base model "{identifier}"; ListFoundationModels says which there are')
    return found


def _foundation_model(entry: CatalogEntry, desk: Desk) -> Answered:
    return {
        "modelArn": desk.arns.foundation_model(entry.id),
        "modelId": entry.id,
        "modelName": entry.name,
        "providerName": entry.provider,
        "inputModalities": list(entry.input_modalities),
        "outputModalities": list(entry.output_modalities),
        "responseStreamingSupported": True,
        "customizationsSupported": [] if entry.elsewhere else list(CUSTOMIZATIONS),
        "inferenceTypesSupported": [] if entry.elsewhere else ["ON_DEMAND", "PROVISIONED"],
        "modelLifecycle": {"status": entry.lifecycle},
    }


def _finite(loss: Any) -> bool:
    """A job without validation rows has no validation loss: it is kept as not a number."""
    return isinstance(loss, float) and math.isfinite(loss)
