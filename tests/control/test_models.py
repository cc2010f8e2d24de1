"""A model that is being deleted, and those who order something of it at the same moment."""

import sqlite3
from contextlib import closing

import pytest
from tests.api.test_service import register
from tests.factory import pairs

from limbeck.control import deployments, models
from limbeck.control.batch import create_model_invocation_job
from limbeck.control.customization import create_model_customization_job
from limbeck.control.desk import open_desk
from limbeck.errors import InvalidInput
from limbeck.settings import Settings

ROLE = "arn:aws:iam::000000000000:role/Limbeck"


@pytest.fixture
def desk(tmp_path):
    made = open_desk(Settings(tmp_path / "home", threads=1))
    made.objects.make_bucket("desk")
    pairs(made.settings.buckets / "desk" / "pairs.jsonl", 20)
    register(made.settings, "leaving")
    register(made.settings, "staying")
    model = arn_of("staying", made)
    deployments.create_custom_model_deployment({"modelDeploymentName": "standing", "modelArn": model}, made)
    asked = {"provisionedModelName": "committed", "modelUnits": 1, "modelId": model}
    deployments.create_provisioned_model_throughput(asked, made)
    for kind, name, status in (
        (deployments.DEPLOYMENT, "standing", "Active"),
        (deployments.PROVISIONED, "committed", "InService"),
    ):
        made.ledger.change(made.ledger.get(kind, name).arn, status)
    yield made
    made.ledger.engine.dispose()


def arn_of(name, desk):
    return models.custom_model(name, desk).arn


def deploy(desk):
    return deployments.create_custom_model_deployment(
        {"modelDeploymentName": "d", "modelArn": arn_of("leaving", desk)}, desk
    )


def provision(desk):
    asked = {"provisionedModelName": "p", "modelUnits": 1, "modelId": arn_of("leaving", desk)}
    return deployments.create_provisioned_model_throughput(asked, desk)


def ask(desk):
    places = {
        "inputDataConfig": {"s3InputDataConfig": {"s3Uri": "s3://desk/pairs.jsonl"}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": "s3://desk/out/"}},
    }
    asked = {"jobName": "b", "roleArn": ROLE, "modelId": arn_of("leaving", desk), **places}
    return create_model_invocation_job(asked, desk)


def tune(desk):
    asked = {
        "jobName": "t",
        "customModelName": "tuned",
        "roleArn": ROLE,
        "baseModelIdentifier": arn_of("leaving", desk),
        "trainingDataConfig": {"s3Uri": "s3://desk/pairs.jsonl"},
        "outputDataConfig": {"s3Uri": "s3://desk/out/"},
    }
    return create_model_customization_job(asked, desk)


def move(desk):
    asked = {"customModelDeploymentIdentifier": "standing", "modelArn": arn_of("leaving", desk)}
    return deployments.update_custom_model_deployment(asked, desk)


def update(desk):
    asked = {"provisionedModelId": "committed", "desiredModelId": arn_of("leaving", desk)}
    return deployments.update_provisioned_model_throughput(asked, desk)


@pytest.mark.parametrize("order", [deploy, provision, ask, tune, move, update])
def test_nothing_is_ordered_of_a_model_that_is_deleted_between_the_look_and_the_order(desk, monkeypatch, order):
    deleted = []

    def deleting_first(writes):
        def written(*given, **more):
            if not deleted:
                deleted.append("leaving")
                models.delete_custom_model({"modelIdentifier": "leaving"}, desk)
            return writes(*given, **more)

        return written

    before = desk.ledger.some(10)
    monkeypatch.setattr(desk.ledger, "create", deleting_first(desk.ledger.create))
    monkeypatch.setattr(desk.ledger, "change", deleting_first(desk.ledger.change))
    with pytest.raises(InvalidInput, match='model "leaving" has just been deleted'):
        order(desk)
    assert deleted and desk.ledger.some(10) == before


def test_a_model_is_deleted_while_nobody_can_order(desk, monkeypatch):
    def remove(name, settings):
        with (
            closing(sqlite3.connect(settings.home / "limbeck.sqlite", timeout=0)) as other,
            pytest.raises(sqlite3.OperationalError, match="database is locked"),
        ):
            other.execute("begin immediate")
        deleted.append(name)

    deleted = []
    monkeypatch.setattr(models, "remove", remove)
    models.delete_custom_model({"modelIdentifier": "leaving"}, desk)
    assert deleted == ["leaving"]
