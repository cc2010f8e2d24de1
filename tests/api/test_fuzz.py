"""Every operation asked in every wrong way: answers in AWS's form, in time, and nothing that breaks the server."""

import collections
import http.client
import json
import logging
import socket
import threading
import time

import pytest
import uvicorn
from botocore.eventstream import EventStreamBuffer
from botocore.parsers import create_parser
from tests.api.stage import ScriptedPool, make_front
from tests.api.test_service import register
from tests.factory import pairs
from tests.fuzz import ROLE, Fuzzer, Sent
from tests.homes import ENTRY

from limbeck.api.app import App
from limbeck.api.bedrock import Bedrock
from limbeck.api.runtime import Runtime
from limbeck.control import LOGGING, OPERATIONS, open_desk, resolve
from limbeck.serving.logbook import Logbook
from limbeck.settings import Settings
from limbeck.wire.operations import Service, write

DATA = "s3://desk/pairs.jsonl"
SERVICE = Service("bedrock", "bedrock-runtime")
MODELS = ("Desk-1", "Desk-2", "Desk-3")
OURS = {*OPERATIONS, "Converse", "ConverseStream", "CountTokens", "InvokeModel", "InvokeModelWithResponseStream"}
COMMON = {"ValidationException", "UnknownOperationException", "ConflictException", "ModelNotReadyException"}
"""Of any operation. AWS describes the last two for some only; boto3 knows them by name for all of a service, and what is
a conflict, or not ready yet, is no smaller matter where AWS's list is short."""
SECONDS = 10.0
BASE = "test.front-v1:0"
TURNS = {"modelId": BASE, "messages": [{"role": "user", "content": [{"text": "a leak"}]}]}
JOB = {"jobName": "NAME", "roleArn": ROLE}
SET = {
    "taskType": "Custom",
    "dataset": {"name": "d", "datasetLocation": {"s3Uri": DATA}},
    "metricNames": ["Builtin.Toxicity"],
}
KNOWN = {
    "Converse": {**TURNS, "inferenceConfig": {"maxTokens": 4}, "requestMetadata": {"a": "b"}},
    "ConverseStream": TURNS,
    "CountTokens": {"modelId": BASE, "input": {"converse": {"messages": TURNS["messages"]}}},
    "CreateModelCustomizationJob": {
        **JOB,
        "customModelName": "NAME",
        "baseModelIdentifier": BASE,
        "trainingDataConfig": {"s3Uri": DATA},
        "outputDataConfig": {"s3Uri": "s3://desk/out/"},
        "hyperParameters": {"epochCount": "2"},
        "jobTags": [{"key": "k", "value": "v"}],
    },
    "CreateModelInvocationJob": {
        **JOB,
        "modelId": BASE,
        "inputDataConfig": {"s3InputDataConfig": {"s3Uri": DATA}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": "s3://desk/out/"}},
    },
    "CreateEvaluationJob": {
        **JOB,
        "evaluationConfig": {"automated": {"datasetMetricConfigs": [SET]}},
        "inferenceConfig": {"models": [{"bedrockModel": {"modelIdentifier": BASE}}]},
        "outputDataConfig": {"s3Uri": "s3://desk/out/"},
    },
    "CreateModelImportJob": {
        **JOB,
        "importedModelName": "NAME",
        "modelDataSource": {"s3DataSource": {"s3Uri": "s3://desk/folder/"}},
    },
    "GetModelCustomizationJob": {"jobIdentifier": "first"},
    "PutModelInvocationLoggingConfiguration": {"loggingConfig": {"s3Config": {"bucketName": "desk"}}},
    "TagResource": {
        "resourceARN": f"arn:aws:bedrock:us-east-1::foundation-model/{BASE}",
        "tags": [{"key": "a", "value": "b"}],
    },
}
"""What is good of its kind, for the fuzz to begin with: what random members seldom come to."""

SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/bedrock/aws4_request"}


@pytest.fixture
def served(tmp_path):
    """The port of control plane and runtime as the service has them, over a scripted model, and its models' ARNs."""
    settings = Settings(tmp_path, 1, most_jobs=100_000, most_deployments=100_000)
    (tmp_path / "front").mkdir()
    front = make_front(tmp_path / "front")
    (tmp_path / "catalog.yaml").write_text(ENTRY.format(id=BASE, name="front", path=front))
    for name in MODELS:
        make_front(register(settings, name, BASE))
    bucket = settings.buckets / "desk"
    bucket.mkdir(parents=True)
    pairs(bucket / "pairs.jsonl", 20)
    desk = open_desk(settings)
    logbook = Logbook(settings, desk.objects, lambda: desk.ledger.setting(LOGGING))
    runtime = Runtime(settings, lambda identifier: resolve(identifier, desk), ScriptedPool(), logbook.record)
    app = App([Bedrock(desk, runtime)], None, settings.scratch)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()[1], [one.arn for one in desk.shelf.all()]
        server.should_exit = True
        thread.join(20)
    runtime.close()
    logbook.close()
    desk.ledger.engine.dispose()


class Line:
    """A connection that is opened again when the server has closed it."""

    def __init__(self, port):
        self._line = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)

    def ask(self, sent):
        began = time.monotonic()
        self._line.request(sent.method, sent.path, sent.body, {**SIGNED, **sent.headers})
        answer = self._line.getresponse()
        body = answer.read()
        return (
            answer.status,
            {name.lower(): value for name, value in answer.getheaders()},
            body,
            time.monotonic() - began,
        )

    def close(self):
        self._line.close()


def check(sent, status, headers, body):
    """What is wrong with an answer, in a word; nothing if it is as AWS's clients expect it."""
    if status >= 500 or b"Traceback" in body:
        return "a fault of ours"
    if status >= 300:
        return None if sent.method == "HEAD" else _check_error(sent, status, headers, body)
    return None if sent.is_odd else _check_answer(sent.operation, status, headers, body)


def _check_error(sent, status, headers, body):
    name = headers.get("x-amzn-errortype")
    modelled = {
        shape.name: shape.metadata.get("error", {}).get("httpStatusCode") for shape in sent.operation.model.error_shapes
    }
    if name not in COMMON and name not in modelled and not sent.is_odd:
        return f"{name} is no error of this operation"
    if modelled.get(name, status) != status:
        return f"{name} with {status}"
    return None if json.loads(body)["message"] else "an error that says nothing"


def _check_answer(operation, status, headers, body):
    model = operation.model
    if model.has_event_stream_output:
        buffer = EventStreamBuffer()
        buffer.add_data(body)
        events = list(buffer)
        return None if events and all(json.loads(event.payload) is not None for event in events) else "no events"
    if model.has_streaming_output:
        return None if json.loads(body) and headers["content-type"] == "application/json" else "no JSON"
    if model.output_shape is None:
        return None
    found = create_parser("rest-json").parse(
        {"status_code": status, "headers": headers, "body": body}, model.output_shape
    )
    del found["ResponseMetadata"]
    write(operation, found)
    return None if status == model.http.get("responseCode", 200) else f"status {status}"


@pytest.mark.row(46, 75)
@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_request_whatever_breaks_the_service_or_its_form(served, count, caplog):
    port, arns = served
    line, faults, told = Line(port), [], collections.Counter()
    everything = list(SERVICE.operations.values())
    ours = [operation for operation in everything if operation.name in OURS]
    fuzzer = Fuzzer([*everything, *ours * 4], count, [*MODELS, *arns], KNOWN)
    for number, sent in enumerate(fuzzer.requests(count)):
        status, headers, body, seconds = line.ask(sent)
        try:
            fault = check(sent, status, headers, body)
        except (ValueError, KeyError) as error:
            fault = repr(error)
        if fault or seconds > SECONDS:
            faults.append(
                f"{number} {sent.operation.name}, {sent.way}, {seconds:.1f} s: {fault}: {status} {body[:300]}"
            )
        if status < 300 and not sent.is_odd:
            told[sent.operation.name] += 1
    assert line.ask(Sent(None, "good", "GET", "/health", {}, b""))[0] == 200
    line.close()
    assert not faults, "\n".join(faults[:20]) + f"\n{len(faults)} in all"
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert set(told) <= OURS
    assert len(told) >= (30 if count == 1_000 else 36), sorted(OURS - set(told))
