"""Models brought along, as their users meet them: plain boto3 against a server whose worker the tests are."""

import json
import shutil
from urllib.parse import urlencode

import pytest
from tests.api.server import serving
from tests.api.test_service import register
from tests.factory import pairs

from limbeck.progress import StopSignal
from limbeck.settings import Settings
from limbeck.storage.objects import Buckets
from limbeck.storage.workspace import write_json
from limbeck.worker import labor
from limbeck.worker.ending import fail
from limbeck.worker.labor import Bench

ROLE = "arn:aws:iam::000000000000:role/Limbeck"
SOURCE = {"s3DataSource": {"s3Uri": "s3://desk/weights/"}}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    made = Settings(tmp_path_factory.mktemp("home"), 1)
    (made.buckets / "desk").mkdir(parents=True)
    return made


@pytest.fixture(scope="module")
def server(settings):
    with serving(settings.home, "--no-worker", LIMBECK_MOST_DEPLOYMENTS="1") as made:
        yield made


@pytest.fixture(scope="module")
def client(server):
    return server.client()


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


def test_a_model_that_could_not_be_made_is_deleted_and_its_name_is_free(client, ledger):
    arn = client.create_custom_model(**brought("broken"))["modelArn"]
    assert "broken" in [one["modelName"] for one in client.list_custom_models(modelStatus="Creating")["modelSummaries"]]
    with pytest.raises(client.exceptions.ConflictException, match="Creating"):
        client.delete_custom_model(modelIdentifier="broken")
    fail(arn, "no weights", ledger)
    assert client.get_custom_model(modelIdentifier="broken")["failureMessage"] == "no weights"
    (listed,) = client.list_custom_models(modelStatus="Failed")["modelSummaries"]
    assert (listed["modelName"], listed["modelArn"], listed["modelStatus"]) == ("broken", arn, "Failed")
    client.delete_custom_model(modelIdentifier="broken")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.delete_custom_model(modelIdentifier="broken")
    assert client.create_custom_model(**brought("broken"))["modelArn"] != arn


def test_a_model_whose_files_are_gone_is_deleted_and_its_name_is_free(client, settings, ledger, tiny_folder):
    shutil.copytree(tiny_folder, settings.buckets / "desk" / "weights", dirs_exist_ok=True)
    arn = client.create_custom_model(**brought("lost"))["modelArn"]
    labor._do(ledger.row(arn), Bench(settings, ledger, Buckets(settings.buckets), StopSignal()))
    folder = settings.imported / arn.rsplit("/", 1)[-1]
    assert ledger.row(arn).facts["found"]["path"] == str(folder.relative_to(settings.home))
    shutil.rmtree(folder)
    told = client.get_custom_model(modelIdentifier="lost")
    assert (told["modelStatus"], str(folder) in told["failureMessage"]) == ("Failed", True)
    listed = client.list_custom_models(nameContains="lost")["modelSummaries"]
    assert [(one["modelArn"], one["modelStatus"]) for one in listed] == [(arn, "Failed")]
    assert client.list_custom_models(nameContains="lost", modelStatus="Active")["modelSummaries"] == []
    client.delete_custom_model(modelIdentifier=arn)
    assert client.create_custom_model(**brought("lost"))["modelArn"] != arn
    shutil.rmtree(register(settings, "emptied"))
    client.delete_custom_model(modelIdentifier="emptied")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.delete_custom_model(modelIdentifier="emptied")
    client.create_custom_model(**brought("emptied"))


def test_a_model_that_a_deployment_is_moving_to_cannot_be_deleted(client, settings, ledger):
    for name in ("old", "new"):
        register(settings, name)
    old, new = (client.get_custom_model(modelIdentifier=name)["modelArn"] for name in ("old", "new"))
    made = client.create_custom_model_deployment(modelDeploymentName="moving", modelArn=old)
    arn = made["customModelDeploymentArn"]
    with pytest.raises(client.exceptions.ServiceQuotaExceededException, match="delete one, or raise LIMBECK_MOST_DEP"):
        client.create_custom_model_deployment(modelDeploymentName="another", modelArn=old)
    ledger.change(arn, "Active")
    client.update_custom_model_deployment(customModelDeploymentIdentifier=arn, modelArn=new)
    for model in (old, new):
        with pytest.raises(client.exceptions.ConflictException, match="in use by custom-model-deployment moving"):
            client.delete_custom_model(modelIdentifier=model)
    client.delete_custom_model_deployment(customModelDeploymentIdentifier=arn)
    client.delete_custom_model(modelIdentifier=new)


def test_a_model_brought_along_names_the_key_it_was_asked_to_be_encrypted_by(client, settings, ledger, tiny_folder):
    shutil.copytree(tiny_folder, settings.buckets / "desk" / "weights", dirs_exist_ok=True)
    id36 = "12345678-1234-1234-1234-123456789012"
    key = f"arn:aws:kms:us-east-1:000000000000:key/{id36}"
    adopted = client.create_custom_model(**brought("locked-custom", modelKmsKeyArn=key))["modelArn"]
    job = client.create_model_import_job(**import_job("locked", importedModelKmsKeyId=id36))["jobArn"]
    assert client.get_custom_model(modelIdentifier=adopted)["modelKmsKeyArn"] == key  # while it is being made
    for arn in (adopted, job):
        labor._do(ledger.row(arn), Bench(settings, ledger, Buckets(settings.buckets), StopSignal()))
    found = client.get_custom_model(modelIdentifier=adopted)
    assert (found["modelStatus"], found["modelKmsKeyArn"]) == ("Active", key)
    assert client.get_imported_model(modelIdentifier="locked")["modelKmsKeyArn"] == key
    client.delete_custom_model(modelIdentifier=adopted)
    client.delete_imported_model(modelIdentifier="locked")


def test_a_custom_model_brought_along_is_asked_and_trained_further_by_its_arn(server, settings, ledger, tiny_folder):
    client, runtime = server.client(), server.client(service="bedrock-runtime")
    shutil.copytree(tiny_folder, settings.buckets / "desk" / "weights", dirs_exist_ok=True)
    pairs(settings.buckets / "desk" / "pairs.jsonl", 20)
    arn = client.create_custom_model(**brought("asked"))["modelArn"]
    labor._do(ledger.row(arn), Bench(settings, ledger, Buckets(settings.buckets), StopSignal()))
    said = {"messages": [{"role": "user", "content": [{"text": "a leak"}]}], "inferenceConfig": {"maxTokens": 2}}
    assert runtime.converse(modelId=arn, **said)["usage"]["outputTokens"] <= 2
    assert list(runtime.converse_stream(modelId=arn, **said)["stream"])
    body = json.dumps({"prompt": "a leak", "max_gen_len": 2})
    assert json.load(runtime.invoke_model(modelId=arn, body=body)["body"])["generation_token_count"] <= 2
    assert list(runtime.invoke_model_with_response_stream(modelId=arn, body=body)["body"])
    job = client.create_model_customization_job(
        jobName="further",
        customModelName="further",
        roleArn=ROLE,
        baseModelIdentifier=arn,
        trainingDataConfig={"s3Uri": "s3://desk/pairs.jsonl"},
        outputDataConfig={"s3Uri": "s3://desk/out/"},
    )["jobArn"]
    (listed,) = client.list_model_customization_jobs(nameContains="further")["modelCustomizationJobSummaries"]
    assert (listed["jobArn"], listed["baseModelArn"]) == (job, arn)
    client.stop_model_customization_job(jobIdentifier=job)
    client.delete_custom_model(modelIdentifier=arn)


def test_an_imported_model_has_the_tags_it_was_asked_with_and_takes_others(client, settings, ledger, tiny_folder):
    shutil.copytree(tiny_folder, settings.buckets / "desk" / "weights", dirs_exist_ok=True)
    tags = [{"key": "team", "value": "desk"}]
    with pytest.raises(client.exceptions.ValidationException, match="the same key twice"):
        client.create_model_import_job(**import_job("tagged"), importedModelTags=tags * 2)
    with pytest.raises(client.exceptions.ValidationException, match="aws:team: keys that begin with aws: are AWS's"):
        client.create_model_import_job(**import_job("tagged"), importedModelTags=[{"key": "aws:team", "value": "a"}])
    job = client.create_model_import_job(**import_job("tagged"), importedModelTags=tags)["jobArn"]
    labor._do(ledger.row(job), Bench(settings, ledger, Buckets(settings.buckets), StopSignal()))
    arn = client.get_imported_model(modelIdentifier="tagged")["modelArn"]
    assert client.list_tags_for_resource(resourceARN=arn)["tags"] == tags
    client.tag_resource(resourceARN=arn, tags=[{"key": "cost", "value": "42"}])
    client.untag_resource(resourceARN=arn, tagKeys=["team"])
    assert client.list_tags_for_resource(resourceARN=arn)["tags"] == [{"key": "cost", "value": "42"}]
    client.delete_imported_model(modelIdentifier="tagged")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.list_tags_for_resource(resourceARN=arn)
    assert ledger.tags(arn) == {}


def test_times_are_compared_as_moments_whatever_zone_they_are_told_in(server, settings):
    arn = "arn:aws:bedrock:us-east-1:000000000000:imported-model/abcdefghijkl"
    job = {
        "job_name": "j",
        "job_arn": arn.replace("imported-model", "model-import-job"),
        "source": "s3://desk/weights/",
    }
    lineage = {"arn": arn, **job, "created": "2026-01-01T12:00:00.000+00:00", "architecture": "Llama"}
    row = {"name": "noon", "path": "", "kind": "imported", "base": "Llama", "fingerprint": "f"}
    write_json(settings.models / "noon.json", {**row, "lineage": {**lineage, "has_chat_template": True}})

    def names(**asked):
        _, _, body = server.ask("GET", f"/imported-models?{urlencode(asked)}")
        return [one["modelName"] for one in json.loads(body)["modelSummaries"]]

    for earlier, later in (("13:30:00+02:00", "14:30:00+02:00"), ("11:30:00Z", "12:30:00Z")):
        assert names(creationTimeBefore=f"2026-01-01T{earlier}") == names(creationTimeAfter=f"2026-01-01T{later}") == []
        assert (
            names(creationTimeBefore=f"2026-01-01T{later}")
            == names(creationTimeAfter=f"2026-01-01T{earlier}")
            == ["noon"]
        )
