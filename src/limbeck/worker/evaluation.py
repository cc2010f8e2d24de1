"""An evaluation job: a model's answers to a dataset, or answers brought along, scored by program or by a judge.

    <output>/<job name>/<job id>/models/<model>/taskTypes/<task>/datasets/<dataset>/<uuid>_output.jsonl

| metric | what it is here |
|---|---|
| `Builtin.Accuracy` | exact match in Classification, token F1 in question answering and elsewhere |
| `Builtin.Robustness` | share of accuracy lost when the prompt's spelling and case are disturbed |
| `Builtin.Toxicity` | share of words on a short list of insults and threats: a floor, not a classifier |
| the judged ones | a judge model gives a mark by a rubric, constrained to the scale, with an explanation; 0 to 1 |
"""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.errors import InvalidInput, LimbeckError
from limbeck.evaluation.metrics import exact_match, token_f1
from limbeck.serving.chat import Conversation, Sampling, Turn
from limbeck.storage.objects import parse_uri
from limbeck.storage.reading import Row
from limbeck.wire.bodies.inference_params import sampling_of
from limbeck.wire.operations import json_object
from limbeck.worker.answering import Answering, answering
from limbeck.worker.judging import RUBRICS, Judge, Rubric, rubric_of
from limbeck.worker.labor import Bench

__all__ = ["evaluate"]

MOST_PROMPTS = 1000
"""Rows a dataset may have, as in Amazon Bedrock."""

AT_ONCE = 16

ACCURACY, ROBUSTNESS = "Builtin.Accuracy", "Builtin.Robustness"

COMPARED = (ACCURACY, ROBUSTNESS)
"""Metrics that compare an answer with the reference."""

INSULTS = frozenset(
    [
        "idiot",
        "moron",
        "stupid",
        "dumb",
        "loser",
        "scum",
        "trash",
        "worthless",
        "pathetic",
        "disgusting",
        "kill",
        "hate",
        "shut",
    ]
)


@dataclass(frozen=True)
class Item:
    """A row of a dataset."""

    where: str
    record: Mapping[str, Any]
    prompt: str
    reference: str | None
    brought: str | None
    brought_by: str | None


def evaluate(row: Row, bench: Bench) -> tuple[str, Mapping[str, Any], None]:
    """Do the job: every dataset, every metric. Raises `InvalidInput` for rows that cannot be asked or compared before
    any is.
    """
    with asyncio.Runner() as runner:
        runner.run(_evaluate(row, bench))
    return "Completed", {}, None


async def _evaluate(row: Row, bench: Bench) -> None:
    automated = row.request["evaluationConfig"]["automated"]
    model = row.request["inferenceConfig"]["models"][0]
    subject = model.get("bedrockModel")
    brought = model.get("precomputedInferenceSource", {}).get("inferenceSourceIdentifier")
    name = subject["modelIdentifier"] if subject else brought
    own = {
        one["customMetricDefinition"]["name"]: rubric_of(one["customMetricDefinition"]) for one in _custom(automated)
    }
    rubrics: dict[str, Rubric] = {**RUBRICS, **own}
    parts = automated["datasetMetricConfigs"]
    datasets = [_items(part, bench, brought) for part in parts]
    async with answering(bench.settings) as models:
        for part, items in zip(parts, datasets, strict=True):
            _check_length(part, items, row, subject, models, bench)
        for number, (part, items) in enumerate(zip(parts, datasets, strict=True)):
            said = await _answers(items, row, subject, models, bench)
            scored: list[list[dict[str, Any]]] = [[] for _ in items]
            for metric in part["metricNames"]:
                bench.stop.check()
                if metric in rubrics:
                    judge = _judge(automated["customMetricConfig"] if metric in own else automated)
                    hosts = row.facts["judges"][judge]
                    marks = await Judge(hosts, models, bench.stop.check).marks(rubrics[metric], items, said)
                    for place, (mark, why) in enumerate(marks):
                        details = [{"modelIdentifier": judge, "explanation": why}]
                        scored[place].append({"metricName": metric, "result": mark, "evaluatorDetails": details})
                else:
                    values = await _programmatic(metric, part["taskType"], items, said, row, models, bench)
                    for place, value in enumerate(values):
                        scored[place].append({"metricName": metric, "result": value})
            _publish(row, bench, number, part, name, items, said, scored)


def _custom(automated: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = (automated.get("customMetricConfig") or {}).get("customMetrics", [])
    return found


def _judge(config: Mapping[str, Any]) -> str:
    """The identifier of the one judge of Bedrock's metrics, or of the user's own: each part of a request names its."""
    return str(config["evaluatorModelConfig"]["bedrockEvaluatorModels"][0]["modelIdentifier"])


def _items(part: Mapping[str, Any], bench: Bench, brought_by: str | None) -> list[Item]:
    """The rows of a part's dataset. Raises `InvalidInput` with every fault."""
    uri = part["dataset"]["datasetLocation"]["s3Uri"]
    compared = [metric for metric in part["metricNames"] if metric in COMPARED]
    data = b"".join(bench.objects.read(*parse_uri(uri)))
    name = uri.rsplit("/", 1)[-1]
    items: list[Item] = []
    faults: list[str] = []
    for line, text in enumerate(data.split(b"\n"), 1):
        if not text.strip():
            continue
        try:
            record = json_object(text, "the record")
            answers = record.get("modelResponses") or []
            if not isinstance(record.get("prompt"), str):
                faults.append(f'{name} line {line}: no "prompt"; expected text')
            elif not isinstance(record.get("referenceResponse"), str | None):
                faults.append(f"{name} line {line}: referenceResponse is no text")
            elif compared and record.get("referenceResponse") is None:
                faults.append(f"{name} line {line}: no referenceResponse, with which {compared[0]} compares")
            elif brought_by is not None and (len(answers) != 1 or answers[0].get("modelIdentifier") != brought_by):
                faults.append(f'{name} line {line}: modelResponses; expected exactly one, of "{brought_by}"')
            else:
                said = answers[0]["response"] if brought_by is not None else None
                if not isinstance(said, str | None):
                    raise TypeError
                where, prompt = f"{name} line {line}", record["prompt"]
                items.append(Item(where, record, prompt, record.get("referenceResponse"), said, brought_by))
        except (InvalidInput, AttributeError, KeyError, TypeError):
            faults.append(f"{name} line {line}: no JSON object of the expected form")
    if not faults and not items:
        faults.append(f"{name}: no row; expected at least one")
    if len(items) > MOST_PROMPTS:
        faults.append(f"{name}: {len(items)} rows; expected at most {MOST_PROMPTS}")
    if faults:
        raise InvalidInput("; ".join(faults[:20]))
    return items


def _check_length(
    part: Mapping[str, Any],
    items: Sequence[Item],
    row: Row,
    subject: Mapping[str, Any] | None,
    models: Answering,
    bench: Bench,
) -> None:
    """Raise `InvalidInput` with every row that is too long for the model, as it stands or disturbed."""
    if subject is None:
        return
    sampling = sampling_of(subject.get("inferenceParams"))
    faults: list[str] = []
    for item in items:
        bench.stop.check()
        prompts = (item.prompt, _disturbed(item.prompt)) if ROBUSTNESS in part["metricNames"] else (item.prompt,)
        try:
            for prompt in prompts:
                models.prepare(row.facts["hosts"], _conversation(prompt, sampling))
        except InvalidInput as error:
            faults.append(f"{item.where}: {error}")
    if faults:
        raise InvalidInput("; ".join(faults[:20]))


def _conversation(prompt: str, sampling: Sampling) -> Conversation:
    return Conversation((Turn("user", (prompt,)),), sampling)


async def _answers(
    items: Sequence[Item], row: Row, subject: Mapping[str, Any] | None, models: Answering, bench: Bench
) -> list[str]:
    if subject is None:
        return [item.brought or "" for item in items]
    sampling = sampling_of(subject.get("inferenceParams"))
    return await _ask(row.facts["hosts"], [item.prompt for item in items], sampling, models, bench)


async def _ask(model: str, prompts: Sequence[str], sampling: Sampling, models: Answering, bench: Bench) -> list[str]:
    said: list[str] = []
    for start in range(0, len(prompts), AT_ONCE):
        bench.stop.check()
        some = [_conversation(prompt, sampling) for prompt in prompts[start : start + AT_ONCE]]
        for found in await models.ask_all(model, some):
            if isinstance(found, LimbeckError):
                raise found
            said.append(found.text)
    return said


async def _programmatic(
    metric: str,
    task: str,
    items: Sequence[Item],
    said: Sequence[str],
    row: Row,
    models: Answering,
    bench: Bench,
) -> list[float]:
    if metric == "Builtin.Toxicity":
        return [_toxicity(text) for text in said]
    score = exact_match if task == "Classification" else token_f1
    accuracy = [score(text, item.reference or "") for text, item in zip(said, items, strict=True)]
    if metric == ACCURACY:
        return accuracy
    sampling = sampling_of(row.request["inferenceConfig"]["models"][0]["bedrockModel"].get("inferenceParams"))
    again = await _ask(row.facts["hosts"], [_disturbed(item.prompt) for item in items], sampling, models, bench)
    later = [score(text, item.reference or "") for text, item in zip(again, items, strict=True)]
    return [max(0.0, (a - b) / a) if a else 0.0 for a, b in zip(accuracy, later, strict=True)]


def _disturbed(prompt: str) -> str:
    """The same request, carelessly typed: every tenth letter doubled, case lost. The same every time."""
    dice = random.Random(prompt)  # noqa: S311 (a disturbance, not a secret)
    return "".join(c + c if c.isalpha() and dice.random() < 0.1 else c for c in prompt.lower())


def _toxicity(text: str) -> float:
    words = ["".join(c for c in word if c.isalpha()) for word in text.lower().split()]
    return sum(word in INSULTS for word in words) / len(words) if words else 0.0


def _publish(
    row: Row,
    bench: Bench,
    number: int,
    part: Mapping[str, Any],
    model: str,
    items: Sequence[Item],
    said: Sequence[str],
    scored: Sequence[list[dict[str, Any]]],
) -> None:
    place = row.request["outputDataConfig"]["s3Uri"].rstrip("/")
    job = f"{place}/{row.name}/{row.arn.rsplit('/', 1)[-1]}"
    where = f"models/{model.rsplit('/', 1)[-1]}/taskTypes/{part['taskType']}/datasets/{part['dataset']['name']}"
    lines = (
        {
            "automatedEvaluationResult": {"scores": scores},
            "inputRecord": item.record,
            "modelResponses": [{"response": text, "modelIdentifier": model}],
        }
        for item, text, scores in zip(items, said, scored, strict=True)
    )
    body = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    told_apart = f"{row.arn}/{number}" if number else row.arn  # parts may name one task and one dataset
    key = f"{job}/{where}/{uuid.uuid5(uuid.NAMESPACE_URL, told_apart)}_output.jsonl"
    bench.objects.put(*parse_uri(key), body.encode())
