"""Customization jobs: what is asked becomes a recipe, refused at once if it cannot be run, and work in the queue.

A job's row keeps the recipe; the worker runs exactly that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from limbeck import intake
from limbeck.advice.hyperparameters import CUT_RATE, WHOLE_RATE
from limbeck.control.desk import ID12, Answered, Asked, Desk, once, page, plain, present, tags_of
from limbeck.control.hosting import find_imported
from limbeck.control.hyperparameters import AUGMENT, DRY_RUN, RESUME, checked, chosen
from limbeck.control.models import base_entry, check_model_name, find_custom_model, usable_entry
from limbeck.errors import Conflict, InvalidDataset, InvalidInput, InvalidRecipe, NotYet, Unknown
from limbeck.jobs.stopping import end_waiting
from limbeck.models.catalog import Cut
from limbeck.recipe import Recipe
from limbeck.storage.ledger import STAGES, now
from limbeck.storage.objects import parse_uri
from limbeck.storage.reading import Row
from limbeck.storage.workspace import Workspace
from limbeck.teachers.estimate import estimate
from limbeck.teachers.known import addressed

__all__ = [
    "JOB",
    "create_model_customization_job",
    "get_model_customization_job",
    "list_model_customization_jobs",
    "stop",
    "stop_model_customization_job",
]

JOB = "model-customization-job"

KINDS = {
    "DISTILLATION": "distillation",
    "FINE_TUNING": "fine-tuning",
    "CONTINUED_PRE_TRAINING": "continued-pre-training",
}

MEMBERS = {
    "synthesis.max_response_tokens": (
        "customizationConfig.distillationConfig.teacherModelConfig.maxResponseLengthForInference"
    ),
    "synthesis.use_responses": "trainingDataConfig.invocationLogsConfig.usePromptResponse",
    "synthesis.augment": f"hyperParameters.{AUGMENT}",
    "synthesis.labels and synthesis.refine": "hyperParameters.labels",
    "training.objective.": "hyperParameters.objective ",
}
"""Where a request says what a recipe's key says."""

RESUMABLE = ("Stopped", "Failed")

SURVEYED_BYTES = 100_000_000
"""Training data up to this size are counted and checked while the caller waits; larger ones by the job."""

CUT: Mapping[str, float] = {"learning_rate": CUT_RATE, "epochs": 5, "warmup": 0.2}
WHOLE: Mapping[str, float] = {"learning_rate": WHOLE_RATE}
"""How students learned best here (lab-notes.md): those cut from a larger model, and whole ones."""

ANSWER_TOKENS = 256
"""The longest answer of a teacher where nobody says how long."""

LEARNED_TOKENS = 2048
"""The longest answer of a model that learned from labelled rows; theirs bound it further."""

LONGEST_OUTPUT = (
    f"model-customization-job-{ID12}/validation_artifacts/post_fine_tuning_validation/validation/validation_metrics.csv"
)
"""The longest name a job puts below its output location."""


@once("CreateModelCustomizationJob", "jobArn")
def create_model_customization_job(asked: Asked, desk: Desk) -> Answered:
    """Check everything that can be checked now, make the job's row, enqueue it.

    Raises `InvalidInput` with all the reasons, `Conflict` for a name that is taken, `QuotaExceeded`.
    """
    name, model = asked["jobName"], asked["customModelName"]
    base_id, base_arn, foundation_arn = _base(asked["baseModelIdentifier"], desk)
    recipe = _recipe(asked, desk)
    _check_places(asked, desk)
    if desk.ledger.find(JOB, name) is not None or (desk.settings.jobs / name).exists():
        raise Conflict(f'there is a job named "{name}" already; choose another jobName')
    check_model_name(model, desk)
    tags_of(asked.get("customModelTags"))  # the worker puts them on the model
    resumed = _resumed(asked, desk)
    _survey(asked, recipe, desk, DRY_RUN in asked.get("hyperParameters", {}))
    moment = now().isoformat()
    first = {"status": "InProgress", "creationTime": moment, "lastModifiedTime": moment}
    later = {"status": "NotStarted", "creationTime": moment, "lastModifiedTime": moment}
    facts = {
        "model": model,
        "baseModelArn": base_arn,
        "foundationModelArn": foundation_arn,
        "hyperParameters": _hyperparameters(asked, recipe),
        "statusDetails": {stage: dict(later if place else first) for place, stage in enumerate(_stages(asked))},
        **({} if resumed is None else {"resumes": resumed}),
    }
    arn = desk.order(
        JOB,
        name,
        "InProgress",
        asked,
        "CreateModelCustomizationJob",
        base=base_id,
        facts=facts,
        recipe=recipe.dump(),
        tags="jobTags",
        check=lambda session: check_model_name(model, desk, session),
        most_at_once=desk.settings.most_jobs,
        working=("InProgress", "Stopping"),
    )
    return {"jobArn": arn}


def get_model_customization_job(asked: Asked, desk: Desk) -> Answered:
    """One job, by ARN or name."""
    row = desk.ledger.get(JOB, asked["jobIdentifier"])
    request = row.request
    copied = (
        "roleArn",
        "clientRequestToken",
        "trainingDataConfig",
        "outputDataConfig",
        "vpcConfig",
        "customizationConfig",
    )
    return {
        **{key: request[key] for key in copied if key in request},
        "jobArn": row.arn,
        "jobName": row.name,
        "outputModelName": request["customModelName"],
        "outputModelArn": row.model,
        "outputModelKmsKeyArn": desk.arns.kms_key(request.get("customModelKmsKeyId")),
        "status": row.status,
        "statusDetails": row.facts["statusDetails"],
        "failureMessage": row.facts.get("failureMessage"),
        "creationTime": row.created,
        "lastModifiedTime": row.modified,
        "endTime": row.ended,
        "baseModelArn": row.facts["foundationModelArn"],  # its shape takes no custom model; lists and the model do
        "hyperParameters": row.facts["hyperParameters"],
        "validationDataConfig": request.get("validationDataConfig", {"validators": []}),
        "customizationType": request.get("customizationType", "FINE_TUNING"),
        "trainingMetrics": row.facts.get("trainingMetrics"),
        "validationMetrics": row.facts.get("validationMetrics"),
    }


def list_model_customization_jobs(asked: Asked, desk: Desk) -> Answered:
    """Jobs, filtered, sorted, paged."""
    rows, token = page(desk, JOB, asked)
    return {"modelCustomizationJobSummaries": [present(_summary(row)) for row in rows], "nextToken": token}


def stop_model_customization_job(asked: Asked, desk: Desk) -> Answered:
    """Ask a job to stop; its checkpoint is kept. Raises `Conflict` for one that has ended or is stopping already."""
    return stop(JOB, asked["jobIdentifier"], ("InProgress",), desk)


def stop(kind: str, identifier: str, working: tuple[str, ...], desk: Desk) -> Answered:
    """Ask any job to stop: the worker that has it sees this within a second; one that waits is stopped at once."""
    row = desk.ledger.get(kind, identifier)
    if desk.ledger.change(row.arn, "Stopping", working, lacking=("registered",)) is None:
        current = desk.ledger.get(kind, row.arn)
        if current.status in working:
            raise Conflict(f"job {current.name} has made its model, and publishes it; it can no longer be stopped")
        raise Conflict(
            f"job {current.name} is {current.status}; only a job that is {' or '.join(working)} can be stopped"
        )
    end_waiting(desk.ledger, desk.queue)
    return {}


def _summary(row: Row) -> Answered:
    return {
        "jobArn": row.arn,
        "baseModelArn": row.facts["baseModelArn"],
        "jobName": row.name,
        "status": row.status,
        "statusDetails": row.facts["statusDetails"],
        "lastModifiedTime": row.modified,
        "creationTime": row.created,
        "endTime": row.ended,
        "customModelArn": row.model,
        "customModelName": row.request["customModelName"],
        "customizationType": row.request.get("customizationType", "FINE_TUNING"),
    }


def _resumed(asked: Asked, desk: Desk) -> str | None:
    """The name of the job whose folder this one begins with: the one it resumes, or where that was stopped before it
    began, the one which that resumed. Raises `InvalidInput` if a job cannot be gone on with, or not so.
    """
    identifier = asked.get("hyperParameters", {}).get(RESUME)
    if identifier is None:
        return None
    where = f"hyperParameters.{RESUME}"
    earlier = desk.ledger.find(JOB, identifier)
    if earlier is None:
        raise InvalidInput(f'{where}: no job "{identifier}"')
    if earlier.status not in RESUMABLE:
        raise InvalidInput(f"{where}: job {earlier.name} is {earlier.status}; expected {' or '.join(RESUMABLE)}")
    this, past = _lasting(plain(asked), desk), _lasting(earlier.request, desk)
    changed = [
        f"{key}: found {_told(this.get(key))}; job {earlier.name} had {_told(past.get(key))}"
        for key in sorted({*this, *past})
        if this.get(key) != past.get(key)
    ]
    if changed:
        raise InvalidInput(f"{where}: a job that goes on with another asks for the same; {'; '.join(changed)}")
    while not (desk.settings.jobs / earlier.name).exists() and "resumes" in earlier.facts:
        earlier = desk.ledger.get(JOB, earlier.facts["resumes"])
    if not (desk.settings.jobs / earlier.name).exists() and _is_past_intake(earlier):
        raise InvalidInput(
            f"{where}: what job {earlier.name} left has been removed; without {RESUME} the job begins anew"
        )
    return earlier.name


def _is_past_intake(job: Row) -> bool:
    """Whether a job has done enough to be gone on with; one that was stopped while it waited has left nothing."""
    details = job.facts.get("statusDetails", {})
    return any(details[stage]["status"] != "NotStarted" for stage in STAGES[1:] if stage in details)


def _lasting(asked: Asked, desk: Desk) -> dict[str, Any]:
    """What a job has in common with one that goes on with it: all that says what is learned, from whom, and how.

    Models are compared by what they are, whether an id or an ARN named them; numbers with those that go without saying.
    """
    kind = asked.get("customizationType", "FINE_TUNING")
    teacher = dict(asked.get("customizationConfig", {}).get("distillationConfig", {}).get("teacherModelConfig", {}))
    if "teacherModelIdentifier" in teacher:
        teacher["teacherModelIdentifier"] = _known_as(teacher["teacherModelIdentifier"], "teacherModelIdentifier", desk)
    numbers = checked(kind, asked.get("hyperParameters", {}))
    return {
        "customizationType": kind,
        "baseModelIdentifier": _known_as(asked["baseModelIdentifier"], "baseModelIdentifier", desk),
        **teacher,
        "trainingDataConfig": asked["trainingDataConfig"],
        "validationDataConfig": asked.get("validationDataConfig") or {"validators": []},
        **{f"hyperParameters.{name}": text for name, text in numbers.items() if name != RESUME},
    }


def _told(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


def _stages(asked: Asked) -> tuple[str, ...]:
    """The stages a job of this kind tells of: only a distillation processes data."""
    distilled = asked.get("customizationType") == "DISTILLATION"
    return STAGES if distilled else tuple(stage for stage in STAGES if stage != "dataProcessingDetails")


def _base(identifier: str, desk: Desk) -> tuple[str, str, str]:
    """The id and the ARN of what is trained, and the ARN of the base model under it. Raises `InvalidInput`."""
    entry = usable_entry(identifier, desk)
    if entry is not None:
        arn = desk.arns.foundation_model(entry.id)
        return entry.id, arn, arn
    made = find_custom_model(identifier, desk)
    if made is not None:
        return made.base_id, made.arn, made.foundation_arn
    raise InvalidInput(
        f'baseModelIdentifier: no base or custom model "{identifier}"; ListFoundationModels and ListCustomModels say'
        " which there are"
    )


def _known_as(identifier: str, where: str, desk: Desk) -> str:
    """The name under which the river knows the model of an identifier."""
    entry = usable_entry(identifier, desk, to_teach=where == "teacherModelIdentifier")
    if entry is not None:
        return entry.id
    made = find_custom_model(identifier, desk)
    if made is not None:
        return made.model.name
    imported = find_imported(identifier, desk)
    if imported is not None:
        return imported
    raise InvalidInput(f'{where}: no model "{identifier}"; expected a base, custom or imported model')


def _recipe(asked: Asked, desk: Desk) -> Recipe:
    """The job as the river takes it. Raises `NotYet` for what the river cannot do, `InvalidInput` for the rest."""
    wanted = asked.get("customizationType", "FINE_TUNING")
    if wanted not in KINDS:
        raise NotYet(f"customizationType {wanted}: not yet; expected one of {', '.join(KINDS)}")
    config = asked.get("customizationConfig", {})
    if wanted == "DISTILLATION" and "distillationConfig" not in config:
        raise InvalidInput("customizationConfig.distillationConfig: missing; a distillation names its teacher there")
    if wanted != "DISTILLATION" and config:
        unsaid = "" if "customizationType" in asked else ", since none is said"
        raise InvalidInput(
            f"customizationConfig.{next(iter(config))}: customizationType is {wanted}{unsaid}, which has none; expected"
            " nothing, or customizationType DISTILLATION with distillationConfig"
        )
    numbers = checked(wanted, asked.get("hyperParameters", {}))
    place = desk.settings.jobs / asked["jobName"] / "source"
    values: dict[str, Any] = {
        "kind": KINDS[wanted],
        "name": asked["customModelName"],
        "source": _source(asked, place, desk),
        "evaluation": {"latency_requests": 8},
    }
    base = _known_as(asked["baseModelIdentifier"], "baseModelIdentifier", desk)
    values["training"] = _training(numbers)
    if wanted != "DISTILLATION":
        values["student"] = {"model": base}
        values["training"]["copies"] = "learned"  # a set given twice is how more than five epochs are asked for
        values["synthesis"] = {"max_response_tokens": LEARNED_TOKENS}
    else:
        asking = config["distillationConfig"]["teacherModelConfig"]
        teacher = _known_as(asking["teacherModelIdentifier"], "teacherModelIdentifier", desk)
        values["teacher"] = {"model": teacher}
        values["student"], suits = _student(base, teacher, desk)
        values["training"] = {**suits, **values["training"]}
        values["synthesis"] = {"max_response_tokens": asking.get("maxResponseLengthForInference", ANSWER_TOKENS)}
        logs = asked["trainingDataConfig"].get("invocationLogsConfig", {})
        values["synthesis"]["use_responses"] = logs.get("usePromptResponse", False)
        if "labels" in numbers:
            values["synthesis"]["labels"] = numbers["labels"]
        if AUGMENT in numbers:
            values["synthesis"]["augment"] = {"to": int(float(numbers[AUGMENT]))}
        if numbers.get("objective"):
            values["training"]["objective"] = {numbers["objective"]: 1.0}
        elif (taught_by := base_entry(teacher, desk)) is not None and taught_by.elsewhere:
            values["training"]["objective"] = "auto"  # not every service tells distributions
    try:
        recipe = addressed(Recipe.build(values, "the job"), desk.settings)
        recipe.check_kind()
    except InvalidRecipe as error:
        raise InvalidInput("; ".join(map(_in_words_of_the_request, error.faults))) from None
    return recipe


def _in_words_of_the_request(fault: str) -> str:
    """What is wrong with a recipe, by the members of the request that it came from."""
    for key, member in MEMBERS.items():
        fault = fault.replace(key, member)
    return fault


def _student(base: str, teacher: str, desk: Desk) -> tuple[dict[str, Any], Mapping[str, float]]:
    """The student, and how the likes of it learn best.

    A base model that is cut from another is cut from the teacher instead, where the teacher is itself that other
    after some training: layers dropped from a model that was never taught the task have more to learn again.
    """
    entry = usable_entry(base, desk)
    if entry is None or not isinstance(entry.source, Cut):
        return {"model": base}, WHOLE
    taught = find_custom_model(teacher, desk)
    descended = entry.source.of in (teacher, taught.base_id if taught else None)
    if descended:
        return {"shrink": {"layers": list(entry.source.layers)}}, CUT
    return {"model": base}, CUT


def _hyperparameters(asked: Asked, recipe: Recipe) -> dict[str, str]:
    """All that the job is run with: what was given, Bedrock's defaults, and in a distillation what was chosen."""
    kind = asked.get("customizationType", "FINE_TUNING")
    numbers = checked(kind, asked.get("hyperParameters", {}))
    return {**chosen(recipe.training), **numbers} if kind == "DISTILLATION" else numbers


def _training(numbers: Mapping[str, str]) -> dict[str, Any]:
    """Bedrock's hyperparameters under our names."""
    training: dict[str, Any] = {}
    if "epochCount" in numbers:
        training["epochs"] = int(float(numbers["epochCount"]))
    if "learningRate" in numbers:
        training["learning_rate"] = float(numbers["learningRate"])
    if "learningRateWarmupSteps" in numbers:
        training["warmup_steps"] = int(float(numbers["learningRateWarmupSteps"]))
    if "batchSize" in numbers:
        training["batch_size"] = int(float(numbers["batchSize"]))
    return training


def _source(asked: Asked, place: Path, desk: Desk) -> dict[str, Any]:
    config = asked["trainingDataConfig"]
    given = [key for key in ("s3Uri", "invocationLogsConfig") if key in config]
    if len(given) != 1:
        raise InvalidInput(
            f"trainingDataConfig: found {' and '.join(given) or 'nothing'}; expected exactly one of s3Uri and"
            " invocationLogsConfig"
        )
    validators = asked.get("validationDataConfig", {}).get("validators", [])
    source: dict[str, Any] = {"prompts": str(place / "train" / _file_name(config.get("s3Uri")))}
    if validators:
        named = [_file_name(validator["s3Uri"]) for validator in validators]
        source["validation"] = [str(place / f"validation-{at}" / name) for at, name in enumerate(named)]
    if "invocationLogsConfig" in config and asked.get("customizationType") != "DISTILLATION":
        raise InvalidInput("trainingDataConfig.invocationLogsConfig: only a distillation learns from invocation logs")
    return source


def _file_name(uri: str | None) -> str:
    """How faults and reports call an object; the end of the name tells a file of text, or a table, from rows."""
    name = Path(uri or "logs").name
    suffix = Path(name).suffix.lower()
    known = suffix in (*intake.TEXT_SUFFIXES, *intake.TABLES, ".jsonl")
    return f"{Path(name).stem}{suffix}" if known else f"{name[:60]}.jsonl"


def _check_places(asked: Asked, desk: Desk) -> None:
    """All places the job reads or writes are there; all that are not are told at once."""
    config = asked["trainingDataConfig"]
    reads = [("trainingDataConfig.s3Uri", config.get("s3Uri"))]
    reads += [
        (f"validationDataConfig.validators[{at}].s3Uri", validator["s3Uri"])
        for at, validator in enumerate(asked.get("validationDataConfig", {}).get("validators", []))
    ]
    problems = []
    for where, uri in reads:
        if uri is not None:
            try:
                desk.objects.head(*parse_uri(uri))
            except (Unknown, InvalidInput) as error:
                problems.append(f"{where}: {error}")
    try:
        desk.check_target(asked["outputDataConfig"]["s3Uri"], [LONGEST_OUTPUT])
    except (Unknown, InvalidInput) as error:
        problems.append(f"outputDataConfig.s3Uri: {error}")
    if "invocationLogsConfig" in config:
        try:
            desk.check_place(config["invocationLogsConfig"]["invocationLogSource"]["s3Uri"])
        except (Unknown, InvalidInput) as error:
            problems.append(f"invocationLogsConfig.invocationLogSource.s3Uri: {error}")
    if problems:
        raise InvalidInput("; ".join(problems))


def _survey(asked: Asked, recipe: Recipe, desk: Desk, dry_run: bool) -> None:
    """Count the training data now, so that too few or too many, or a fault in each row, is told at once.

    A dry run ends here in any case, as an error: nothing is made, and the message says what the job would take.
    """
    uri = asked["trainingDataConfig"].get("s3Uri")
    if uri is None or desk.objects.head(*parse_uri(uri)).size > SURVEYED_BYTES:
        if dry_run:
            raise InvalidInput(
                f"hyperParameters.{DRY_RUN}: nothing was made, and nothing can be said: invocation logs, and training"
                f" data over {SURVEYED_BYTES:,} bytes, are read by the job alone"
            )
        return
    with TemporaryDirectory(dir=desk.settings.scratch) as folder:
        local = Path(folder) / uri.rsplit("/", 1)[-1]
        desk.objects.fetch(uri, local)
        trial = recipe.model_copy(
            update={"source": recipe.source.model_copy(update={"prompts": local, "validation": ()})}
        )
        try:
            intake.check(trial)
        except InvalidDataset as error:
            raise InvalidInput(_shortened(error)) from None
        if dry_run:
            examples = intake.collect(trial, Workspace(Path(folder) / "dry-run"))
            told = " · ".join(" ".join(line.split()) for line in estimate(trial, examples, (), desk.settings).lines)
            raise InvalidInput(f"hyperParameters.{DRY_RUN}: nothing was made; the job would take: {told}")


def _shortened(error: InvalidDataset) -> str:
    """The message with as many rows' faults as a person reads, the count first."""
    lines = str(error).splitlines()
    most = 20
    faults, said = list(error.faults), lines[len(error.faults) :]
    more = f"; and {len(faults) - most} more rows" if len(faults) > most else ""
    return "; ".join([*said, *faults[:most]]) + more
