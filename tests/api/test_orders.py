"""What is ordered is looked at before anything is made: plain boto3 against a server without a worker."""

from contextlib import contextmanager

import pytest
from tests.api.server import serving
from tests.api.test_service import BASE, register
from tests.factory import pairs

from limbeck.settings import Settings

ROLE = "arn:aws:iam::000000000000:role/Limbeck"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    made = Settings(tmp_path_factory.mktemp("home"), 1)
    (made.buckets / "desk").mkdir(parents=True)
    pairs(made.buckets / "desk" / "pairs.jsonl", 20)
    return made


@pytest.fixture(scope="module")
def client(settings):
    with serving(settings.home, "--no-worker", LIMBECK_MOST_JOBS="100") as server:
        yield server.client()


def tuning(name, out="s3://desk/out/", **more):
    return {
        "jobName": name,
        "customModelName": f"model-{name}",
        "roleArn": ROLE,
        "baseModelIdentifier": BASE,
        "trainingDataConfig": {"s3Uri": "s3://desk/pairs.jsonl"},
        "outputDataConfig": {"s3Uri": out},
        **more,
    }


def batch(name, out="s3://desk/out/", **more):
    return {
        "jobName": name,
        "roleArn": ROLE,
        "modelId": BASE,
        "inputDataConfig": {"s3InputDataConfig": {"s3Uri": "s3://desk/pairs.jsonl"}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": out}},
        **more,
    }


def evaluation(name, out="s3://desk/out/", dataset="d", **model):
    location = {"s3Uri": "s3://desk/pairs.jsonl"}
    part = {
        "taskType": "Custom",
        "dataset": {"name": dataset, "datasetLocation": location},
        "metricNames": ["Builtin.Toxicity"],
    }
    return {
        "jobName": name,
        "roleArn": ROLE,
        "evaluationConfig": {"automated": {"datasetMetricConfigs": [part]}},
        "inferenceConfig": {"models": [{"bedrockModel": {"modelIdentifier": BASE, **model}}]},
        "outputDataConfig": {"s3Uri": out},
    }


def create(client, order):
    """Send an order of any kind; gives the ARN."""
    if "customModelName" in order:
        return client.create_model_customization_job(**order)["jobArn"]
    send = client.create_evaluation_job if "evaluationConfig" in order else client.create_model_invocation_job
    return send(**order)["jobArn"]


@contextmanager
def refused(client, name, said):
    with pytest.raises(client.exceptions.ClientError, match=said) as caught:
        yield
    assert caught.value.response["Error"]["Code"] == name


@pytest.mark.parametrize("order", [tuning, batch, evaluation])
@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("s3://desk/pairs.jsonl", r"s3://desk/pairs\.jsonl is an object; expected a folder"),
        ("s3://desk/pairs.jsonl/out", r"s3://desk/pairs\.jsonl is an object; expected a folder"),
        ("s3://desk/./out", "no empty, . or .. between"),
        (f"s3://desk/{'x' * 200}/{'y' * 200}/{'z' * 200}/{'w' * 200}/{'v' * 200}", "at most 1024 bytes"),
        ("s3://nobody/out", 'no bucket "nobody"'),
    ],
)
def test_an_output_location_where_nothing_can_be_put_is_refused(client, order, out, said):
    with refused(client, "ValidationException", said):
        create(client, order("placed", out))


def test_a_name_too_long_to_be_put_is_refused_before_the_work(client, settings):
    long = f"{'x' * 247}.jsonl"
    (settings.buckets / "desk" / long).write_text("{}\n")
    order = batch("long", inputDataConfig={"s3InputDataConfig": {"s3Uri": f"s3://desk/{long}"}})
    with refused(client, "ValidationException", "at most 255 bytes between two"):
        create(client, order)
    with refused(client, "ValidationException", "no empty, . or .. between"):
        create(client, evaluation("dotted", dataset=".."))
    nothing = {"s3InputDataConfig": {"s3Uri": "s3://desk/nothing/"}}
    with refused(client, "ValidationException", r"s3://desk/nothing/: no \.jsonl object is there"):
        create(client, batch("nothing", inputDataConfig=nothing))


@pytest.mark.parametrize("order", [tuning, batch, evaluation])
def test_a_model_that_a_job_under_way_needs_is_not_deleted(client, settings, ledger, order):
    name = f"needed-{order.__name__}"
    register(settings, name)
    arn = client.get_custom_model(modelIdentifier=name)["modelArn"]
    more = {tuning: {"baseModelIdentifier": arn}, batch: {"modelId": arn}, evaluation: {"modelIdentifier": arn}}
    job = create(client, order(f"job-{name}", **more[order]))
    kind = job.split(":")[5].split("/")[0]
    with refused(client, "ConflictException", f"in use by {kind} job-{name}; delete or stop that first"):
        client.delete_custom_model(modelIdentifier=name)
    ledger.change(job, "Failed", end=True)
    client.delete_custom_model(modelIdentifier=arn)


def test_a_batch_is_known_by_its_id_alone_as_by_its_arn(client):
    arn = create(client, batch("known"))
    id12 = arn.rsplit("/", 1)[-1]
    assert client.get_model_invocation_job(jobIdentifier=id12)["jobArn"] == arn
    client.stop_model_invocation_job(jobIdentifier=id12)
    assert client.get_model_invocation_job(jobIdentifier=arn)["status"] == "Stopped"
    with refused(client, "ResourceNotFoundException", 'no model-invocation-job "abcdefghijkl"'):
        client.get_model_invocation_job(jobIdentifier="abcdefghijkl")


def test_more_tags_than_a_resource_may_have_are_refused_when_it_is_made(client):
    tags = [{"key": f"k{at}", "value": "v"} for at in range(51)]
    with refused(client, "TooManyTagsException", "tags: found 51; expected at most 50"):
        create(client, batch("tagged", tags=tags))
    with refused(client, "TooManyTagsException", "expected at most 50"):
        create(client, tuning("tagged", customModelTags=tags))
    create(client, batch("tagged", tags=tags[:50]))


def test_weights_in_a_bucket_that_is_not_there_are_refused_at_once(client):
    source = {"s3DataSource": {"s3Uri": "s3://nobody/weights/"}}
    with refused(client, "ValidationException", 'no bucket "nobody"'):
        client.create_custom_model(modelName="brought", roleArn=ROLE, modelSourceConfig=source)
    with refused(client, "ValidationException", 'no bucket "nobody"'):
        client.create_model_import_job(
            jobName="brought", importedModelName="brought", roleArn=ROLE, modelDataSource=source
        )


def test_a_token_is_forgotten_with_what_it_made(client, settings):
    register(settings, "again")
    arn = client.get_custom_model(modelIdentifier="again")["modelArn"]
    asked = {"modelDeploymentName": "again", "modelArn": arn, "clientRequestToken": "once"}
    first, same = (client.create_custom_model_deployment(**asked)["customModelDeploymentArn"] for _ in range(2))
    client.delete_custom_model_deployment(customModelDeploymentIdentifier="again")
    later = client.create_custom_model_deployment(**asked)["customModelDeploymentArn"]
    assert first == same != later
    assert client.get_custom_model_deployment(customModelDeploymentIdentifier=later)["status"] == "Creating"


def test_a_deployment_repeated_gets_its_first_answer_whatever_has_become_of_its_model(client, settings):
    register(settings, "gone")
    model = client.get_custom_model(modelIdentifier="gone")["modelArn"]

    def ask():
        deployed = client.create_custom_model_deployment(
            modelDeploymentName="gone", modelArn=model, clientRequestToken="gone"
        )
        provisioned = client.create_provisioned_model_throughput(
            provisionedModelName="gone", modelUnits=1, modelId=model, clientRequestToken="gone"
        )
        return deployed["customModelDeploymentArn"], provisioned["provisionedModelArn"]

    first = ask()
    (settings.models / "gone.json").unlink()
    assert ask() == first


def test_no_deployment_takes_the_name_of_a_model_away(client, settings):
    for name in ("ours", "theirs"):
        register(settings, name)
    arn = client.get_custom_model(modelIdentifier="theirs")["modelArn"]
    client.create_custom_model_deployment(modelDeploymentName="ours", modelArn=arn)
    job = create(client, batch("of-ours", modelId="ours"))
    with refused(client, "ConflictException", "in use by model-invocation-job of-ours"):
        client.delete_custom_model(modelIdentifier="ours")
    client.stop_model_invocation_job(jobIdentifier=job)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("maxTokens: 5", 'inferenceParams: found "maxTokens: 5"; expected JSON'),
        ('{"inferenceConfig": {"maxTokens": 0}}', "maxTokens: Input should be greater than or equal to 1"),
        (
            '{"temperature": 7, "top_p": -1}',
            "temperature: .* less than or equal to 1.*top_p: .* greater than or equal to 0",
        ),
    ],
)
def test_how_a_model_is_to_be_asked_is_looked_at_before_an_evaluation_is_made(client, params, said):
    with refused(client, "ValidationException", said):
        create(client, evaluation("asked", inferenceParams=params))


def test_an_inference_profile_is_named_by_its_arn_too(client):
    profile = f"arn:aws:bedrock:us-east-1:000000000000:inference-profile/us.{BASE}"
    assert create(client, batch("profiled", modelId=profile))


@pytest.mark.parametrize("order", [tuning, batch, evaluation])
def test_a_request_repeated_gets_its_first_answer_whatever_has_become_of_what_it_names(client, settings, order):
    data = settings.buckets / "desk" / "fleeting.jsonl"
    pairs(data, 20)
    name, uri = f"again-{order.__name__}", "s3://desk/fleeting.jsonl"
    asked = (
        order(name, clientRequestToken=name) if order is not evaluation else {**order(name), "clientRequestToken": name}
    )
    if order is batch:
        asked["inputDataConfig"] = {"s3InputDataConfig": {"s3Uri": uri}}
    elif order is tuning:
        asked["trainingDataConfig"] = {"s3Uri": uri}
    else:
        asked["evaluationConfig"]["automated"]["datasetMetricConfigs"][0]["dataset"]["datasetLocation"]["s3Uri"] = uri
    first = create(client, asked)
    data.unlink()
    assert create(client, asked) == first
