"""Batch inference over a scripted model: a line of output for each of input, whatever stands in it."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from tests.api.stage import ScriptedPool, make_front
from tests.homes import ENTRY

from limbeck.errors import InvalidInput, ModelFailed, Stopped, StorageFailed
from limbeck.jobs.queue import open_database
from limbeck.progress import StopSignal
from limbeck.storage.database import Resource
from limbeck.storage.ledger import Ledger, now
from limbeck.storage.objects import Buckets
from limbeck.worker import answering, batch, ending
from limbeck.worker.labor import Bench

MODEL = "huggingface.stage-v1:0"
ARN = "arn:aws:bedrock:us-east-1:000000000000:model-invocation-job/abcdefghijkl"
ASKED = {"prompt": "a leak", "max_gen_len": 4}


def asked_of(monkeypatch, pool):
    @asynccontextmanager
    async def opened(settings):
        yield answering.Answering(settings, pool)

    monkeypatch.setattr(batch, "answering", opened)


@pytest.fixture
def bench(settings, tmp_path, monkeypatch):
    (tmp_path / "front").mkdir()
    settings.home.mkdir()
    entry = ENTRY.format(id=MODEL, name="front", path=make_front(tmp_path / "front"))
    (settings.home / "catalog.yaml").write_text(entry)

    asked_of(monkeypatch, ScriptedPool())
    ledger = Ledger(open_database(settings.database))
    objects = Buckets(settings.buckets)
    objects.make_bucket("desk")
    yield Bench(settings, ledger, objects, StopSignal())
    ledger.engine.dispose()


def answered(bench, uri, imported=False, **more):
    """What became of a job over ``uri``: its status, its counts, and what lies in its folder, by name."""
    moment = now()
    request = {
        "modelId": MODEL,
        "inputDataConfig": {"s3InputDataConfig": {"s3Uri": uri}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": "s3://desk/out/"}},
        **more,
    }
    facts = {"hosts": MODEL, "imported": imported}
    kind = "model-invocation-job"
    bench.ledger.create(
        Resource(
            arn=ARN,
            kind=kind,
            name="b",
            status="Submitted",
            created=moment,
            modified=moment,
            request=request,
            facts=facts,
        )
    )
    status, counts, _ = batch.answer_batch(bench.ledger.row(ARN), bench)
    folder = f"out/{ARN.rsplit('/', 1)[-1]}/"
    left = {
        one.key.removeprefix(folder): b"".join(bench.objects.read("desk", one.key))
        for one in bench.objects.list("desk", folder)
    }
    return status, counts, left


def test_a_job_whose_output_bucket_is_gone_says_where_its_answers_lie(bench):
    bench.objects.put("desk", "in.jsonl", json.dumps({"recordId": "r", "modelInput": ASKED}).encode())
    folder = bench.settings.jobs / "batch-abcdefghijkl"
    gone = {"s3OutputDataConfig": {"s3Uri": "s3://gone/out/"}}
    with pytest.raises(StorageFailed, match=rf"gone.*; what was answered lies in {folder}$"):
        answered(bench, "s3://desk/in.jsonl", outputDataConfig=gone)
    (left,) = folder.glob("*.jsonl.out")
    assert json.loads(left.read_text())["recordId"] == "r"


def test_files_of_one_name_keep_the_folders_they_lie_in(bench):
    for day in ("mon", "tue"):
        bench.objects.put("desk", f"in/{day}/data.jsonl", json.dumps({"recordId": day, "modelInput": ASKED}).encode())
    status, counts, left = answered(bench, "s3://desk/in/")
    assert (status, counts["successRecordCount"]) == ("Completed", 2)
    for day in ("mon", "tue"):
        (line,) = left[f"{day}/data.jsonl.out"].splitlines()
        assert json.loads(line)["recordId"] == day


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[1]",
        b'{"recordId": "r", "modelInput": {"prompt": "\\ud800"}}',
        b'{"modelInput": {"prompt": "\xed\xa0\x80"}}',
    ],
)
def test_a_line_that_nobody_can_read_is_told_so_and_the_others_are_answered(bench, line):
    good = json.dumps({"recordId": "good", "modelInput": ASKED}).encode()
    bench.objects.put("desk", "in/data.jsonl", line + b"\n" + good)
    status, counts, left = answered(bench, "s3://desk/in/data.jsonl")
    assert (status, counts["successRecordCount"], counts["errorRecordCount"]) == ("Completed", 1, 1)
    bad, fine = map(json.loads, left["data.jsonl.out"].splitlines())
    assert bad["error"]["errorCode"] == 400 and "the record is" in bad["error"]["errorMessage"]
    assert fine["recordId"] == "good"


@pytest.mark.parametrize(
    ("asked", "imported"),
    [
        ({"messages": [{"role": "user", "content": [{"text": "a leak"}]}], "inferenceConfig": {"maxTokens": 4}}, False),
        (ASKED, False),
        (ASKED, True),
        ({"prompt": "a leak", "max_tokens": 4}, True),
    ],
)
def test_tokens_are_counted_whatever_form_they_were_asked_in(bench, asked, imported):
    bench.objects.put("desk", "in/data.jsonl", json.dumps({"modelInput": asked}).encode())
    manifest = json.loads(answered(bench, "s3://desk/in/data.jsonl", imported)[2]["manifest.json.out"])
    assert manifest["inputTokenCount"] > 0 and manifest["outputTokenCount"] == 4


@pytest.mark.parametrize("imported", [False, True])
def test_a_batch_of_converse_takes_what_converse_takes_and_is_refused_in_its_words(bench, imported):
    said = {"messages": [{"role": "user", "content": [{"text": "a leak"}]}], "inferenceConfig": {"maxTokens": 4}}
    extras = {
        "additionalModelRequestFields": {"seed": 1},
        "additionalModelResponseFieldPaths": ["/stop_sequence"],
        "performanceConfig": {"latency": "optimized"},
        "requestMetadata": {"team": "desk"},
    }
    inputs = [said | extras, said | {"guardrailConfig": {"guardrailIdentifier": "g"}}, ASKED]
    lines = [json.dumps({"modelInput": one}).encode() for one in inputs]
    bench.objects.put("desk", "in/data.jsonl", b"\n".join(lines))
    left = answered(bench, "s3://desk/in/data.jsonl", imported, modelInvocationType="Converse")[2]
    good, guarded, native = map(json.loads, left["data.jsonl.out"].splitlines())
    told = good["modelOutput"]
    assert told["output"]["message"]["content"] == [{"text": "There is a leak"}]
    assert (told["stopReason"], told["performanceConfig"]) == ("max_tokens", {"latency": "optimized"})
    assert told["additionalModelResponseFields"] == {"stop_sequence": None}
    assert "guardrailConfig" in guarded["error"]["errorMessage"]
    assert "A conversation must end with a user message" in native["error"]["errorMessage"]


def test_a_model_is_read_once_however_many_ask_it(bench, monkeypatch):
    made = []

    class Counting(answering.ChatModel):
        def __init__(self, source):
            made.append(source)
            super().__init__(source)

    monkeypatch.setattr(answering, "ChatModel", Counting)
    bench.objects.put("desk", "in/data.jsonl", b"\n".join([json.dumps({"modelInput": ASKED}).encode()] * 5))
    assert answered(bench, "s3://desk/in/data.jsonl")[1]["successRecordCount"] == 5
    assert len(made) == 1


def test_a_folder_is_not_its_neighbor_whose_name_begins_like_it(bench):
    for folder in ("in", "in-old"):
        bench.objects.put("desk", f"{folder}/data.jsonl", json.dumps({"modelInput": ASKED}).encode())
    counts, left = answered(bench, "s3://desk/in")[1:]
    assert counts["totalRecordCount"] == 1 and sorted(left) == ["in/data.jsonl.out", "manifest.json.out"]


def test_a_batch_that_is_stopped_leaves_what_it_has_answered_and_one_whose_worker_ends_waits(bench, monkeypatch):
    bench.objects.put("desk", "in/data.jsonl", b"\n".join([json.dumps({"modelInput": ASKED}).encode()] * 50))
    wanted = iter(["InProgress", "Stopping"])
    progress = bench.ledger.change

    def change(arn, *given, facts=None, **more):
        if facts and facts["processedRecordCount"]:
            given = (next(wanted),)
            bench.stop.set()
        return progress(arn, *given, facts=facts, **more)

    monkeypatch.setattr(bench.ledger, "change", change)
    with pytest.raises(Stopped):
        answered(bench, "s3://desk/in/")
    assert list(bench.objects.list("desk", "out/")) == []
    bench.stop = StopSignal()
    with pytest.raises(Stopped):
        batch.answer_batch(bench.ledger.row(ARN), bench)
    out, manifest = (b"".join(bench.objects.read("desk", one.key)) for one in bench.objects.list("desk", "out/"))
    assert 0 < len(out.splitlines()) == json.loads(manifest)["successRecordCount"] < 50


def test_a_batch_that_is_stopped_does_not_wait_for_the_answers_under_way(bench, monkeypatch):
    class Slow(ScriptedPool):
        async def generate(self, asked):
            if len(self.asked) == 3:
                bench.ledger.change(ARN, "Stopping")
                bench.stop.set()
                await asyncio.sleep(60)
            async for one in super().generate(asked):
                yield one

    asked_of(monkeypatch, Slow())
    bench.objects.put("desk", "in/data.jsonl", b"\n".join([json.dumps({"modelInput": ASKED}).encode()] * 8))
    with pytest.raises(Stopped):
        answered(bench, "s3://desk/in/")
    out, manifest = (b"".join(bench.objects.read("desk", one.key)) for one in bench.objects.list("desk", "out/"))
    assert len(out.splitlines()) == json.loads(manifest)["successRecordCount"] == 3


def test_a_question_whose_model_broke_off_is_asked_again_and_one_that_breaks_it_each_time_is_told(bench, monkeypatch):
    class Frail(ScriptedPool):
        async def generate(self, asked):
            if asked.max_tokens == 3 or not self.asked:
                self.asked.append(asked)
                raise ModelFailed("its process was killed by SIGKILL")
            async for one in super().generate(asked):
                yield one

    asked_of(monkeypatch, Frail())
    lines = [json.dumps({"modelInput": one}).encode() for one in (ASKED, ASKED | {"max_gen_len": 3})]
    bench.objects.put("desk", "in/data.jsonl", b"\n".join(lines))
    counts, left = answered(bench, "s3://desk/in/data.jsonl")[1:]
    assert (counts["successRecordCount"], counts["errorRecordCount"]) == (1, 1)
    told = json.loads(left["data.jsonl.out"].splitlines()[1])["error"]
    assert told == {"errorCode": 424, "errorMessage": "its process was killed by SIGKILL"}


def test_a_batch_of_which_nothing_is_answered_has_failed_with_its_counts_and_a_message_that_fits(bench):
    roles = [{"role": "x" * 300, "content": [{"text": "hi"}]}] * 30
    bench.objects.put("desk", "in/data.jsonl", json.dumps({"modelInput": {"messages": roles}}).encode())
    with pytest.raises(InvalidInput, match=r"no record was answered; the first: .*role") as told:
        answered(bench, "s3://desk/in/")
    assert len(str(told.value)) > 2048
    ending.fail(ARN, str(told.value), bench.ledger)
    facts = bench.ledger.row(ARN).facts
    assert (facts["errorRecordCount"], len(facts["failureMessage"])) == (1, 2048)
