"""Evaluation jobs: a model, or answers brought along, measured by program or by a judge."""

from __future__ import annotations

from typing import Any

from limbeck.control.customization import stop
from limbeck.control.desk import ID12, Answered, Asked, Desk, once, page, present
from limbeck.control.hosting import resolve
from limbeck.errors import InvalidInput, NotReady, NotYet, Unknown
from limbeck.rubrics import BUILTIN
from limbeck.storage.objects import parse_uri
from limbeck.storage.reading import Row
from limbeck.wire.bodies.inference_params import sampling_of

__all__ = [
    "JOB",
    "batch_delete_evaluation_job",
    "create_evaluation_job",
    "get_evaluation_job",
    "list_evaluation_jobs",
    "stop_evaluation_job",
]

JOB = "evaluation-job"

PAGE = 5
"""Summaries a page of the list holds: AWS describes it so, whatever ``maxResults`` is."""

ENDED = ("Completed", "Failed", "Stopped")

PROGRAMMATIC = ("Builtin.Accuracy", "Builtin.Robustness", "Builtin.Toxicity")

JUDGED = tuple(f"Builtin.{name}" for name in BUILTIN)


@once("CreateEvaluationJob", "jobArn")
def create_evaluation_job(asked: Asked, desk: Desk) -> Answered:
    """Enqueue an evaluation. Everything that can be checked now is, and all faults are told at once."""
    automated = asked["evaluationConfig"].get("automated")
    if automated is None:
        raise NotYet("evaluationConfig.human: not yet; give automated")
    models = asked["inferenceConfig"].get("models")
    if not models or asked.get("applicationType") == "RagEvaluation":
        raise NotYet("inferenceConfig.ragConfigs: not yet; give models")
    if len(models) != 1:
        raise InvalidInput(f"inferenceConfig.models: found {len(models)}; expected one")
    faults: list[str] = []
    facts: dict[str, Any] = {"judges": {}}
    custom = automated.get("customMetricConfig", {})
    own_metrics = {one["customMetricDefinition"]["name"] for one in custom.get("customMetrics", []) if one}
    judged = False
    for at, part in enumerate(automated["datasetMetricConfigs"]):
        where = f"evaluationConfig.automated.datasetMetricConfigs[{at}]"
        for name in part["metricNames"]:
            if name in own_metrics:
                continue
            if name in JUDGED:
                judged = True
            elif name not in PROGRAMMATIC:
                faults.append(
                    f'{where}.metricNames: unknown metric "{name}"; expected {", ".join((*PROGRAMMATIC, *JUDGED))}'
                )
        if "Builtin.Robustness" in part["metricNames"] and "bedrockModel" not in models[0]:
            faults.append(
                f"{where}.metricNames: Builtin.Robustness asks the model again, and answers brought along have none"
            )
        uri = part["dataset"].get("datasetLocation", {}).get("s3Uri")
        if uri is None:
            name = part["dataset"]["name"]
            faults.append(f'{where}.dataset: "{name}" is not here; bring a dataset in datasetLocation.s3Uri')
        else:
            _try(lambda uri=uri: desk.objects.head(*parse_uri(uri)), f"{where}.dataset.datasetLocation.s3Uri", faults)
    configs = (automated.get("evaluatorModelConfig", {}), custom.get("evaluatorModelConfig", {}))
    judges = [judge for config in configs for judge in config.get("bedrockEvaluatorModels", [])]
    if judged and not configs[0]:
        faults.append("evaluationConfig.automated.evaluatorModelConfig: missing; these metrics need a judge")
    for judge in judges:
        identifier = judge["modelIdentifier"]
        hosted = _try(lambda identifier=identifier: resolve(identifier, desk), "evaluatorModelConfig", faults)
        if hosted is not None:
            facts["judges"][identifier] = hosted.model
    subject = models[0].get("bedrockModel")
    if subject is not None:
        hosted = _try(lambda: resolve(subject["modelIdentifier"], desk), "inferenceConfig.models[0]", faults)
        facts["hosts"] = hosted and hosted.model
        _try(lambda: sampling_of(subject.get("inferenceParams")), "inferenceConfig.models[0].bedrockModel", faults)
    names = _outputs(asked)
    _try(lambda: desk.check_target(asked["outputDataConfig"]["s3Uri"], names), "outputDataConfig.s3Uri", faults)
    if faults:
        raise InvalidInput("; ".join(faults))
    arn = desk.order(
        JOB,
        asked["jobName"],
        "InProgress",
        asked,
        "CreateEvaluationJob",
        facts=facts,
        tags="jobTags",
        most_at_once=desk.settings.most_jobs,
        working=("InProgress", "Stopping"),
    )
    return {"jobArn": arn}


def get_evaluation_job(asked: Asked, desk: Desk) -> Answered:
    """One evaluation, by ARN."""
    row = desk.ledger.get(JOB, asked["jobIdentifier"])
    copied = (
        "jobDescription",
        "roleArn",
        "customerEncryptionKeyId",
        "evaluationConfig",
        "inferenceConfig",
        "outputDataConfig",
    )
    failure = row.facts.get("failureMessage")
    return {
        **{key: row.request[key] for key in copied if key in row.request},
        "jobName": row.name,
        "status": row.status,
        "jobArn": row.arn,
        "jobType": "Automated",
        "applicationType": row.request.get("applicationType", "ModelEvaluation"),
        "creationTime": row.created,
        "lastModifiedTime": row.modified,
        "failureMessages": [failure] if failure else None,
    }


def list_evaluation_jobs(asked: Asked, desk: Desk) -> Answered:
    """Evaluations, filtered, sorted, paged."""
    if asked.get("applicationTypeEquals") == "RagEvaluation":
        return {"jobSummaries": []}  # there are none
    size = min(asked.get("maxResults", PAGE), PAGE)
    rows, token = page(desk, JOB, {**asked, "maxResults": size})
    return {"jobSummaries": [present(_summary(row)) for row in rows], "nextToken": token}


def stop_evaluation_job(asked: Asked, desk: Desk) -> Answered:
    """Ask an evaluation to stop."""
    return stop(JOB, asked["jobIdentifier"], ("InProgress",), desk)


def batch_delete_evaluation_job(asked: Asked, desk: Desk) -> Answered:
    """Delete evaluations that have ended; what cannot be deleted is told one by one."""
    errors, deleted = [], []
    for identifier in asked["jobIdentifiers"]:
        row = desk.ledger.find(JOB, identifier)
        if row is None:
            errors.append({"jobIdentifier": identifier, "code": "404", "message": "no such evaluation job"})
        elif row.status not in ENDED:
            said = f"the job is {row.status}; stop it first"
            errors.append({"jobIdentifier": identifier, "code": "409", "message": said})
        else:
            desk.ledger.remove(row.arn)
            deleted.append({"jobIdentifier": identifier, "jobStatus": "Deleting"})
    return {"errors": errors, "evaluationJobs": deleted}


def _outputs(asked: Asked) -> list[str]:
    """The names of what the job will put below its output location."""
    model = asked["inferenceConfig"]["models"][0]
    brought = model.get("precomputedInferenceSource", {}).get("inferenceSourceIdentifier")
    name = (brought or model["bedrockModel"]["modelIdentifier"]).rsplit("/", 1)[-1]
    parts = asked["evaluationConfig"]["automated"]["datasetMetricConfigs"]
    return [
        f"{asked['jobName']}/{ID12}/models/{name}/taskTypes/{part['taskType']}/datasets/{part['dataset']['name']}"
        f"/{ID12 * 3}_output.jsonl"
        for part in parts
    ]


def _summary(row: Row) -> dict[str, Any]:
    automated = row.request["evaluationConfig"]["automated"]
    model = row.request["inferenceConfig"]["models"][0]
    subject = model.get("bedrockModel", {}).get("modelIdentifier")
    brought = model.get("precomputedInferenceSource", {}).get("inferenceSourceIdentifier")
    return {
        "jobArn": row.arn,
        "jobName": row.name,
        "status": row.status,
        "creationTime": row.created,
        "jobType": "Automated",
        "evaluationTaskTypes": sorted({part["taskType"] for part in automated["datasetMetricConfigs"]}),
        "modelIdentifiers": [subject] if subject else None,
        "evaluatorModelIdentifiers": sorted(row.facts["judges"]) or None,
        "inferenceConfigSummary": {
            "modelConfigSummary": present(
                {
                    "bedrockModelIdentifiers": [subject] if subject else None,
                    "precomputedInferenceSourceIdentifiers": [brought] if brought else None,
                }
            )
        },
        "applicationType": row.request.get("applicationType", "ModelEvaluation"),
    }


def _try(work: Any, where: str, faults: list[str]) -> Any:
    try:
        return work()
    except (Unknown, InvalidInput, NotReady) as error:
        faults.append(f"{where}: {error}")
        return None
