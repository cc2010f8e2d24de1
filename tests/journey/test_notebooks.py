"""The calls of AWS's sample notebooks for distillation, in their order, with their data; only the models are ours.

The data are AWS's (amazon-bedrock-samples, MIT-0) and no part of this project: LIMBECK_SAMPLES names their folder. A
document of a filing is longer than the tiny models' context, so of each prompt only its question is taken, and of
each answer its beginning; and the tiny student does not end its answers by itself, so they have 64 tokens, not 1000.
"""

import json
import os
from pathlib import Path

import boto3
import pytest
from tests.homes import STUDENT, TEACHER, tiny_home
from tests.journey.customer import ROLE, Customer, ended, text_of

ROOT = Path(__file__).parent.parent.parent
SAMPLES = Path(os.environ.get("LIMBECK_SAMPLES") or ROOT.parent / "shared" / "data" / "aws-samples")
SYSTEM = "You are a specialized financial analyst assistant."
ACCOUNT = "000000000000"
ALLOWED = {"Effect": "Allow", "Principal": {"Service": "bedrock.amazonaws.com"}}
TRUST = {**ALLOWED, "Action": "sts:AssumeRole"}
WRITE = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::history/*"}


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


pytestmark = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason=f"AWS's sample data are not in {SAMPLES}; LIMBECK_SAMPLES names their folder"
)


def sample(name):
    return [json.loads(line) for line in (SAMPLES / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def user(tmp_path_factory, taught_folder):
    made = Customer(tiny_home(tmp_path_factory.mktemp("home"), taught_folder))
    made.s3.create_bucket(Bucket="desk")
    yield made
    made.leave()


@pytest.fixture(scope="module")
def questions():
    """Of the 200 rows of the notebooks' file, in the notebook's form."""
    rows = sample("uber10K.jsonl")
    return [
        (row["prompt"].rpartition("<question>")[2].removesuffix("</question>")[:200], row["completion"][:100])
        for row in rows
    ]


def asked(prompt, answer=None):
    """A request as Converse takes it."""
    turns = [("user", prompt), *([("assistant", answer)] if answer else [])]
    messages = [{"role": role, "content": [{"text": text}]} for role, text in turns]
    return {"system": [{"text": SYSTEM}], "messages": messages}


def conversation(prompt, answer=None):
    """A row of training data."""
    return {"schemaVersion": "bedrock-conversation-2024", **asked(prompt, answer)}


def provisioned(user, name, model):
    """Throughput for a model, in service: created and waited for as all the notebooks do it."""
    arn = user.bedrock.create_provisioned_model_throughput(modelUnits=1, provisionedModelName=name, modelId=model)[
        "provisionedModelArn"
    ]
    ended(lambda: user.bedrock.get_provisioned_model_throughput(provisionedModelId=arn), "InService")
    return arn


@pytest.mark.row(17, 51, 72)
def test_distillation_via_s3_input(user, questions):
    assert user.client("sts").get_caller_identity()["Account"] == ACCOUNT
    iam = user.client("iam")
    role = iam.create_role(RoleName="bedrock-distillation", AssumeRolePolicyDocument=policy(TRUST))["Role"]["Arn"]
    rights = iam.create_policy(PolicyName="bedrock-s3", PolicyDocument=policy(WRITE))["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="bedrock-distillation", PolicyArn=rights)
    user.s3.create_bucket(Bucket="s3-input")
    uri = user.put("train.jsonl", [conversation(*question) for question in questions], "s3-input")
    arn = user.bedrock.create_model_customization_job(
        jobName="via-s3",
        customModelName="via-s3-model",
        roleArn=role,
        baseModelIdentifier=STUDENT,
        customizationType="DISTILLATION",
        trainingDataConfig={"s3Uri": uri},
        outputDataConfig={"s3Uri": "s3://s3-input/output/"},
        customizationConfig={
            "distillationConfig": {
                "teacherModelConfig": {"teacherModelIdentifier": f"us.{TEACHER}", "maxResponseLengthForInference": 64}
            }
        },
    )["jobArn"]
    model = user.finished(arn)["outputModelArn"]
    throughput = provisioned(user, "via-s3", model)
    user.bedrock.delete_provisioned_model_throughput(provisionedModelId=throughput)
    bucket = user.server.client(user.key_id, user.secret, "s3", make=boto3.resource).Bucket("s3-input")
    bucket.object_versions.delete()
    bucket.objects.all().delete()
    bucket.delete()
    for attached in iam.list_attached_role_policies(RoleName="bedrock-distillation")["AttachedPolicies"]:
        iam.detach_role_policy(RoleName="bedrock-distillation", PolicyArn=attached["PolicyArn"])
        iam.delete_policy(PolicyArn=attached["PolicyArn"])
    iam.delete_role(RoleName="bedrock-distillation")
    assert "s3-input" not in [one["Name"] for one in user.s3.list_buckets()["Buckets"]]


@pytest.mark.row(14, 15, 24, 72)
def test_historical_invocation_distillation(user, questions):
    user.s3.create_bucket(Bucket="history")
    user.s3.put_bucket_policy(Bucket="history", Policy=policy({**WRITE, **ALLOWED}))
    user.bedrock.put_model_invocation_logging_configuration(
        loggingConfig={
            "s3Config": {"bucketName": "history", "keyPrefix": "logs"},
            "textDataDeliveryEnabled": True,
            "imageDataDeliveryEnabled": True,
            "embeddingDataDeliveryEnabled": True,
        }
    )
    metadata = {"ProjectName": "SEC", "CodeName": "Uber", "invoke_model": "teacher"}
    for question, _ in questions:
        user.runtime.converse(
            modelId=TEACHER,
            messages=[{"role": "user", "content": [{"text": question}]}],
            inferenceConfig={"maxTokens": 8, "temperature": 0.1, "topP": 0.9},
            requestMetadata=metadata,
        )

    def count():
        return sum(
            len(user.logged(key, "history")) for key in user.keys("logs/AWSLogs/", "history") if key.endswith(".gz")
        )

    ended(lambda: {"status": "InProgress" if count() < len(questions) else "written"}, "written", seconds=30)
    source = {
        "usePromptResponse": True,
        "invocationLogSource": {"s3Uri": "s3://history/logs/AWSLogs"},
        "requestMetadataFilters": {"equals": {"invoke_model": "teacher"}},
    }
    job = user.finished(user.distill("history", TEACHER, STUDENT, {"invocationLogsConfig": source}))
    rows = user.rows(f"{user.output(job)}/synthetic_data/kept.jsonl")
    assert {row["origin"] for row in rows} == {"given"}
    throughput = provisioned(user, "history", job["outputModelArn"])
    assert user.ask(throughput, questions[0][0])["usage"]["outputTokens"] > 0
    user.bedrock.delete_provisioned_model_throughput(provisionedModelId=throughput)
    user.bedrock.delete_model_invocation_logging_configuration()


@pytest.mark.row(20, 55)
def test_citations_are_distilled_with_golden_answers_and_asked_in_a_batch(user, questions):
    user.s3.create_bucket(Bucket="citations")
    user.s3.head_bucket(Bucket="citations")
    rows = [
        conversation(prompt, answer if place % 10 == 0 else None) for place, (prompt, answer) in enumerate(questions)
    ]
    user.put("train.jsonl", rows, "citations")
    job = user.finished(user.distill("citations", TEACHER, STUDENT, {"s3Uri": "s3://citations/train.jsonl"}))
    kept = user.rows(f"{user.output(job)}/synthetic_data/kept.jsonl")
    golden = dict(questions[::10])
    given = [row for row in kept if row["origin"] == "given"]
    assert given and all(row["response"] == golden[row["messages"][-1]["text"]] for row in given)
    records = [
        {"recordId": f"{place}", "modelInput": {**asked(prompt), "inferenceConfig": {"maxTokens": 8}}}
        for place, (prompt, _) in enumerate(questions[:20])
    ]
    arn = user.bedrock.create_model_invocation_job(
        jobName="citations",
        modelId=job["outputModelArn"],
        roleArn=ROLE,
        inputDataConfig={
            "s3InputDataConfig": {"s3Uri": user.put("batch.jsonl", records, "citations"), "s3InputFormat": "JSONL"}
        },
        outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://citations/output/"}},
    )["jobArn"]
    assert user.batch(arn)["successRecordCount"] == 20
    (found,) = [key for key in user.keys("output/", "citations") if key.endswith(".jsonl.out")]
    assert [row["recordId"] for row in user.rows(found, "citations")] == [record["recordId"] for record in records]


@pytest.mark.real
@pytest.mark.row(58, 59)
def test_answers_brought_along_are_judged(user):
    """With the embedded model as the judge; `General` is the task the notebook sends with judged metrics."""
    rows = [
        {**row, "modelResponses": [{**one, "response": one["response"][:300]} for one in row["modelResponses"]]}
        for row in sample("eval_llm_as_judge_byoi.jsonl")[:1]
    ]
    identifier = rows[0]["modelResponses"][0]["modelIdentifier"]
    records = user.evaluation(
        "judged",
        user.put("byoi.jsonl", rows),
        {"precomputedInferenceSource": {"inferenceSourceIdentifier": identifier}},
        "Builtin.Correctness",
        "Builtin.Refusal",
        judge="huggingface.smollm2-135m-instruct-v1:0",
        task="General",
    )
    assert [record["modelResponses"][0]["response"] for record in records] == [
        row["modelResponses"][0]["response"] for row in rows
    ]
    for record in records:
        correctness, refusal = record["automatedEvaluationResult"]["scores"]
        assert correctness["result"] in (0, 0.25, 0.5, 0.75, 1) and refusal["result"] in (0, 1)
        assert correctness["evaluatorDetails"][0]["explanation"]


@pytest.mark.row(49)
def test_functions_are_told_through_a_deployment(user):
    """Whether they are called well is the teacher's and the student's merit; these two have none."""
    schema = {"type": "object", "properties": {"city": {"enum": ["Rome"]}}, "required": ["city"]}
    tool = {"name": "weather", "inputSchema": {"json": schema}}
    prompts = [row["messages"][0]["content"] for row in sample("tooluse_train_ft.jsonl")]
    prompts = [prompt[:150] for prompt in dict.fromkeys(prompts)][:150]
    rows = [
        {**conversation(prompt), "system": [{"text": f"Call {tool['name']} where it helps."}]} for prompt in prompts
    ]
    user.put("functions.jsonl", rows)
    job = user.finished(user.distill("functions", TEACHER, STUDENT, {"s3Uri": "s3://desk/functions.jsonl"}))
    deployment = user.deployed("functions", job["outputModelArn"])
    bare, told = user.ask(deployment, "sun?"), user.ask(deployment, "sun?", toolConfig={"tools": [{"toolSpec": tool}]})
    assert told["usage"]["inputTokens"] > bare["usage"]["inputTokens"] + len(json.dumps(schema)) / 8
    user.bedrock.delete_custom_model_deployment(customModelDeploymentIdentifier=deployment)


@pytest.mark.row(31, 36)
def test_fine_tuning_on_what_the_teacher_said(user, questions):
    rows = []
    for question, _ in questions[:40]:
        answer = user.runtime.converse(
            modelId=TEACHER,
            system=[{"text": SYSTEM}],
            messages=[{"role": "user", "content": [{"text": question}]}],
            inferenceConfig={"maxTokens": 8, "topP": 0.1, "temperature": 0.3},
        )
        rows.append(conversation(question, text_of(answer) or "none"))
    user.client("iam").create_role(RoleName="FineTuning", AssumeRolePolicyDocument=policy(TRUST))
    response = user.bedrock.create_model_customization_job(
        jobName="fine-tuned",
        customModelName="fine-tuned",
        roleArn=user.client("iam").get_role(RoleName="FineTuning")["Role"]["Arn"],
        baseModelIdentifier=STUDENT,
        customizationType="FINE_TUNING",
        trainingDataConfig={"s3Uri": user.put("fine.jsonl", rows)},
        outputDataConfig={"s3Uri": "s3://desk/output/"},
        hyperParameters={"epochCount": "5", "batchSize": "1", "learningRate": "0.00001"},
    )
    job = user.finished(response["jobArn"])
    assert job["hyperParameters"] == {
        "epochCount": "5",
        "batchSize": "1",
        "learningRate": "0.00001",
        "learningRateWarmupSteps": "10",
    }
    throughput = provisioned(user, "fine-tuned", job["outputModelArn"])
    for model in (throughput, STUDENT, TEACHER):
        assert user.ask(model, questions[50][0])["usage"]["outputTokens"] > 0
    user.bedrock.delete_provisioned_model_throughput(provisionedModelId=throughput)
    user.bedrock.delete_custom_model(modelIdentifier=job["outputModelArn"])
