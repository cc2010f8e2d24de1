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
