"""A customization job after its training: what it made is known, and then published."""

from types import SimpleNamespace

import pytest
from tests.factory import pairs
from tests.homes import STUDENT, tiny_home

from limbeck import pipeline
from limbeck.control.customization import (
    JOB,
    create_model_customization_job,
    get_model_customization_job,
    stop_model_customization_job,
)
from limbeck.control.desk import open_desk
from limbeck.errors import Conflict, Stopped, StorageFailed
from limbeck.progress import StopSignal
from limbeck.settings import Settings
from limbeck.steps.job import check_job
from limbeck.storage.database import engine_of
from limbeck.storage.ledger import Ledger
from limbeck.storage.objects import Buckets
from limbeck.storage.workspace import write_json
from limbeck.worker import customization, labor
from limbeck.worker.customization import Telling, customize
from limbeck.worker.labor import Bench
from limbeck.worker.outputs import Outputs


@pytest.fixture
def desk(tmp_path, tiny_folder):
    settings = Settings(tiny_home(tmp_path / "home", tiny_folder), threads=1)
    made = open_desk(settings)
    made.objects.make_bucket("desk")
    pairs(settings.buckets / "desk" / "pairs.jsonl", 60)
    yield made
    made.ledger.engine.dispose()


@pytest.fixture
def asked():
    return {
        "jobName": "tuned",
        "customModelName": "model-tuned",
        "roleArn": "arn:aws:iam::000000000000:role/Limbeck",
        "baseModelIdentifier": STUDENT,
        "trainingDataConfig": {"s3Uri": "s3://desk/pairs.jsonl"},
        "outputDataConfig": {"s3Uri": "s3://desk/out/"},
    }


@pytest.fixture
def trained(desk, monkeypatch):
    """Training that takes no time, and whatever else is to happen while it runs."""
    meanwhile = []

    def run(recipe, work, settings, resume):
        for happens in meanwhile:
            happens()
        write_json(work.folder / "4-training" / "losses.json", {"training_loss": 0.5})
        known = {"name": recipe.name, "path": "", "kind": "fine-tuning", "base": STUDENT, "fingerprint": "f" * 64}
        write_json(settings.models / f"{recipe.name}.json", {**known, "lineage": {}})
        return SimpleNamespace(name=recipe.name, fingerprint="f" * 64)

    monkeypatch.setattr(pipeline, "run", run)
    return meanwhile


def test_stages_come_in_their_order_and_are_not_taken_back_by_a_job_that_was_broken_off(desk, asked):
    arn = create_model_customization_job(asked, desk)["jobArn"]

    def details():
        return get_model_customization_job({"jobIdentifier": arn}, desk)["statusDetails"]

    told = []
    for name in ("1-intake", "2-synthesis", "3-curation", "4-training"):
        Telling(arn, desk.ledger).stage(name)
        told.append([one["status"] for one in details().values()])  # of a fine-tuning: data are not processed
    assert told == [
        ["InProgress", "NotStarted"],
        ["Completed", "NotStarted"],
        ["Completed", "NotStarted"],
        ["Completed", "InProgress"],
    ]
    before = details()
    for name in ("1-intake", "2-synthesis", "3-curation", "4-training"):  # its next process
        Telling(arn, desk.ledger).stage(name)
        assert details() == before


def test_a_job_whose_model_is_registered_is_not_stopped_any_more(desk, asked, trained, monkeypatch):
    row = desk.ledger.get(JOB, create_model_customization_job(asked, desk)["jobArn"])

    def stop():
        stop_model_customization_job({"jobIdentifier": row.arn}, desk)

    seen = []

    def publish(outputs, recipe):
        with pytest.raises(Conflict, match="can no longer be stopped"):
            stop()
        seen.append(desk.ledger.row(row.arn).status)

    trained.append(lambda: desk.ledger.change(row.arn, "Stopping"))  # too late for the training to see
    monkeypatch.setattr(Outputs, "publish_all", publish)
    status, _, arn = customize(row, Bench(desk.settings, desk.ledger, desk.objects, StopSignal()))
    assert (status, seen) == ("Completed", ["InProgress"])
    assert arn == desk.ledger.row(row.arn).facts["registered"]


def test_the_model_gets_the_tags_that_were_asked_for_it(desk, asked, trained):
    tagged = {**asked, "customModelTags": [{"key": "team", "value": "desk"}]}
    arn = create_model_customization_job(tagged, desk)["jobArn"]
    labor._do(desk.ledger.row(arn), Bench(desk.settings, desk.ledger, desk.objects, StopSignal()))
    done = desk.ledger.row(arn)
    assert (done.status, desk.ledger.tags(done.model)) == ("Completed", {"team": "desk"})


def test_a_model_whose_publishing_fails_stays_and_its_job_says_where(desk, asked, trained, monkeypatch):
    def publish(outputs, recipe):
        raise StorageFailed("the server refuses our key" * 100)

    monkeypatch.setattr(Outputs, "publish_all", publish)
    arn = create_model_customization_job(asked, desk)["jobArn"]
    labor._do(desk.ledger.row(arn), Bench(desk.settings, desk.ledger, desk.objects, StopSignal()))
    job = get_model_customization_job({"jobIdentifier": arn}, desk)
    assert (job["status"], len(job["failureMessage"])) == ("Failed", 2048)
    assert job["failureMessage"].endswith(f"the model was made before that, and is there: {job['outputModelArn']}")


def test_a_job_goes_on_in_a_home_that_was_moved_meanwhile(desk, asked, monkeypatch, tmp_path):
    validated = {"validators": [{"s3Uri": "s3://desk/pairs.jsonl"}]}
    arn = create_model_customization_job({**asked, "validationDataConfig": validated}, desk)["jobArn"]
    seen = []

    def run(recipe, work, settings, resume):
        check_job(recipe, work, resume)
        write_json(work.folder / "recipe.json", recipe.dump())
        (work.folder / "4-training").mkdir(exist_ok=True)
        seen.append([*recipe.source.prompt_files, *recipe.source.validation])
        raise Stopped("for now")

    monkeypatch.setattr(pipeline, "run", run)
    monkeypatch.setattr(Outputs, "publish_report", lambda outputs, recipe: None)
    for home in (tmp_path / "home", tmp_path / "moved"):
        if not home.exists():
            desk.ledger.engine.dispose()
            (tmp_path / "home").rename(home)
        settings = Settings(home, threads=1)
        ledger = Ledger(engine_of(settings.database))
        with pytest.raises(Stopped):
            customize(ledger.row(arn), Bench(settings, ledger, Buckets(settings.buckets), StopSignal()))
        ledger.engine.dispose()
        place = home / "jobs" / "tuned" / "source"
        assert seen.pop() == [place / "train" / "pairs.jsonl", place / "validation-0" / "pairs.jsonl"]
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("losses", "told"),
    [
        ({"validation_loss": 2.0, "validation_losses": [None, 2.0]}, [{}, {"validationLoss": 2.0}]),
        ({"validation_loss": 2.0, "validation_losses": []}, [{"validationLoss": 2.0}]),
        ({"validation_loss": None, "validation_losses": []}, []),
    ],
)
def test_validation_losses_are_told_in_the_order_of_their_validators(tmp_path, losses, told):
    write_json(tmp_path / "4-training" / "losses.json", {"training_loss": 0.5, **losses})
    assert customization._metrics(tmp_path)["validationMetrics"] == told
