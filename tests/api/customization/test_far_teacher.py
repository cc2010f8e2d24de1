"""A teacher that the catalog knows behind an address: asked by jobs over the API, and used for nothing else."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.api.customization.orders import distillation, fine_tuning, wait
from tests.api.server import serving
from tests.homes import ENTRY, STUDENT

WISE = "far.wise-v1:0"
KEY = "a-key-of-theirs"


class Wise(BaseHTTPRequestHandler):
    """A service that speaks OpenAI's chat completions, and answers with the last word but one."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][-1]["content"]
        self.server.asked.append((self.path, self.headers["Authorization"], text))
        said = {"role": "assistant", "content": text.split()[-2]}
        told = {
            "model": body["model"],
            "choices": [{"index": 0, "message": said, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 1},
        }
        answer = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *said):
        """Not into the tests' output."""


@pytest.fixture(scope="module")
def service():
    made = ThreadingHTTPServer(("127.0.0.1", 0), Wise)
    made.asked = []
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture(scope="module")
def server(home, service):
    source = f"{{model: wise, endpoint: 'http://127.0.0.1:{service.server_address[1]}/v1', key: FAR_KEY}}"
    with (home / "catalog.yaml").open("a") as catalog:
        catalog.write(ENTRY.format(id=WISE, name="wise", path=source))
    with serving(home, LIMBECK_THREADS="1", FAR_KEY=KEY) as made:
        yield made


def taught_by(name, teacher, **more):
    config = {"teacherModelIdentifier": teacher, "maxResponseLengthForInference": 6}
    asked = distillation(name, baseModelIdentifier=STUDENT, **more)
    return asked | {"customizationConfig": {"distillationConfig": {"teacherModelConfig": config}}}


@pytest.mark.row(17)
def test_a_job_asks_it_where_it_is_under_its_key(client, home, service):
    by_profile = f"us.{WISE}"  # the id of an inference profile is the model's too
    job = wait(client, client.create_model_customization_job(**taught_by("afar", by_profile))["jobArn"])
    assert (job["status"], job.get("failureMessage")) == ("Completed", None)
    assert {(path, key) for path, key, _ in service.asked} == {("/v1/chat/completions", f"Bearer {KEY}")}
    texts = [text for _, _, text in service.asked]
    assert len(texts) == len(set(texts)) == 130, "each prompt once, those it is examined on too"
    report = json.loads((home / "jobs" / "afar" / "5-evaluation" / "report.json").read_text())
    assert report["models"]["teacher"]["latency"]["place"]
    spent = json.loads((home / "jobs" / "afar" / "2-synthesis" / "cost.json").read_text())["spent"]
    assert spent["usd"] == pytest.approx(130 * (9 * 0.001 + 1 * 0.002) / 1000), "at the catalog's prices"
    for path in (home / "jobs" / "afar").rglob("*.json*"):
        assert KEY not in path.read_text(), path


@pytest.mark.row(70)
def test_a_dry_run_asks_nobody(client, service):
    before = len(service.asked)
    asked = taught_by("foreseen", WISE) | {"hyperParameters": {"dryRun": "true"}}
    with pytest.raises(client.exceptions.ValidationException, match=r"wise answers 107 .* cost: \S+ to \S+ USD"):
        client.create_model_customization_job(**asked)
    assert len(service.asked) == before


def test_it_is_listed_and_can_do_nothing_but_teach(client, server):
    found = client.get_foundation_model(modelIdentifier=WISE)["modelDetails"]
    assert (found["customizationsSupported"], found["inferenceTypesSupported"]) == ([], [])
    runtime = server.client(service="bedrock-runtime")
    message = [{"role": "user", "content": [{"text": "my kettle leaks"}]}]
    for refused in (
        lambda: client.create_model_customization_job(**fine_tuning("base", baseModelIdentifier=WISE)),
        lambda: client.create_model_customization_job(**distillation("student", baseModelIdentifier=WISE)),
        lambda: client.create_provisioned_model_throughput(modelId=WISE, provisionedModelName="wise", modelUnits=1),
        lambda: runtime.converse(modelId=WISE, messages=message),
    ):
        with pytest.raises((client.exceptions.ValidationException, runtime.exceptions.ValidationException)) as told:
            refused()
        assert f"{WISE} can only teach: its weights are not here" in str(told.value)
