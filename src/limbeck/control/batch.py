"""Batch inference: a file of requests answered in the background, a line of output for each."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from limbeck.control.customization import stop
from limbeck.control.desk import ID12, Answered, Asked, Desk, once, page, present
from limbeck.control.hosting import resolve
from limbeck.errors import InvalidInput, NotReady, Unknown
from limbeck.storage.reading import Row

__all__ = [
    "JOB",
    "create_model_invocation_job",
    "get_model_invocation_job",
    "list_model_invocation_jobs",
    "stop_model_invocation_job",
]

JOB = "model-invocation-job"

WORKING = ("Submitted", "Validating", "Scheduled", "InProgress")

HOURS = 24
"""After which a job expires, where nobody says."""

COPIED = ("roleArn", "clientRequestToken", "inputDataConfig", "outputDataConfig", "vpcConfig", "modelInvocationType")


@once("CreateModelInvocationJob", "jobArn")
def create_model_invocation_job(asked: Asked, desk: Desk) -> Answered:
    """Enqueue a batch, on any model that can be invoked, deployments among them."""
    try:
        hosted = resolve(asked["modelId"], desk)
        uri = asked["inputDataConfig"]["s3InputDataConfig"]["s3Uri"]
        names = [f"{ID12}/{found.below(uri)}.out" for found in desk.objects.rows_within(uri)]
        desk.check_target(asked["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"], names)
    except (Unknown, NotReady) as error:
        raise InvalidInput(str(error)) from None
    facts = {"hosts": hosted.model, "imported": hosted.imported, "modelArn": hosted.arn}
    arn = desk.order(
        JOB,
        asked["jobName"],
        "Submitted",
        asked,
        "CreateModelInvocationJob",
        facts=facts,
        most_at_once=desk.settings.most_jobs,
        working=(*WORKING, "Stopping"),
    )
    return {"jobArn": arn}


def get_model_invocation_job(asked: Asked, desk: Desk) -> Answered:
    """One batch, by ARN, by the id that ends it, or by name."""
    return _told(desk.ledger.get(JOB, _known_as(asked["jobIdentifier"], desk)))


def list_model_invocation_jobs(asked: Asked, desk: Desk) -> Answered:
    """Batches, filtered, sorted, paged."""
    rows, token = page(desk, JOB, asked, {"before": "submitTimeBefore", "after": "submitTimeAfter"})
    return {"invocationJobSummaries": [present(_told(row)) for row in rows], "nextToken": token}


def stop_model_invocation_job(asked: Asked, desk: Desk) -> Answered:
    """Ask a batch to stop; what is answered is kept."""
    return stop(JOB, _known_as(asked["jobIdentifier"], desk), WORKING, desk)


def _known_as(identifier: str, desk: Desk) -> str:
    """The ARN of the batch of that id, for AWS takes an id alone; else ``identifier`` as it is."""
    arn = desk.arns.resource(JOB, identifier)
    return identifier if desk.ledger.row(arn) is None else arn


def _told(row: Row) -> dict[str, Any]:
    hours = row.request.get("timeoutDurationInHours", HOURS)
    counters = ("totalRecordCount", "processedRecordCount", "successRecordCount", "errorRecordCount")
    return {
        **{key: row.request[key] for key in COPIED if key in row.request},
        **{key: row.facts[key] for key in counters if key in row.facts},
        "jobArn": row.arn,
        "jobName": row.name,
        "modelId": row.request["modelId"],
        "status": row.status,
        "message": row.facts.get("failureMessage"),
        "submitTime": row.created,
        "lastModifiedTime": row.modified,
        "endTime": row.ended,
        "timeoutDurationInHours": hours,
        "jobExpirationTime": row.created + timedelta(hours=hours),
    }
