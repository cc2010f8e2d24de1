"""What a customization job publishes."""

import time
from types import SimpleNamespace

import pytest

from limbeck.storage.objects import Buckets
from limbeck.worker import outputs
from limbeck.worker.outputs import Outputs

STEPS = "step_number,epoch_number,training_loss,perplexity,seconds\n0,0,2.5,12.18,0.1\n"
KEY = "out/model-customization-job-abc/training_artifacts/step_wise_training_metrics.csv"


@pytest.mark.row(45)
def test_the_metrics_of_training_are_published_while_it_runs(tmp_path):
    buckets = Buckets(tmp_path / "buckets")
    buckets.make_bucket("desk")
    job = SimpleNamespace(arn="arn/abc", request={"outputDataConfig": {"s3Uri": "s3://desk/out"}})
    metrics = tmp_path / "job" / "4-training" / "metrics.csv"
    metrics.parent.mkdir(parents=True)
    metrics.write_text(STEPS)

    def published(count):
        until = time.monotonic() + 10
        while not buckets.exists("desk", KEY) or len(rows := b"".join(buckets.read("desk", KEY)).split()) < count:
            assert time.monotonic() < until
            time.sleep(0.01)
        return rows

    put, refusals = buckets.put, [OSError("the disk is away")] * 2

    def refusing(*given, **named):
        if refusals:
            raise refusals.pop()
        return put(*given, **named)

    buckets.put = refusing  # what is told while training runs is told again
    with Outputs(job, buckets, tmp_path / "job").kept_up_to_date(0.02):
        assert published(2) == [b"step_number,epoch_number,training_loss,perplexity", b"0,0,2.5,12.18"]
        with metrics.open("a") as file:
            file.write("1,0,2.25,9.49,0.2\n2,0,2.")  # the last line is being written
        assert published(3)[-1] == b"1,0,2.25,9.49"


def test_what_was_dropped_is_told_of_a_job_that_failed_too(tmp_path, monkeypatch):
    buckets = Buckets(tmp_path / "buckets")
    buckets.make_bucket("desk")
    job = SimpleNamespace(arn="arn/abc", request={"outputDataConfig": {"s3Uri": "s3://desk/out"}})
    dropped = tmp_path / "job" / "3-curation" / "dropped.jsonl"
    dropped.parent.mkdir(parents=True)
    dropped.write_text("{}\n")
    monkeypatch.setattr(outputs, "insights", lambda folder, recipe: None)
    Outputs(job, buckets, tmp_path / "job").publish_report(None)
    key = "out/model-customization-job-abc/synthetic_data/dropped.jsonl"
    assert [one.key for one in buckets.list("desk")] == [key]
