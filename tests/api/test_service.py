"""The service as its users meet it: a process of its own, and plain boto3 and HTTP against it."""

import json
import os
import socket
import subprocess
import sys
import time
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError
from tests.api.server import Server, free_port, serving
from tests.homes import ENTRY

from limbeck.api import serve as api_serve
from limbeck.api.serve import check
from limbeck.errors import Conflict
from limbeck.settings import Settings
from limbeck.storage.keys import Keys
from limbeck.storage.workspace import write_json

BASE = "huggingface.smollm2-135m-instruct-v1:0"
FOUNDATION = f"arn:aws:bedrock:us-east-1::foundation-model/{BASE}"


def register(settings, name, base=BASE, kind="distillation", age=0):
    """A registered model as the registry leaves it, without weights worth loading."""
    folder = settings.jobs / name / "6-model"
    write_json(folder / "manifest.json", {})
    write_json(folder / "config.json", {})
    moment = time.time() - age
    os.utime(folder / "manifest.json", (moment, moment))
    lineage = {"losses": {"training_loss": 0.25, "validation_loss": float("nan")}}
    row = {"name": name, "path": str(folder), "kind": kind, "base": base, "fingerprint": f"of {name}"}
    write_json(settings.models / f"{name}.json", {**row, "lineage": lineage})
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return Settings(tmp_path_factory.mktemp("home").resolve(), 1)


@pytest.fixture(scope="module")
def server(settings):
    with serving(settings.home) as made:
        yield made


@pytest.fixture
def models(settings):
    """Five models, the eldest first; the last was made from the first."""
    names = [f"desk-{number}" for number in range(5)]
    for age, name in zip((50, 40, 30, 20, 10), names, strict=True):
        register(
            settings,
            name,
            "desk-0" if name == "desk-4" else BASE,
            "fine-tuning" if name == "desk-0" else "distillation",
            age,
        )
    yield names
    for path in settings.models.glob("*.json"):
        path.unlink()


def code(caught):
    return caught.value.response["Error"]["Code"]


@pytest.mark.row(1)
def test_the_catalog_is_listed_and_filtered(server):
    client = server.client()
    found = client.list_foundation_models(byCustomizationType="DISTILLATION")["modelSummaries"]
    (summary,) = (one for one in found if one["modelId"] == BASE)
    assert summary["modelArn"] == FOUNDATION
    assert client.list_foundation_models(byProvider="hugging face")["modelSummaries"] == found
    assert client.list_foundation_models(byProvider="nobody")["modelSummaries"] == []
    assert client.list_foundation_models(byOutputModality="IMAGE")["modelSummaries"] == []
    for identifier in (BASE, FOUNDATION):
        assert client.get_foundation_model(modelIdentifier=identifier)["modelDetails"] == summary
    assert client.get_foundation_model_availability(modelId=BASE)["entitlementAvailability"] == "AVAILABLE"
    with pytest.raises(client.exceptions.ResourceNotFoundException, match=r"no base model.*ListFoundationModels"):
        client.get_foundation_model(modelIdentifier="huggingface.nothing-v1:0")


@pytest.mark.row(73)
def test_a_legacy_model_is_listed_and_says_what_it_is_when_used(server, settings):
    own = settings.home / "catalog.yaml"
    own.write_text(ENTRY.format(id="test.old-v1:0", name="old", path="nowhere") + "  lifecycle: LEGACY\n")
    client = server.client()
    found = client.get_foundation_model(modelIdentifier="test.old-v1:0")["modelDetails"]
    assert found["modelLifecycle"]["status"] == "LEGACY"
    with pytest.raises(ClientError, match=r"test\.old-v1:0 is LEGACY") as caught:
        server.client(service="bedrock-runtime").converse(
            modelId="test.old-v1:0", messages=[{"role": "user", "content": [{"text": "hi"}]}]
        )
    assert code(caught) == "ValidationException"
    own.unlink()


@pytest.mark.row(47, 48)
def test_custom_models_are_paged_without_loss_in_both_orders(server, models):
    client = server.client()
    for order, expected in (("Descending", models[::-1]), ("Ascending", models)):
        pages = client.get_paginator("list_custom_models").paginate(sortOrder=order, PaginationConfig={"PageSize": 2})
        names = [[one["modelName"] for one in page["modelSummaries"]] for page in pages]
        assert names == [expected[:2], expected[2:4], expected[4:]]
    with pytest.raises(client.exceptions.ValidationException, match="none of ours"):
        client.list_custom_models(nextToken="invented")


@pytest.mark.row(47)
def test_every_filter_of_custom_models_selects(server, models):
    client = server.client()

    def names(**asked):
        return [one["modelName"] for one in client.list_custom_models(sortOrder="Ascending", **asked)["modelSummaries"]]

    parent = client.get_custom_model(modelIdentifier="desk-0")
    now = datetime.now(UTC)
    assert names(nameContains="k-3") == ["desk-3"]
    assert names(baseModelArnEquals=parent["modelArn"]) == ["desk-4"]
    assert names(foundationModelArnEquals=FOUNDATION) == models
    assert names(baseModelArnEquals=FOUNDATION) == models[:4]
    assert names(creationTimeBefore=now - timedelta(seconds=35)) == models[:2]
    assert names(creationTimeAfter=now - timedelta(seconds=35)) == models[2:]
    assert names(modelStatus="Active", isOwned=True) == models
    assert names(modelStatus="Failed") == names(isOwned=False) == []


@pytest.mark.row(48)
def test_a_custom_model_is_had_by_name_and_by_arn_and_deleted_once(server, models, settings):
    client = server.client()
    found = client.get_custom_model(modelIdentifier="desk-3")
    assert client.get_custom_model(modelIdentifier=found["modelArn"])["modelName"] == "desk-3"
    assert (found["customizationType"], found["baseModelArn"]) == ("DISTILLATION", FOUNDATION)
    assert (found["trainingMetrics"], found["validationMetrics"]) == ({"trainingLoss": 0.25}, [])
    client.delete_custom_model(modelIdentifier=found["modelArn"])
    assert not (settings.jobs / "desk-3" / "6-model").exists()
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.delete_custom_model(modelIdentifier="desk-3")


@pytest.mark.row(75)
def test_an_operation_limbeck_does_not_have_answers_an_error_that_names_it(server):
    client = server.client()
    with pytest.raises(client.exceptions.ValidationException, match="ListGuardrails: not yet"):
        client.list_guardrails()
    runtime = server.client(service="bedrock-runtime")
    with pytest.raises(runtime.exceptions.ValidationException, match="ListAsyncInvokes: not yet"):
        runtime.list_async_invokes()


def test_requests_that_are_not_awss_get_errors_in_its_form(server):
    for method, path, status in (
        ("GET", "/nothing/here", 404),
        ("PATCH", "/custom-models", 405),
        ("GET", "/custom-models?maxResults=x", 400),
    ):
        found, headers, body = server.ask(method, path)
        assert (found, headers["content-type"]) == (status, "application/json")
        assert json.loads(body)["message"]
        assert headers["x-amzn-requestid"]
        assert headers["x-amzn-errortype"] in ("UnknownOperationException", "ValidationException")


def test_text_that_not_every_database_can_keep_is_refused_with_its_place(server):
    client = server.client()
    dataset = {"name": "set", "datasetLocation": {"s3Uri": "s3://desk/set.jsonl"}}
    part = {"taskType": "General", "dataset": dataset, "metricNames": ["Builtin.Accuracy"]}
    with pytest.raises(client.exceptions.ValidationException, match=r"jobDescription: the text holds U\+0000"):
        client.create_evaluation_job(
            jobName="described",
            jobDescription="half\0way",
            roleArn="arn:aws:iam::000000000000:role/Limbeck",
            evaluationConfig={"automated": {"datasetMetricConfigs": [part]}},
            inferenceConfig={"models": [{"bedrockModel": {"modelIdentifier": BASE}}]},
            outputDataConfig={"s3Uri": "s3://desk/out/"},
        )


def test_moments_and_tokens_that_no_database_can_hold_are_refused(server):
    early = "0001-01-01T00:00:00%2B14:00"
    tokens = (["0001-01-01T00:00:00+14:00", "arn"], ["2026-01-01T00:00:00Z", "\ud800"], ["2026-01-01T00:00:00Z", "\0"])
    hidden = [b64encode(json.dumps(one).encode()).decode() for one in tokens] + [b64encode(b"[" * 1500).decode()]
    for query in (f"creationTimeAfter={early}", *(f"nextToken={quote(one)}" for one in hidden)):
        for path in ("/custom-models", "/model-customization-jobs"):
            status, headers, body = server.ask("GET", f"{path}?{query}")
            assert (status, headers["x-amzn-errortype"]) == (400, "ValidationException"), (query, body)


def test_who_wants_another_protocol_is_answered_in_this_one(server):
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AA==",
    }
    assert server.ask("GET", "/health", headers=upgrade)[0] == 200
    assert server.ask("GET", "/nothing/here", headers=upgrade)[0] == 404


def test_a_body_without_end_is_cut_off(server):
    found, headers, body = server.ask("POST", "/tagResource", b" " * 25_000_001)
    assert (found, headers["x-amzn-errortype"]) == (400, "ValidationException")
    assert b"over 25,000,000 bytes" in body


def test_it_is_ready_without_torch(server):
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "libtorch" not in maps


@pytest.mark.row(12)
def test_signatures_are_checked(tmp_path):
    keys = Keys(tmp_path / "keys.json")
    key = keys.add("ada")
    server = Server(tmp_path)
    try:
        client = server.client(key.id, key.secret)
        assert client.list_custom_models(nameContains="abc")["modelSummaries"] == []
        arn = f"arn:aws:bedrock:us-east-1:000000000000:custom-model/{BASE.split(':')[0]}/abcdef012345"
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.get_custom_model(modelIdentifier=arn)
        for wrong, name in (
            (server.client(key.id, "wrong"), "InvalidSignatureException"),
            (server.client("AKIANOBODY", key.secret), "UnrecognizedClientException"),
        ):
            with pytest.raises(ClientError) as caught:
                wrong.list_custom_models()
            assert code(caught) == name
            assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        status, headers, _ = server.ask("GET", "/custom-models")
        assert (status, headers["x-amzn-errortype"]) == (403, "AccessDeniedException")
        keys.remove(key.id)
        with pytest.raises(ClientError) as caught:
            client.list_custom_models()
        assert code(caught) == "UnrecognizedClientException"
    finally:
        _, said = server.stop()
    assert "Traceback" not in said
    assert key.secret not in said


def test_of_two_servers_that_begin_at_once_on_one_port_the_second_is_told_so(tmp_path, monkeypatch):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))  # both may: nobody listens yet
        make_app = api_serve.make_app
        monkeypatch.setattr(api_serve, "make_app", lambda *given: other.listen() or make_app(*given))
        with pytest.raises(Conflict, match=r"cannot listen on 127\.0\.0\.1:\d+: .*--port names another"):
            api_serve.serve("127.0.0.1", other.getsockname()[1], False, Settings(tmp_path, 1), pytest.fail, work=False)


def test_a_wrong_configuration_is_told_whole_before_anything_starts(tmp_path):
    settings = Settings(tmp_path, 1)
    (tmp_path / "catalog.yaml").write_text("- {id: nothing}\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        faults = "\n".join(check("127.0.0.1", taken.getsockname()[1], True, settings))
    for part in ("catalog.yaml", "no access key is known", "cannot listen on 127.0.0.1"):
        assert part in faults
    assert "loopback" in check("0.0.0.0", free_port(), False, settings)[0]
    flags = ["serve", "--check", "--home", str(tmp_path), "--port", str(free_port())]
    found = subprocess.run([sys.executable, "-m", "limbeck", *flags], capture_output=True, text=True)
    assert (found.returncode, "catalog.yaml" in found.stdout) == (2, True)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://ada:secret@127.0.0.1:1/rows", "refused"),
        ("postgresql://127.0.0.1:port/rows", "no URL"),
        ("mysql://x/y", "is for mysql"),
        ("sqlite:////dev/null/rows.sqlite", "cannot be used"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_with_the_setting_that_names_it(tmp_path, url, why):
    (fault,) = check("127.0.0.1", free_port(), False, Settings(tmp_path, 1, database_url=url))
    assert "LIMBECK_DATABASE" in fault and why in fault and "secret" not in fault
    worker = [sys.executable, "-m", "limbeck", "worker", "--home", str(tmp_path)]
    found = subprocess.run(worker, capture_output=True, text=True, env={**os.environ, "LIMBECK_DATABASE": url})
    assert (found.returncode, f"limbeck: {fault}" in found.stderr) == (2, True)
