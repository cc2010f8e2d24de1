"""A distillation user's journey, from the first upload to the clean-up, in plain boto3 with signed requests.

Steps are tests, in the order of the journey; each leans on those before it. The tiny pair goes with every run, the
embedded one with the slow ones.
"""

import csv
import io
import json

import pytest
from tests.factory import message
from tests.homes import STUDENT, TEACHER, tiny_home
from tests.journey.customer import ROLE, Customer, ended, refusal, scores, text_of

PROMPTS = [message(i)[0] for i in range(110)]
SUMS = [f"What is {i} plus {i + 1}? Say the number, nothing else." for i in range(110)]
LABELLED = [{"prompt": prompt, "referenceResponse": intent} for prompt, intent in map(message, range(200, 208))]
METADATA = {"project": "desk", "stage": "prod"}


class Journey(Customer):
    """A customer with a pair of models, prompts that the teacher answers in so many tokens, and what was made so far."""

    def __init__(self, home, teacher, student, prompts, tokens):
        super().__init__(home)
        self.teacher, self.student, self.prompts, self.tokens = teacher, student, prompts, tokens
        self.job = self.deployment = self.throughput = None


@pytest.fixture(scope="module", params=["tiny", pytest.param("embedded", marks=[pytest.mark.slow, pytest.mark.real])])
def user(request, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    if request.param == "tiny":
        tiny_home(home, request.getfixturevalue("taught_folder"))
        made = Journey(home, TEACHER, STUDENT, PROMPTS, 6)
    else:
        parts = ("huggingface.smollm2-135m-instruct-v1:0", "huggingface.smollm2-135m-6-layers-v1:0")
        made = Journey(home, *parts, SUMS, 48)
    yield made
    made.leave()


@pytest.mark.row(72)
def test_step_1_data_are_uploaded_and_a_role_is_made(user):
    account = user.client("sts").get_caller_identity()["Account"]
    trust = {"Version": "2012-10-17", "Statement": []}
    role = user.client("iam").create_role(RoleName="Limbeck", AssumeRolePolicyDocument=json.dumps(trust))["Role"]
    assert role["Arn"] == f"arn:aws:iam::{account}:role/Limbeck" == ROLE
    user.s3.create_bucket(Bucket="desk")
    user.put("prompts.jsonl", [{"prompt": prompt} for prompt in user.prompts])
    assert [row["prompt"] for row in user.rows("prompts.jsonl")] == user.prompts


@pytest.mark.row(1)
def test_step_2_both_models_are_found_in_the_catalog(user):
    listed = user.bedrock.list_foundation_models(byCustomizationType="DISTILLATION")["modelSummaries"]
    assert {user.teacher, user.student} <= {one["modelId"] for one in listed}
    for one in listed:
        assert user.bedrock.get_foundation_model(modelIdentifier=one["modelId"])["modelDetails"] == one
    name, said = refusal(user.bedrock.get_foundation_model, modelIdentifier="nobody.nothing-v1:0")
    assert (name, "nobody.nothing-v1:0" in said) == ("ResourceNotFoundException", True)


@pytest.mark.row(2, 4, 6, 7)
def test_step_3_teacher_and_student_are_asked_and_measured(user):
    for model in (user.teacher, user.student):
        answer = user.ask(model, user.prompts[0])
        usage = answer["usage"]
        assert usage["totalTokens"] == usage["inputTokens"] + usage["outputTokens"]
        assert 0 < usage["outputTokens"] <= 8
        assert text_of(answer) == user.say(model, user.prompts[0])
        turns = [{"role": "user", "content": [{"text": user.prompts[0]}]}]
        counted = user.runtime.count_tokens(modelId=model, input={"converse": {"messages": turns}})
        assert counted["inputTokens"] == usage["inputTokens"]
        native = user.invoke(model, {"messages": turns, "inferenceConfig": {"maxTokens": 8, "temperature": 0}})
        assert text_of(native) == text_of(answer)
    bare = user.invoke(user.teacher, {"prompt": "my washing machine", "max_gen_len": 3, "temperature": 0})
    assert bare["generation_token_count"] == 3


@pytest.mark.row(57)
def test_step_3_the_teacher_is_scored_before_it_may_teach(user):
    uri = user.put("labelled.jsonl", LABELLED)
    records = user.evaluation("baseline", uri, {"bedrockModel": {"modelIdentifier": user.teacher}}, "Builtin.Accuracy")
    assert [record["inputRecord"]["prompt"] for record in records] == [row["prompt"] for row in LABELLED]
    assert all(0 <= score <= 1 for score in scores(records, "Builtin.Accuracy"))
    said = {record["modelResponses"][0]["response"] for record in records}
    assert user.say(user.teacher, LABELLED[0]["prompt"], tokens=512) in said


@pytest.mark.row(14)
def test_step_4_invocations_are_logged_from_now_on(user):
    name, said = refusal(
        user.bedrock.put_model_invocation_logging_configuration, loggingConfig={"s3Config": {"bucketName": "nobody"}}
    )
    assert (name, "nobody" in said) == ("ValidationException", True)
    config = {"s3Config": {"bucketName": "desk", "keyPrefix": "logs"}, "textDataDeliveryEnabled": True}
    user.bedrock.put_model_invocation_logging_configuration(loggingConfig=config)
    assert user.bedrock.get_model_invocation_logging_configuration()["loggingConfig"] == config


@pytest.mark.row(15, 16)
def test_step_5_traffic_carries_its_metadata_into_the_log(user):
    user.ask(user.teacher, "by converse", requestMetadata=METADATA)
    user.invoke(user.teacher, {"prompt": "by invoke", "max_gen_len": 2}, METADATA)
    name, said = refusal(user.ask, model=user.teacher, text="large " * 20_000, requestMetadata=METADATA)
    assert (name, "too long" in said) == ("ValidationException", True)

    def found():
        keys = [key for key in user.keys("logs/AWSLogs/000000000000/") if key.endswith(".gz") and "/data/" not in key]
        return [record for key in keys for record in user.logged(key)]

    ended(lambda: {"status": "there" if len(found()) == 3 else "InProgress"}, "there", seconds=20)
    by_converse, by_invoke, large = found()
    assert [record["operation"] for record in found()] == ["Converse", "InvokeModel", "Converse"]
    assert all(record["requestMetadata"] == METADATA for record in found())
    assert by_converse["input"]["inputBodyJson"]["messages"][0]["content"] == [{"text": "by converse"}]
    assert by_invoke["output"]["outputBodyJson"]["generation_token_count"] == by_invoke["output"]["outputTokenCount"]
    assert (large["errorCode"], "inputBodyJson" in large["input"]) == ("ValidationException", False)
    (aside,) = user.logged(large["input"]["inputBodyS3Path"].removeprefix("s3://desk/"))
    assert aside["messages"][0]["content"][0]["text"].startswith("large large")


@pytest.mark.row(17)
def test_steps_6_and_7_a_student_is_distilled(user):
    tags, data = [{"key": "team", "value": "desk"}], {"s3Uri": "s3://desk/prompts.jsonl"}
    arn = user.distill("first", user.teacher, user.student, data, user.tokens, jobTags=tags)
    other = user.distill("second", user.teacher, user.student, data, user.tokens)
    user.bedrock.stop_model_customization_job(jobIdentifier=other)
    user.job = user.finished(arn)
    assert [stage["status"] for stage in user.job["statusDetails"].values()] == ["Completed"] * 3
    listed = user.bedrock.list_model_customization_jobs(statusEquals="Completed")["modelCustomizationJobSummaries"]
    assert [one["jobArn"] for one in listed] == [arn]
    ended(lambda: user.bedrock.get_model_customization_job(jobIdentifier=other), "Stopped")


@pytest.mark.row(27, 28, 29, 30)
def test_step_8_its_metrics_and_its_synthetic_data_lie_in_the_bucket(user):
    place = user.output(user.job)
    steps = list(
        csv.reader(io.StringIO(user.get(f"{place}/training_artifacts/step_wise_training_metrics.csv").decode()))
    )
    assert steps[0] == ["step_number", "epoch_number", "training_loss", "perplexity"]
    assert float(steps[-1][2]) == pytest.approx(user.job["trainingMetrics"]["trainingLoss"], rel=1e-4)
    kept = user.rows(f"{place}/synthetic_data/kept.jsonl")
    dropped = user.rows(f"{place}/synthetic_data/dropped.jsonl")
    asked = {row["messages"][-1]["text"] for row in (*kept, *dropped)}
    assert asked <= set(user.prompts) and len(asked) > 80  # the others are held out
    assert {(row["origin"], row["teacher"]) for row in kept} == {("teacher", user.teacher)}
    report = list(csv.reader(io.StringIO(user.get(f"{place}/input_data_report/manifest.report.csv").decode())))
    assert sum(row[2] == "accepted" for row in report[1:-1]) == len(user.prompts)


@pytest.mark.row(48)
def test_step_9_the_model_says_what_made_it(user):
    found = user.bedrock.get_custom_model(modelIdentifier="model-first")
    assert (found["modelArn"], found["jobArn"]) == (user.job["outputModelArn"], user.job["jobArn"])
    assert found["trainingMetrics"] == user.job["trainingMetrics"]
    assert found["baseModelArn"].endswith(f"foundation-model/{user.student}")
    (listed,) = user.bedrock.list_custom_models(baseModelArnEquals=found["baseModelArn"])["modelSummaries"]
    assert listed["modelArn"] == found["modelArn"]


@pytest.mark.row(49, 50)
def test_step_10_it_is_deployed_on_demand(user):
    user.deployment = user.deployed("front", user.job["outputModelArn"])
    (listed,) = user.bedrock.list_custom_model_deployments()["modelDeploymentSummaries"]
    assert (listed["customModelDeploymentArn"], listed["modelArn"]) == (user.deployment, user.job["outputModelArn"])


@pytest.mark.row(51)
def test_step_10_or_on_provisioned_throughput(user):
    made = user.bedrock.create_provisioned_model_throughput(
        modelUnits=1, provisionedModelName="lane", modelId=user.job["outputModelArn"]
    )
    user.throughput = made["provisionedModelArn"]

    def get():
        return user.bedrock.get_provisioned_model_throughput(provisionedModelId=user.throughput)

    ended(get, "InService")
    on_student = user.say(user.throughput, user.prompts[0])
    user.bedrock.update_provisioned_model_throughput(provisionedModelId="lane", desiredModelId=user.student)
    assert ended(get, "InService")["modelArn"] == get()["foundationModelArn"]
    assert user.say(user.throughput, user.prompts[0]) == user.say(user.student, user.prompts[0]) != on_student


@pytest.mark.row(3, 5, 52)
def test_step_11_it_answers_by_all_four_operations_alike(user):
    said = user.say(user.deployment, user.prompts[1])
    assert said == user.say(user.job["outputModelArn"], user.prompts[1])
    turns = [{"role": "user", "content": [{"text": user.prompts[1]}]}]
    config = {"maxTokens": 8, "temperature": 0}
    events = list(
        user.runtime.converse_stream(modelId=user.deployment, messages=turns, inferenceConfig=config)["stream"]
    )
    deltas = [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event]
    assert "".join(deltas) == said
    assert (next(iter(events[0])), next(iter(events[-1]))) == ("messageStart", "metadata")
    body = {"messages": turns, "inferenceConfig": config}
    assert text_of(user.invoke(user.deployment, body)) == said
    stream = user.runtime.invoke_model_with_response_stream(modelId=user.deployment, body=json.dumps(body))["body"]
    chunks = [json.loads(event["chunk"]["bytes"]) for event in stream]
    assert (
        "".join(chunk["contentBlockDelta"]["delta"]["text"] for chunk in chunks if "contentBlockDelta" in chunk) == said
    )
    assert chunks[-1]["amazon-bedrock-invocationMetrics"]["outputTokenCount"] > 0


@pytest.mark.row(55, 56)
def test_step_12_it_answers_a_file_of_requests(user):
    turns = [[{"role": "user", "content": [{"text": prompt}]}] for prompt in user.prompts[:99]]
    config = {"maxTokens": 4, "temperature": 0}
    records = [
        {"recordId": f"r{at}", "modelInput": {"messages": messages, "inferenceConfig": config}}
        for at, messages in enumerate(turns)
    ]
    uri = user.put("batch.jsonl", [*records, {"recordId": "bad", "modelInput": {"nonsense": 1}}])
    arn = user.bedrock.create_model_invocation_job(
        jobName="batch",
        roleArn=ROLE,
        modelId=user.deployment,
        inputDataConfig={"s3InputDataConfig": {"s3Uri": uri, "s3InputFormat": "JSONL"}},
        outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://desk/answers/"}},
    )["jobArn"]
    done = user.batch(arn)
    counts = [done[f"{name}RecordCount"] for name in ("total", "processed", "success", "error")]
    assert counts == [100, 100, 99, 1]
    where = f"answers/{arn.rsplit('/', 1)[-1]}"
    rows = user.rows(f"{where}/batch.jsonl.out")
    assert [row["recordId"] for row in rows] == [*(f"r{at}" for at in range(99)), "bad"]
    assert "nonsense" in str(rows[-1]["modelInput"]) and rows[-1]["error"]["errorCode"] == 400
    assert all(row["modelOutput"]["usage"]["outputTokens"] <= 4 for row in rows[:-1])
    manifest = json.loads(user.get(f"{where}/manifest.json.out"))
    assert (manifest["successRecordCount"], manifest["errorRecordCount"]) == (99, 1)
    (listed,) = user.bedrock.list_model_invocation_jobs(statusEquals="Completed")["invocationJobSummaries"]
    assert listed["jobArn"] == arn


@pytest.mark.row(57, 59, 60)
def test_step_13_it_is_scored_and_so_are_answers_brought_along(user):
    subject = {"bedrockModel": {"modelIdentifier": user.deployment}}
    metrics = [f"Builtin.{name}" for name in ("Accuracy", "Robustness", "Toxicity")]
    records = user.evaluation("deployed", "s3://desk/labelled.jsonl", subject, *metrics)
    for metric in metrics:
        assert len(scores(records, metric)) == len(LABELLED)
    brought = [
        {**row, "modelResponses": [{"response": said, "modelIdentifier": "ours"}]}
        for row, said in zip(LABELLED, [row["referenceResponse"] for row in LABELLED[:4]] + ["x"] * 4, strict=True)
    ]
    source = {"precomputedInferenceSource": {"inferenceSourceIdentifier": "ours"}}
    records = user.evaluation("brought", user.put("brought.jsonl", brought), source, "Builtin.Accuracy")
    assert scores(records, "Builtin.Accuracy") == [1.0] * 4 + [0.0] * 4
    name, _ = refusal(
        user.bedrock.stop_evaluation_job, jobIdentifier=user.bedrock.list_evaluation_jobs()["jobSummaries"][0]["jobArn"]
    )
    assert name == "ConflictException"


@pytest.mark.row(71)
def test_step_14_what_was_made_is_tagged(user):
    for arn in (user.job["jobArn"], user.job["outputModelArn"], user.deployment):
        user.bedrock.tag_resource(resourceARN=arn, tags=[{"key": "cost", "value": "42"}, {"key": "gone", "value": ""}])
        user.bedrock.untag_resource(resourceARN=arn, tagKeys=["gone"])
        tags = {tag["key"]: tag["value"] for tag in user.bedrock.list_tags_for_resource(resourceARN=arn)["tags"]}
        assert tags == {"cost": "42"} | ({"team": "desk"} if arn == user.job["jobArn"] else {})


@pytest.mark.row(13)
def test_aws_cli_sees_all_of_it(user):
    listed = user.aws("bedrock", "list-custom-models")["modelSummaries"]
    assert [one["modelName"] for one in listed] == ["model-first"]
    job = user.aws("bedrock", "get-model-customization-job", "--job-identifier", "first")
    assert job["outputModelArn"] == user.job["outputModelArn"]
    messages = json.dumps([{"role": "user", "content": [{"text": user.prompts[1]}]}])
    config = json.dumps({"maxTokens": 8, "temperature": 0})
    asked = ("--model-id", user.deployment, "--messages", messages, "--inference-config", config)
    assert text_of(user.aws("bedrock-runtime", "converse", *asked)) == user.say(user.deployment, user.prompts[1])


@pytest.mark.row(53, 54)
def test_step_16_the_published_weights_are_imported_and_answer_like_the_student(user):
    uri = f"s3://desk/{user.output(user.job)}/model/"
    arn = user.bedrock.create_model_import_job(
        jobName="import",
        importedModelName="brought-home",
        roleArn=ROLE,
        modelDataSource={"s3DataSource": {"s3Uri": uri}},
    )["jobArn"]
    done = ended(lambda: user.bedrock.get_model_import_job(jobIdentifier=arn), "Completed")
    model = user.bedrock.get_imported_model(modelIdentifier="brought-home")
    assert (model["modelArn"], model["instructSupported"]) == (done["importedModelArn"], True)
    (listed,) = user.bedrock.list_imported_models()["modelSummaries"]
    assert listed["modelArn"] == model["modelArn"]
    prompt = "my washing machine"
    ours = user.invoke(user.job["outputModelArn"], {"prompt": prompt, "max_gen_len": 1, "temperature": 0})
    theirs = user.invoke(model["modelArn"], {"prompt": prompt, "max_tokens": 1, "temperature": 0})
    assert theirs["choices"][0]["text"] == ours["generation"]
    user.bedrock.delete_imported_model(modelIdentifier="brought-home")
    assert refusal(user.bedrock.get_imported_model, modelIdentifier="brought-home")[0] == "ResourceNotFoundException"


@pytest.mark.row(75)
def test_step_16_what_limbeck_does_not_have_is_named(user):
    for call, asked in (
        (user.bedrock.create_model_copy_job, {"sourceModelArn": user.job["outputModelArn"], "targetModelName": "copy"}),
        (user.bedrock.list_inference_profiles, {}),
        (user.bedrock.list_guardrails, {}),
    ):
        name, said = refusal(call, **asked)
        operation = "".join(part.capitalize() for part in call.__name__.split("_"))
        assert (name, operation in said) == ("ValidationException", True)


@pytest.mark.row(41, 48, 49)
def test_step_15_everything_is_cleaned_up_in_the_order_that_is_allowed(user):
    model = user.job["outputModelArn"]
    assert refusal(user.bedrock.delete_custom_model, modelIdentifier=model)[0] == "ConflictException"
    user.bedrock.delete_provisioned_model_throughput(provisionedModelId="lane")
    user.bedrock.delete_custom_model_deployment(customModelDeploymentIdentifier="front")
    name, said = refusal(user.ask, model=user.deployment, text="still there?")
    assert (name, said) == ("ValidationException", "The provided model identifier is invalid.")
    user.bedrock.delete_custom_model(modelIdentifier=model)
    assert refusal(user.bedrock.get_custom_model, modelIdentifier=model)[0] == "ResourceNotFoundException"
    jobs = [one["jobArn"] for one in user.bedrock.list_evaluation_jobs()["jobSummaries"]]
    assert len(user.bedrock.batch_delete_evaluation_job(jobIdentifiers=jobs)["evaluationJobs"]) == len(jobs) == 3
    assert user.bedrock.list_evaluation_jobs()["jobSummaries"] == []
    user.bedrock.delete_model_invocation_logging_configuration()
    assert "loggingConfig" not in user.bedrock.get_model_invocation_logging_configuration()
