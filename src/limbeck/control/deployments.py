"""Where a custom model answers: deployments on demand, and provisioned throughput.

Both are names that stand for a model; here the same replicas serve either. A row is made at once and becomes ready
when a worker has seen to it that the model can be hosted. An update changes the model behind the name: requests are
answered by the old one until the new one is ready.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy.engine import Connection

from limbeck.control.desk import Answered, Asked, Desk, new_id, once, page, present
from limbeck.control.models import custom_model, find_custom_model, usable_entry
from limbeck.control.shelf import Registered
from limbeck.errors import Conflict, InvalidInput, UnknownModel
from limbeck.storage.ledger import now
from limbeck.storage.reading import Row

__all__ = [
    "DEPLOYMENT",
    "PROVISIONED",
    "create_custom_model_deployment",
    "create_provisioned_model_throughput",
    "delete_custom_model_deployment",
    "delete_provisioned_model_throughput",
    "get_custom_model_deployment",
    "get_provisioned_model_throughput",
    "list_custom_model_deployments",
    "list_provisioned_model_throughputs",
    "update_custom_model_deployment",
    "update_provisioned_model_throughput",
]

DEPLOYMENT = "custom-model-deployment"
PROVISIONED = "provisioned-model"

QUEUE = "hosting"

TOO_MANY = "are there, as many as there may be; delete one, or raise LIMBECK_MOST_DEPLOYMENTS"

COMMITMENTS = {"OneMonth": timedelta(days=30), "SixMonths": timedelta(days=182)}


@once("CreateCustomModelDeployment", "customModelDeploymentArn")
def create_custom_model_deployment(asked: Asked, desk: Desk) -> Answered:
    """A name under which a custom model answers."""
    model = _deployable(asked["modelArn"], desk)
    arn = desk.order(
        DEPLOYMENT,
        asked["modelDeploymentName"],
        "Creating",
        asked,
        "CreateCustomModelDeployment",
        model=model.arn,
        facts={"hosts": model.model.name},
        queue=QUEUE,
        most_at_once=desk.settings.most_deployments,
        working=("Creating", "Active"),
        too_many=TOO_MANY,
    )
    return {"customModelDeploymentArn": arn}


def get_custom_model_deployment(asked: Asked, desk: Desk) -> Answered:
    """One deployment, by ARN or name."""
    row = desk.ledger.get(DEPLOYMENT, asked["customModelDeploymentIdentifier"])
    return {
        "customModelDeploymentArn": row.arn,
        "modelDeploymentName": row.name,
        "modelArn": row.model,
        "createdAt": row.created,
        "status": row.status,
        "description": row.request.get("description"),
        "updateDetails": row.facts.get("updateDetails"),
        "failureMessage": row.facts.get("failureMessage"),
        "lastUpdatedAt": row.modified,
    }


def list_custom_model_deployments(asked: Asked, desk: Desk) -> Answered:
    """Deployments, filtered, sorted, paged."""
    rows, token = page(desk, DEPLOYMENT, asked, {"before": "createdBefore", "after": "createdAfter"})
    return {"modelDeploymentSummaries": [present(_summary(row)) for row in rows], "nextToken": token}


def update_custom_model_deployment(asked: Asked, desk: Desk) -> Answered:
    """Put another model behind a deployment's name."""
    row = desk.ledger.get(DEPLOYMENT, asked["customModelDeploymentIdentifier"])
    model = _deployable(asked["modelArn"], desk)
    details = {"modelArn": model.arn, "updateStatus": "Updating"}
    coming = {"hosts": model.model.name, "model": model.arn}
    facts = {"updateDetails": details, "next": coming}
    enqueue = _enqueue(row.arn, model.model.name, desk)
    if desk.ledger.change(row.arn, None, ("Active",), facts, lacking=("next",), then=enqueue) is None:
        state = "being updated" if row.status == "Active" else row.status
        raise Conflict(f"deployment {row.name} is {state}; only an Active one can be updated, once at a time")
    return {"customModelDeploymentArn": row.arn}


def delete_custom_model_deployment(asked: Asked, desk: Desk) -> Answered:
    """Forget a deployment; its model stays."""
    desk.ledger.remove(desk.ledger.get(DEPLOYMENT, asked["customModelDeploymentIdentifier"]).arn)
    return {}


@once("CreateProvisionedModelThroughput", "provisionedModelArn")
def create_provisioned_model_throughput(asked: Asked, desk: Desk) -> Answered:
    """Throughput for a base or a custom model, with or without a commitment."""
    hosts, arn, foundation = _hostable(asked["modelId"], desk)
    facts: dict[str, Any] = {"hosts": hosts, "foundationModelArn": foundation, "modelUnits": asked["modelUnits"]}
    if "commitmentDuration" in asked:
        facts["commitmentExpirationTime"] = (now() + COMMITMENTS[asked["commitmentDuration"]]).isoformat()
    made = desk.order(
        PROVISIONED,
        asked["provisionedModelName"],
        "Creating",
        asked,
        "CreateProvisionedModelThroughput",
        model=arn,
        facts=facts,
        queue=QUEUE,
        most_at_once=desk.settings.most_deployments,
        working=("Creating", "InService", "Updating"),
        too_many=TOO_MANY,
    )
    return {"provisionedModelArn": made}


def get_provisioned_model_throughput(asked: Asked, desk: Desk) -> Answered:
    """One, by ARN or name."""
    row = desk.ledger.get(PROVISIONED, asked["provisionedModelId"])
    return {**_throughput(row), "failureMessage": row.facts.get("failureMessage")}


def list_provisioned_model_throughputs(asked: Asked, desk: Desk) -> Answered:
    """All, filtered, sorted, paged."""
    rows, token = page(desk, PROVISIONED, asked)
    return {"provisionedModelSummaries": [present(_throughput(row)) for row in rows], "nextToken": token}


def update_provisioned_model_throughput(asked: Asked, desk: Desk) -> Answered:
    """Another name, or another model: the base of the custom model behind it, or a sibling of the same base."""
    row = desk.ledger.get(PROVISIONED, asked["provisionedModelId"])
    columns: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    if "desiredModelId" in asked:
        hosts, arn, foundation = _hostable(asked["desiredModelId"], desk)
        if foundation != row.facts["foundationModelArn"]:
            raise InvalidInput(
                f"desiredModelId: found a model of {foundation}; expected {row.facts['foundationModelArn']}"
                " or a custom model made from it"
            )
        facts["next"] = {"hosts": hosts, "model": arn}
    if "desiredProvisionedModelName" in asked:
        columns["name"] = asked["desiredProvisionedModelName"]
    status, enqueue = ("Updating", _enqueue(row.arn, hosts, desk)) if "next" in facts else (None, None)
    if desk.ledger.change(row.arn, status, ("InService",), facts, then=enqueue, **columns) is None:
        raise Conflict(f"{row.name} is {row.status}; only one that is InService can be updated")
    return {}


def delete_provisioned_model_throughput(asked: Asked, desk: Desk) -> Answered:
    """Give it back. Raises `Conflict` before its commitment has ended."""
    row = desk.ledger.get(PROVISIONED, asked["provisionedModelId"])
    until = row.facts.get("commitmentExpirationTime")
    if until is not None and until > now().isoformat():
        raise Conflict(f"{row.name} is committed until {until}; it cannot be deleted before")
    desk.ledger.remove(row.arn)
    return {}


def _summary(row: Row) -> Answered:
    return {
        "customModelDeploymentArn": row.arn,
        "customModelDeploymentName": row.name,
        "modelArn": row.model,
        "createdAt": row.created,
        "status": row.status,
        "lastUpdatedAt": row.modified,
        "failureMessage": row.facts.get("failureMessage"),
    }


def _throughput(row: Row) -> dict[str, Any]:
    units = row.facts["modelUnits"]
    return {
        "modelUnits": units,
        "desiredModelUnits": units,
        "provisionedModelName": row.name,
        "provisionedModelArn": row.arn,
        "modelArn": row.model,
        "desiredModelArn": row.facts.get("next", {}).get("model", row.model),
        "foundationModelArn": row.facts["foundationModelArn"],
        "status": row.status,
        "creationTime": row.created,
        "lastModifiedTime": row.modified,
        "commitmentDuration": row.request.get("commitmentDuration"),
        "commitmentExpirationTime": row.facts.get("commitmentExpirationTime"),
    }


def _enqueue(arn: str, coming: str, desk: Desk) -> Callable[[Connection], None]:
    """Puts the work for an update to the model called ``coming`` into the queue, in the transaction that writes the
    update down.
    """

    def enqueue(connection: Connection) -> None:
        desk.check_models([coming])
        desk.queue.put(connection, QUEUE, new_id(), arn)

    return enqueue


def _deployable(identifier: str, desk: Desk) -> Registered:
    try:
        return custom_model(identifier, desk)
    except UnknownModel as error:
        raise InvalidInput(f"modelArn: {error}") from None


def _hostable(identifier: str, desk: Desk) -> tuple[str, str, str]:
    """The catalog's name, the ARN, and the ARN of the base, of a base or custom model."""
    entry = usable_entry(identifier, desk)
    if entry is not None:
        arn = desk.arns.foundation_model(entry.id)
        return entry.id, arn, arn
    made = find_custom_model(identifier, desk)
    if made is None:
        raise InvalidInput(f'no base or custom model "{identifier}"')
    return made.model.name, made.arn, made.foundation_arn
