"""Models brought along, as their users meet them: plain boto3 against a server whose worker the tests are."""

import pytest
from tests.api.server import Server

from limbeck.jobs.queue import open_database
from limbeck.settings import Settings
from limbeck.storage.ledger import Ledger

ROLE = "arn:aws:iam::000000000000:role/Limbeck"
SOURCE = {"s3DataSource": {"s3Uri": "s3://desk/weights/"}}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    made = Settings(tmp_path_factory.mktemp("home"), 1)
    (made.buckets / "desk").mkdir(parents=True)
    return made


@pytest.fixture(scope="module")
def client(settings):
    server = Server(settings.home, "--no-auth", "--no-worker")
    yield server.client()
    _, said = server.stop()
    assert "Traceback" not in said


@pytest.fixture(scope="module")
def ledger(settings, client):
    made = Ledger(open_database(settings.database))
    yield made
    made.engine.dispose()


def import_job(name, **more):
    return {"jobName": name, "importedModelName": name, "roleArn": ROLE, "modelDataSource": SOURCE, **more}


def brought(name, **more):
    return {"modelName": name, "roleArn": ROLE, "modelSourceConfig": SOURCE, **more}


def test_a_request_repeated_with_its_token_gets_the_first_answer(client):
    for create, asked in (
        (client.create_model_import_job, import_job("imported")),
        (client.create_custom_model, brought("adopted")),
    ):
        first, again = (create(**asked, clientRequestToken="once") for _ in range(2))
        first.pop("ResponseMetadata"), again.pop("ResponseMetadata")
        assert first == again
        with pytest.raises(client.exceptions.ConflictException, match="choose another"):
            create(**asked)
