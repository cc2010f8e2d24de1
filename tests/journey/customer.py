"""A customer: plain boto3 clients with one key, and what customers do again and again."""

import gzip
import json
import subprocess
import sys
import time

from botocore.exceptions import ClientError
from tests.api.server import Server

ON_THE_WAY = ("InProgress", "Submitted", "Validating", "Scheduled", "Creating", "Updating", "Stopping")
ROLE = "arn:aws:iam::000000000000:role/Limbeck"


class Customer:
    """A server of its own over ``home``, signatures checked, and the clients of ada, whose key the CLI made."""

    def __init__(self, home):
        self.home = home
        command = [sys.executable, "-m", "limbeck", "keys", "add", "ada", "--home", str(home)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        pair = dict(line.split("=", 1) for line in told.split() if "=" in line)
        self.key_id, self.secret = pair["AWS_ACCESS_KEY_ID"], pair["AWS_SECRET_ACCESS_KEY"]
        self.server = Server(home, LIMBECK_THREADS="1")
        self.bedrock = self.client("bedrock")
        self.runtime = self.client("bedrock-runtime")
        self.s3 = self.client("s3")

    def client(self, service):
        return self.server.client(self.key_id, self.secret, service, read_timeout=120)

    def aws(self, *arguments):
        """What aws-cli prints, as JSON."""
        found = self.server.aws(*arguments, key_id=self.key_id, secret=self.secret)
        assert found.returncode == 0, found.stderr
        return json.loads(found.stdout or "{}")

    def put(self, key, rows, bucket="desk"):
        """Rows into the bucket; gives their place."""
        body = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        self.s3.put_object(Bucket=bucket, Key=key, Body=body.encode())
        return f"s3://{bucket}/{key}"

    def get(self, key, bucket="desk"):
        return self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    def rows(self, key, bucket="desk"):
        return [json.loads(line) for line in self.get(key, bucket).splitlines()]

    def logged(self, key, bucket="desk"):
        """The records of one object of the invocation log."""
        return [json.loads(line) for line in gzip.decompress(self.get(key, bucket)).splitlines()]

    def keys(self, prefix="", bucket="desk"):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def ask(self, model, text, tokens=8, **more):
        """A greedy answer to one message."""
        turn = {"role": "user", "content": [{"text": text}]}
        return self.runtime.converse(
            modelId=model, messages=[turn], inferenceConfig={"maxTokens": tokens, "temperature": 0}, **more
        )

    def say(self, model, text, **more):
        return text_of(self.ask(model, text, **more))

    def invoke(self, model, body, metadata=None):
        """InvokeModel, with the header of request metadata as a hook adds it."""
        client = self.client("bedrock-runtime")
        if metadata is not None:
            told = json.dumps(metadata)
            client.meta.events.register(
                "before-sign.bedrock-runtime.InvokeModel",
                lambda request, **_: request.headers.add_header("X-Amzn-Bedrock-Request-Metadata", told),
            )
        return json.loads(client.invoke_model(modelId=model, body=json.dumps(body))["body"].read())

    def distill(self, name, teacher, student, data, tokens=6, **more):
        """A distillation's ARN; ``data`` is its trainingDataConfig, ``more`` goes into the request."""
        asked = {"teacherModelIdentifier": teacher, "maxResponseLengthForInference": tokens}
        return self.bedrock.create_model_customization_job(
            jobName=name,
            customModelName=f"model-{name}",
            roleArn=ROLE,
            baseModelIdentifier=student,
            customizationType="DISTILLATION",
            trainingDataConfig=data,
            outputDataConfig={"s3Uri": "s3://desk/output/"},
            customizationConfig={"distillationConfig": {"teacherModelConfig": asked}},
            **more,
        )["jobArn"]

    def finished(self, arn):
        """A customization job, once it has ended well."""
        return ended(lambda: self.bedrock.get_model_customization_job(jobIdentifier=arn), "Completed")

    def batch(self, arn):
        """A batch, once it has ended."""
        return ended(lambda: self.bedrock.get_model_invocation_job(jobIdentifier=arn), "Completed")

    def deployed(self, name, model):
        """The ARN of a deployment, once it answers."""
        made = self.bedrock.create_custom_model_deployment(modelDeploymentName=name, modelArn=model)
        arn = made["customModelDeploymentArn"]
        ended(lambda: self.bedrock.get_custom_model_deployment(customModelDeploymentIdentifier=arn), "Active")
        return arn

    def output(self, job):
        """Where a customization job published."""
        return f"output/model-customization-job-{job['jobArn'].rsplit('/', 1)[-1]}"

    def evaluation(self, name, uri, model, *metrics, judge=None, task="QuestionAndAnswer"):
        """The records of an evaluation, once it has ended."""
        dataset = {"name": "set", "datasetLocation": {"s3Uri": uri}}
        automated = {"datasetMetricConfigs": [{"taskType": task, "dataset": dataset, "metricNames": list(metrics)}]}
        if judge is not None:
            automated["evaluatorModelConfig"] = {"bedrockEvaluatorModels": [{"modelIdentifier": judge}]}
        arn = self.bedrock.create_evaluation_job(
            jobName=name,
            roleArn=ROLE,
            evaluationConfig={"automated": automated},
            inferenceConfig={"models": [model]},
            outputDataConfig={"s3Uri": "s3://desk/evaluations/"},
        )["jobArn"]
        ended(lambda: self.bedrock.get_evaluation_job(jobIdentifier=arn), "Completed")
        (found,) = self.keys(f"evaluations/{name}/{arn.rsplit('/', 1)[-1]}/models/")
        assert f"/taskTypes/{task}/datasets/set/" in found and found.endswith("_output.jsonl")
        return self.rows(found)

    def leave(self):
        _, said = self.server.stop()
        assert "Traceback" not in said
        assert self.secret not in said


def text_of(answer):
    return "".join(part.get("text", "") for part in answer["output"]["message"]["content"])


def scores(records, metric):
    """What each record got of ``metric``."""
    return [
        score["result"]
        for record in records
        for score in record["automatedEvaluationResult"]["scores"]
        if score["metricName"] == metric
    ]


def ended(get, wanted, seconds=600):
    """What ``get`` gives once its status is none of those on the way; that status is the ``wanted`` one."""
    until = time.monotonic() + seconds
    while (found := get())["status"] in ON_THE_WAY:
        assert time.monotonic() < until, found
        time.sleep(0.3)
    assert found["status"] == wanted, found
    return found


def refusal(call, **asked):
    """The name and the message of the error that ``call`` answers."""
    try:
        call(**asked)
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["Error"]["Message"]
    raise AssertionError("it was not refused")
