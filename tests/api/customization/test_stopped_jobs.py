"""Jobs that are stopped, killed or one too many, as plain boto3 tells of them."""

import shutil
import signal
import time

import pytest
from tests.api.customization.orders import distillation, fine_tuning, wait
from tests.api.server import Server
from tests.factory import pairs
from tests.homes import tiny_home

SLOW = {"epochCount": "5", "batchSize": "1", "learningRate": "0.0001"}


@pytest.mark.row(42)
def test_a_job_is_stopped_and_cannot_be_stopped_again(client):
    arn = client.create_model_customization_job(**fine_tuning("stopped", hyperParameters=SLOW))["jobArn"]
    client.stop_model_customization_job(jobIdentifier=arn)
    assert client.get_model_customization_job(jobIdentifier=arn)["status"] in ("Stopping", "Stopped")
    done = wait(client, arn, "Stopped", "Completed", "Failed", seconds=60)
    assert done["status"] == "Stopped"
    assert "outputModelArn" not in done
    with pytest.raises(client.exceptions.ConflictException, match="is Stopped"):
        client.stop_model_customization_job(jobIdentifier=arn)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.stop_model_customization_job(jobIdentifier="nobody")


def test_a_job_that_waits_behind_another_is_stopped_at_once(client):
    busy = client.create_model_customization_job(**fine_tuning("busy", hyperParameters=SLOW))["jobArn"]
    waiting = client.create_model_customization_job(**fine_tuning("waiting"))["jobArn"]
    client.stop_model_customization_job(jobIdentifier=waiting)
    found = wait(client, waiting, "Stopped", seconds=5)
    assert found["statusDetails"]["validationDetails"]["status"] == "Stopped" and found["endTime"]
    assert client.get_model_customization_job(jobIdentifier=busy)["status"] == "InProgress"
    client.stop_model_customization_job(jobIdentifier=busy)
    assert wait(client, busy, seconds=60)["status"] == "Stopped"


@pytest.mark.row(43)
def test_a_job_stops_in_every_stage_and_another_goes_on_where_it_stood(client, home):
    pairs(home / "buckets" / "desk" / "many.jsonl", 400, labelled=False)
    slow = {"epochCount": "5", "batchSize": "16", "learningRate": "0.0001"}
    asked = {**distillation("unused"), "trainingDataConfig": {"s3Uri": "s3://desk/many.jsonl"}}
    earlier, steps = {}, 0
    for stage in ("1-intake", "2-synthesis", "4-training", "5-evaluation"):
        name = f"stopped-in-{stage}"
        names = {"jobName": name, "customModelName": "gone-on-with", "hyperParameters": {**slow, **earlier}}
        arn = client.create_model_customization_job(**{**asked, **names})["jobArn"]
        folder = home / "jobs" / name
        until = time.monotonic() + 120
        while not (folder / stage).exists() or (stage == "4-training" and not _steps(folder) > steps):
            assert time.monotonic() < until
            time.sleep(0.02)
        client.stop_model_customization_job(jobIdentifier=arn)
        assert wait(client, arn, seconds=15)["status"] == "Stopped"
        if stage == "4-training":
            (checkpoint,) = (folder / stage).glob("step-*")
            steps = int(checkpoint.name.removeprefix("step-"))
            assert steps > 0
        earlier = {"resumeFrom": name}
        found = client.get_foundation_model(modelIdentifier=asked["baseModelIdentifier"])
        asked["baseModelIdentifier"] = found["modelDetails"]["modelArn"]  # the same, named otherwise
    log = (home / "logs" / f"{arn.rsplit('/', 1)[-1]}.log").read_text()
    assert f"training: resumed at step {steps} of" in log and "2-synthesis: done before" in log
    assert _steps(folder) > steps
    with pytest.raises(client.exceptions.ValidationException, match=r'batchSize: found nothing; job \S+ had "16"'):
        client.create_model_customization_job(**{**asked, **names, "jobName": "x", "hyperParameters": earlier})
    with pytest.raises(client.exceptions.ValidationException, match='resumeFrom: no job "nobody"'):
        client.create_model_customization_job(**{**fine_tuning("y"), "hyperParameters": {"resumeFrom": "nobody"}})


def _steps(folder):
    table = folder / "4-training" / "metrics.csv"
    return len(table.read_text().splitlines()) - 1 if table.exists() else 0


@pytest.mark.row(44)
def test_too_many_jobs_at_once_are_refused_and_all_ends_well_after_kill_9(tmp_path, home):
    place = tiny_home(tmp_path / "home", home / "taught")
    shutil.copytree(home / "buckets", place / "buckets")
    flags = {"LIMBECK_THREADS": "1", "LIMBECK_MOST_JOBS": "2"}
    first = Server(place, "--no-auth", **flags)
    client = first.client()
    names = ("one", "two")
    for name in names:
        client.create_model_customization_job(**distillation(name))
    with pytest.raises(client.exceptions.ServiceQuotaExceededException, match="as many as may be at once"):
        client.create_model_customization_job(**distillation("three"))
    until = time.monotonic() + 120
    while not list((place / "jobs" / "one").glob("[1-9]-*")):
        assert time.monotonic() < until
        time.sleep(0.05)
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    first.process.stderr.close()
    second = Server(place, "--no-auth", **flags)
    try:
        for name in names:
            assert wait(second.client(), name)["status"] == "Completed"
    finally:
        second.stop()
    assert not [path for path in place.rglob("*.tmp")]
