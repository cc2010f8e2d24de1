"""Evaluation over a scripted model: each metric by the judge it was given, each dataset into an object of its own."""

import json
from contextlib import asynccontextmanager

import pytest
from tests.api.stage import ScriptedPool, make_front
from tests.homes import ENTRY

from limbeck.control.desk import open_desk
from limbeck.control.evaluation import JOB, create_evaluation_job
from limbeck.errors import InvalidInput
from limbeck.progress import StopSignal
from limbeck.worker import answering, evaluation
from limbeck.worker.labor import Bench

MODELS = ("test.subject-v1:0", "test.alice-v1:0", "test.bob-v1:0")
SUBJECT, ALICE, BOB = MODELS


@pytest.fixture
def desk(settings, tmp_path, monkeypatch):
    (tmp_path / "front").mkdir()
    settings.home.mkdir()
    front = make_front(tmp_path / "front")
    entries = [ENTRY.format(id=model, name="front", path=front) for model in MODELS]
    (settings.home / "catalog.yaml").write_text("".join(entries))

    @asynccontextmanager
    async def scripted(settings):
        pool = ScriptedPool()
        pool.script = ['{"explanation": "clear", ', '"mark": "5"}']
        yield answering.Answering(settings, pool)

    monkeypatch.setattr(evaluation, "answering", scripted)
    made = open_desk(settings)
    made.objects.make_bucket("desk")
    yield made
    made.ledger.engine.dispose()


def rows(desk, *records):
    desk.objects.put("desk", "rows.jsonl", "\n".join(map(json.dumps, records)).encode())
    return {"name": "set", "datasetLocation": {"s3Uri": "s3://desk/rows.jsonl"}}


def judge(model):
    return {"bedrockEvaluatorModels": [{"modelIdentifier": model}]}


def part(desk, name, *metrics, task="General"):
    """A dataset of one row, which is its file's name."""
    key = f"{name}.jsonl"
    desk.objects.put("desk", key, json.dumps({"prompt": name, "referenceResponse": "x"}).encode())
    dataset = {"name": "set", "datasetLocation": {"s3Uri": f"s3://desk/{key}"}}
    return {"taskType": task, "dataset": dataset, "metricNames": list(metrics)}


def asked(*parts, **more):
    return {
        "jobName": "scored",
        "roleArn": "arn:aws:iam::000000000000:role/Limbeck",
        "evaluationConfig": {"automated": {"datasetMetricConfigs": list(parts), **more}},
        "inferenceConfig": {"models": [{"bedrockModel": {"modelIdentifier": SUBJECT}}]},
        "outputDataConfig": {"s3Uri": "s3://desk/out/"},
    }


def evaluated(desk, request):
    """The records of a job, object by object."""
    row = desk.ledger.get(JOB, create_evaluation_job(request, desk)["jobArn"])
    evaluation.evaluate(row, Bench(desk.settings, desk.ledger, desk.objects, StopSignal()))
    left = [b"".join(desk.objects.read("desk", one.key)) for one in desk.objects.list("desk", "out/")]
    return [[json.loads(line) for line in data.splitlines()] for data in left]


@pytest.mark.parametrize(("builtin", "own"), [(ALICE, BOB), (BOB, ALICE)])
def test_a_metric_of_ones_own_has_a_judge_of_its_own(desk, builtin, own):
    definition = {"customMetricDefinition": {"name": "Brevity", "instructions": "Is it brief?"}}
    request = asked(
        part(desk, "one", "Builtin.Helpfulness", "Brevity"),
        evaluatorModelConfig=judge(builtin),
        customMetricConfig={"customMetrics": [definition], "evaluatorModelConfig": judge(own)},
    )
    ((record,),) = evaluated(desk, request)
    scores = record["automatedEvaluationResult"]["scores"]
    marked_by = {score["metricName"]: score["evaluatorDetails"][0]["modelIdentifier"] for score in scores}
    assert marked_by == {"Builtin.Helpfulness": builtin, "Brevity": own}
    del request["evaluationConfig"]["automated"]["evaluatorModelConfig"]
    with pytest.raises(InvalidInput, match=r"automated\.evaluatorModelConfig: missing"):
        create_evaluation_job({**request, "jobName": "unjudged"}, desk)


def test_datasets_of_one_name_keep_their_own_records(desk):
    found = evaluated(desk, asked(part(desk, "one", "Builtin.Accuracy"), part(desk, "two", "Builtin.Toxicity")))
    assert sorted(record["inputRecord"]["prompt"] for (record,) in found) == ["one", "two"]


def test_rows_that_cannot_be_asked_or_compared_are_all_named_before_any_is_asked(desk, monkeypatch):
    monkeypatch.setattr(answering.Answering, "ask", None)
    fine, long = {"prompt": "one", "referenceResponse": "x"}, {"prompt": "leak " * 5000, "referenceResponse": "x"}
    metrics = ("Builtin.Toxicity", "Builtin.Accuracy")
    first = part(desk, "one", *metrics)
    request = asked(
        first, part(desk, "two", *metrics) | {"dataset": rows(desk, fine, {"prompt": "b"}, {"prompt": "c"})}
    )
    with pytest.raises(InvalidInput) as bare:
        evaluated(desk, request)
    wanted = "no referenceResponse, with which Builtin.Accuracy compares"
    assert str(bare.value) == f"rows.jsonl line 2: {wanted}; rows.jsonl line 3: {wanted}"
    rows(desk, fine, long, fine, long)
    with pytest.raises(InvalidInput) as longer:
        evaluated(desk, {**request, "jobName": "longer"})
    said = str(longer.value).split("; ")
    assert [one.split(": ")[0] for one in said] == ["rows.jsonl line 2", "rows.jsonl line 4"]
    assert all("Input is too long for requested model" in one for one in said)


def test_what_is_too_long_for_the_judge_names_its_row(desk):
    long = {"prompt": "leak " * 5000, "modelResponses": [{"response": "yes", "modelIdentifier": "mine"}]}
    short = {**long, "prompt": "leak"}
    request = asked(
        part(desk, "one", "Builtin.Helpfulness") | {"dataset": rows(desk, short, long)},
        evaluatorModelConfig=judge(ALICE),
    )
    request["inferenceConfig"]["models"] = [{"precomputedInferenceSource": {"inferenceSourceIdentifier": "mine"}}]
    with pytest.raises(InvalidInput, match=r"^rows\.jsonl line 2, with its answer before the judge: Input is too long"):
        evaluated(desk, request)


def test_robustness_of_answers_brought_along_is_refused_at_once(desk):
    request = asked(part(desk, "one", "Builtin.Robustness"))
    request["inferenceConfig"]["models"] = [{"precomputedInferenceSource": {"inferenceSourceIdentifier": "mine"}}]
    with pytest.raises(InvalidInput, match="Robustness asks the model again, and answers brought along have none"):
        create_evaluation_job(request, desk)
