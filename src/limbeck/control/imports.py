"""Model import: a folder of weights in a bucket becomes a model that answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from limbeck.control.desk import Answered, Asked, Desk, once, page, page_of, present, tags_of
from limbeck.control.models import check_model_name, delete_unused
from limbeck.errors import InvalidInput, UnknownModel
from limbeck.models.catalog import custom_models
from limbeck.records import CustomModel
from limbeck.storage.reading import Row

__all__ = [
    "JOB",
    "create_model_import_job",
    "delete_imported_model",
    "get_imported_model",
    "get_model_import_job",
    "list_imported_models",
    "list_model_import_jobs",
]

JOB = "model-import-job"


@once("CreateModelImportJob", "jobArn")
def create_model_import_job(asked: Asked, desk: Desk) -> Answered:
    """Enqueue the import of a folder in Hugging Face layout, or of a GGUF file."""
    source = asked["modelDataSource"].get("s3DataSource")
    if source is None:
        raise InvalidInput("modelDataSource.s3DataSource: missing; expected the s3:// URI of a folder of weights")
    desk.check_source(source["s3Uri"])
    tags_of(asked.get("importedModelTags"))  # the worker puts them on the model
    name = asked["importedModelName"]
    arn = desk.order(
        JOB,
        asked["jobName"],
        "InProgress",
        asked,
        "CreateModelImportJob",
        facts={"source": source["s3Uri"], "model": name},
        tags="jobTags",
        check=lambda session: check_model_name(name, desk, session),
    )
    return {"jobArn": arn}


def get_model_import_job(asked: Asked, desk: Desk) -> Answered:
    """One import, by ARN or name."""
    row = desk.ledger.get(JOB, asked["jobIdentifier"])
    copied = ("importedModelName", "roleArn", "modelDataSource", "vpcConfig")
    return {
        **{key: row.request[key] for key in copied if key in row.request},
        "jobArn": row.arn,
        "jobName": row.name,
        "importedModelArn": row.model,
        "status": row.status,
        "failureMessage": row.facts.get("failureMessage"),
        "creationTime": row.created,
        "lastModifiedTime": row.modified,
        "endTime": row.ended,
        "importedModelKmsKeyArn": desk.arns.kms_key(row.request.get("importedModelKmsKeyId")),
    }


def list_model_import_jobs(asked: Asked, desk: Desk) -> Answered:
    """Imports, filtered, sorted, paged."""
    rows, token = page(desk, JOB, asked)
    return {"modelImportJobSummaries": [present(_summary(row)) for row in rows], "nextToken": token}


def list_imported_models(asked: Asked, desk: Desk) -> Answered:
    """Imported models, filtered, sorted, paged."""

    def wanted(model: CustomModel) -> bool:
        created = datetime.fromisoformat(_facts(model)["creationTime"])
        return (
            asked.get("nameContains", "") in model.name
            and ("creationTimeBefore" not in asked or created < asked["creationTimeBefore"])
            and ("creationTimeAfter" not in asked or created > asked["creationTimeAfter"])
        )

    chosen = [model for model in _imported(desk) if wanted(model)]
    rows, token = page_of(chosen, lambda model: (_facts(model)["creationTime"], _facts(model)["modelArn"]), asked)
    shown = ("modelArn", "modelName", "creationTime", "instructSupported", "modelArchitecture")
    return {"modelSummaries": [{key: _facts(model)[key] for key in shown} for model in rows], "nextToken": token}


def get_imported_model(asked: Asked, desk: Desk) -> Answered:
    """One imported model, by name or ARN."""
    model = _find(asked["modelIdentifier"], desk)
    job = desk.ledger.row(model.lineage["job_arn"])
    encrypted_by = None if job is None else desk.arns.kms_key(job.request.get("importedModelKmsKeyId"))
    return {**_facts(model), "modelKmsKeyArn": encrypted_by}


def delete_imported_model(asked: Asked, desk: Desk) -> Answered:
    """Unregister an imported model and delete its weights. Raises `Conflict` while it is used."""
    model = _find(asked["modelIdentifier"], desk)
    delete_unused(model.name, desk)
    desk.ledger.remove(model.lineage["arn"])  # its tags; a row it has not
    return {}


def _summary(row: Row) -> Answered:
    return {
        "jobArn": row.arn,
        "jobName": row.name,
        "status": row.status,
        "lastModifiedTime": row.modified,
        "creationTime": row.created,
        "endTime": row.ended,
        "importedModelArn": row.model,
        "importedModelName": row.request["importedModelName"],
    }


def _imported(desk: Desk) -> list[CustomModel]:
    return [model for model in custom_models(desk.settings).values() if model.kind == "imported"]


def _find(identifier: str, desk: Desk) -> CustomModel:
    for model in _imported(desk):
        if identifier in (model.name, model.lineage["arn"]):
            return model
    raise UnknownModel(f'no imported model "{identifier}"; ListImportedModels says which there are')


def _facts(model: CustomModel) -> dict[str, Any]:
    return {
        "modelArn": model.lineage["arn"],
        "modelName": model.name,
        "jobName": model.lineage["job_name"],
        "jobArn": model.lineage["job_arn"],
        "modelDataSource": {"s3DataSource": {"s3Uri": model.lineage["source"]}},
        "creationTime": model.lineage["created"],
        "modelArchitecture": model.lineage["architecture"],
        "instructSupported": model.lineage["has_chat_template"],
    }
