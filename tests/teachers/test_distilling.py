"""The whole river with a teacher over the network: text or distributions, refused in time, examined, accounted for."""

import html
import json

import numpy as np
import pytest
from tests.conftest import make_model, make_tokenizer
from tests.factory import message, pairs, write_rows
from tests.homes import ENTRY
from tests.teachers.hostile import Hostile

import limbeck
from limbeck import intake
from limbeck.errors import BudgetReached, InvalidInput
from limbeck.evaluation.table import table
from limbeck.models.chat import Renderer
from limbeck.models.loading import load
from limbeck.models.token_bytes import TokenBytes
from limbeck.progress import Silent
from limbeck.recipe import Recipe
from limbeck.records import Report
from limbeck.settings import Settings
from limbeck.steps.teacher import chosen
from limbeck.storage.workspace import Workspace
from limbeck.synthesis import Framing
from limbeck.teachers import remote


def intent(text):
    return text.split(": ")[1].split()[0]


class Telling:
    """Tells log-probabilities as llama.cpp's server does, of a model that is nearly sure."""

    def __init__(self, folder, home):
        self.renderer = load(str(folder), Settings(home, threads=1)).renderer
        self.names = TokenBytes(self.renderer.tokenizer)

    def __call__(self, said, cut, count):
        ids = self.renderer.response(said)
        return [self.entry(token, count) for token in (ids[:-1] if cut else ids)]

    def entry(self, token, count):
        others = [i for i in range(50, 50 + count) if i != token][: count - 1]
        top = [self.one(token, -0.1), *(self.one(other, -5.0 - other / 100) for other in others)]
        return {**top[0], "top_logprobs": top}

    def one(self, token, logprob):
        stands_for = self.names.bytes_of.get(token, b"")
        return {"id": token, "token": stands_for.decode(errors="ignore"), "bytes": list(stands_for), "logprob": logprob}


@pytest.fixture
def server(monkeypatch):
    made = Hostile(intent)
    start = remote.RemoteTeacher.__init__

    def on_its_loop(self, *args, **more):
        start(self, *args, **more)
        self._loop = made.loop

    monkeypatch.setattr(remote.RemoteTeacher, "__init__", on_its_loop)
    yield made
    made.close()


@pytest.fixture
def recipe(tmp_path, tiny_folder, server):
    return {
        "kind": "distillation",
        "name": "student",
        "source": {
            "prompts": str(pairs(tmp_path / "prompts.jsonl", 14, labelled=False)),
            "held_out": str(pairs(tmp_path / "test.jsonl", 3, start=1000)),
            "minimum": 10,
            "validation_share": 0.0,
        },
        "teacher": {"model": "wise", "endpoint": server.url, "prices": {"input": 0.001, "output": 0.002}},
        "student": {"model": str(tiny_folder), "shrink": {"layers": 2}},
        "synthesis": {"max_response_tokens": 12, "top_k": 8},
        "training": {"epochs": 1, "batch_size": 16},
        "evaluation": {"max_response_tokens": 9, "latency_requests": 2, "baseline": False},
        "export": {"gguf": "none"},
    }


def test_a_student_learns_from_a_services_text_and_a_cap_that_is_reached_can_be_raised(tmp_path, recipe, server):
    recipe["training"]["objective"] = {"cross_entropy": 1}
    recipe["teacher"]["budget"] = {"tokens": 800}
    with pytest.raises(BudgetReached):
        limbeck.distill(recipe, home=tmp_path / "home")
    assert 0 < len(server.seen) < 14 and server.billed <= 800
    recipe["teacher"]["budget"] = {"tokens": 100_000}
    model = limbeck.distill(recipe, home=tmp_path / "home", resume=True)
    assert len(server.seen) == 14 + 3 and set(server.delivered.values()) == {1}
    assert not any("logprobs" in body for *_, body in server.seen)
    teacher = model.report["models"]["teacher"]
    assert teacher["exact_match"]["value"] == 1.0 and teacher["latency"]["place"] == "over the network"
    assert teacher["latency"]["p50"] >= 2.0  # the service's own seconds, on its own clock
    assert "The teacher was timed over the network." in model.report["verdict"]
    told = "one after another on {}, but for the teacher's, over the network and several at once."
    assert told.format("the machine that trained the model") in (model.path / "README.md").read_text()
    page = (model.path.parent / "5-evaluation" / "report.html").read_text()
    assert told.format("one machine") in html.unescape(page)
    assert teacher["cost_per_1000_requests"] == pytest.approx(30 * 0.001 + 7 * 0.002, rel=0.2)
    assert model.lineage["taught_by"] == f"wise at {server.url}"
    cost = json.loads((tmp_path / "home" / "jobs" / "student" / "2-synthesis" / "cost.json").read_text())
    assert (cost["actual"]["answers"], cost["actual"]["prompt_tokens"]) == (14, 14 * 30)
    assert cost["spent"]["requests"] == 17 and cost["spent"]["tokens"] == server.billed
    assert cost["actual"]["usd"] < cost["spent"]["usd"]
    assert cost["sentence"] in model.report["details"]["said"]
    assert cost["sentence"].startswith(f"the job's 17 requests took {server.billed:,} tokens; foreseen, with the exam")


def test_a_teacher_that_the_catalog_knows_there_is_named_by_its_id_alone(tmp_path, recipe, server):
    (tmp_path / "home").mkdir()
    entry = ENTRY.format(id="far.wise-v1:0", name="wise", path=f"{{model: wise, endpoint: '{server.url}'}}")
    (tmp_path / "home" / "catalog.yaml").write_text(entry)
    recipe |= {"teacher": {"model": "far.wise-v1:0"}, "training": {"epochs": 1, "objective": {"cross_entropy": 1}}}
    model = limbeck.distill(recipe, home=tmp_path / "home")
    assert model.lineage["taught_by"] == f"wise at {server.url}"
    assert (
        json.loads((tmp_path / "home" / "jobs" / "student" / "recipe.json").read_text())["teacher"]["endpoint"] is None
    )
    assert limbeck.distill(recipe, home=tmp_path / "home", resume=True).fingerprint == model.fingerprint
    assert len(server.seen) == 14 + 3


def test_of_a_service_that_tells_no_usage_neither_cost_nor_rate_is_made_up(tmp_path, recipe, server):
    recipe["training"]["objective"] = {"cross_entropy": 1}
    server.faults.extend(["no usage"] * 17)
    model = limbeck.distill(recipe, home=tmp_path / "home")
    teacher = model.report["models"]["teacher"]
    assert "cost_per_1000_requests" not in teacher and teacher["latency"]["tokens_per_second"] is None
    row = next(line for line in table(Report(**model.report)).splitlines() if line.startswith("teacher "))
    assert row.split()[-3:] == ["–", "–", "–"]  # rate, cost, size
    cost = json.loads((tmp_path / "home" / "jobs" / "student" / "2-synthesis" / "cost.json").read_text())
    assert cost["actual"]["answers"] == 14 and cost["actual"]["usd"] is None
    assert cost["spent"]["at_worst"] == cost["spent"]["requests"] == 17


def test_another_service_judges_and_each_mark_is_asked_once(tmp_path, recipe, server, monkeypatch):
    recipe["training"]["objective"] = {"cross_entropy": 1}
    server.script = lambda text: json.dumps({"explanation": "so", "mark": 5}) if "judge" in text else intent(text)
    judge = {"model": "wise", "endpoint": server.url, "key": "JUDGE_KEY", "prices": {"input": 0.01, "output": 0.01}}
    recipe["curation"] = {"judge": {"model": judge}}
    with pytest.raises(InvalidInput, match="JUDGE_KEY"):
        limbeck.distill(recipe, home=tmp_path / "home")
    assert not server.seen  # told before the teacher was asked
    monkeypatch.setenv("JUDGE_KEY", "secret")
    recipe["curation"]["judge"]["model"] = {**judge, "budget": {"request_tokens": 20}}
    with pytest.raises(
        InvalidInput, match=r"prompts\.jsonl line \d+: .*curation\.judge\.model\.budget\.request_tokens is 20"
    ):
        limbeck.distill(recipe, home=tmp_path / "home", resume=True)
    recipe["curation"]["judge"]["model"] = judge
    limbeck.distill(recipe, home=tmp_path / "home", resume=True)
    kept = (tmp_path / "home" / "jobs" / "student" / "3-curation" / "kept.jsonl").read_text().splitlines()
    assert [json.loads(row)["scores"] for row in kept] == [{"judge": 1.0}] * 14
    assert len(server.seen) == 14 + 14 + 3  # answers, marks, the examination
    assert "secret" not in "".join(path.read_text() for path in (tmp_path / "home" / "jobs").rglob("*.json*"))


def test_a_judge_of_a_trial_is_asked_for_marks_and_not_as_the_teachers_are(tmp_path, recipe, server, tiny_folder):
    server.script = lambda text: "I would say 4" if "How good is the answer?" in text else intent(text)
    settings, work = Settings(tmp_path / "home", threads=1), Workspace(tmp_path / "job")
    other = make_model(tmp_path / "other", seed=9)
    recipe["trial"] = {"teachers": [str(tiny_folder), str(other)], "rows": 3, "judge": recipe.pop("teacher")}
    recipe["synthesis"] |= {"max_response_tokens": 4, "temperature": 0.7, "draws": 5}
    made = Recipe.build(recipe)
    assert chosen(made, intake.collect(made, work), Framing(), settings, work) in made.trial.teachers
    assert len(server.seen) == 6
    for *_, body in server.seen:
        assert (body["temperature"], body["max_tokens"], body.get("logprobs")) == (0.0, 256, None)


def test_a_student_learns_from_a_services_distributions(tmp_path, recipe, server, tiny_folder):
    server.logprobs = Telling(tiny_folder, tmp_path)
    server.faults.extend([None] * 7 + ["wrong length"])
    said = []

    class Listening(Silent):
        def say(self, text):
            said.append(text)

    limbeck.distill(recipe, home=tmp_path / "home", progress=Listening())
    job = tmp_path / "home" / "jobs" / "student"
    rows = [json.loads(line) for line in (job / "2-synthesis" / "answers.jsonl").read_text().splitlines()]
    assert {row["text"] for row in rows} == {"leak", "noise", "warranty", "billing"}
    assert any("1 answers came as text alone" in text for text in said)
    assert any("1 of" in text and "without distributions and are left out" in text for text in said)
    losses = json.loads((job / "4-training" / "losses.json").read_text())
    assert np.isfinite(losses["training_loss"])
    assert all(body["top_logprobs"] == 8 for *_, body in server.seen if body.get("logprobs"))


@pytest.mark.parametrize(
    ("fault", "why"), [("no logprobs", "tells no log-probabilities"), ("wrong length", "that ends the answer")]
)
def test_distributions_that_do_not_come_are_refused_after_four_requests_with_the_way_out(
    tmp_path, recipe, server, tiny_folder, fault, why
):
    server.logprobs = Telling(tiny_folder, tmp_path)
    server.faults.extend([fault] * 100)
    with pytest.raises(InvalidInput, match=rf"{why}.*training\.objective: {{cross_entropy: 1}}"):
        limbeck.distill(recipe, home=tmp_path / "home")
    assert len(server.seen) == 4


@pytest.mark.parametrize(("told", "objective"), [(False, "cross_entropy"), (True, "forward_kl")])
def test_auto_learns_from_a_services_distributions_if_they_come_and_else_from_its_text(
    tmp_path, recipe, server, tiny_folder, told, objective
):
    recipe["training"]["objective"] = "auto"
    server.logprobs = Telling(tiny_folder, tmp_path) if told else None
    said = []

    class Listening(Silent):
        def say(self, text):
            said.append(text)

    limbeck.distill(recipe, home=tmp_path / "home", progress=Listening())
    assert any(text.startswith(f"objective: {{{objective}: 1}}, because") for text in said)
    assert len(server.seen) == 14 + 3


def test_another_tokenizer_is_refused_before_anything_is_asked(tmp_path, recipe, server, tiny_folder):
    other = make_model(tmp_path / "other")
    make_tokenizer(300).save_pretrained(other)
    recipe["teacher"]["tokenizer"] = str(other)
    with pytest.raises(InvalidInput, match=r"not known to be the student's.*cross_entropy: 1"):
        limbeck.distill(recipe, home=tmp_path / "home")
    assert not server.seen


@pytest.mark.parametrize(
    ("labelled", "synthesis", "told"),
    [
        (
            0,
            {"refine": {"instruction": "Be brief."}},
            r"synthesis\.refine: .*cross_entropy: 1.*or drop synthesis\.refine",
        ),
        (1, {"labels": "improve"}, r"synthesis\.labels: .*cross_entropy: 1.*synthesis\.labels: ignore"),
        (8, {}, r"8 of 14 rows bring their own answers.*cross_entropy: 1.*synthesis\.labels: ignore"),
        (8, {"labels": "auto"}, r"8 of 14 rows bring their own answers"),
    ],
)
def test_texts_that_a_service_would_have_to_read_are_refused_before_anything_is_asked(
    tmp_path, recipe, server, labelled, synthesis, told
):
    rows = [{"prompt": message(i)[0], **({"completion": "leak"} if i < labelled else {})} for i in range(14)]
    write_rows(tmp_path / "prompts.jsonl", rows)
    recipe["synthesis"] |= synthesis
    with pytest.raises(InvalidInput, match=told):
        limbeck.distill(recipe, home=tmp_path / "home")
    assert not server.seen


def test_on_policy_learning_is_refused_before_anything_is_asked(tmp_path, recipe, server):
    recipe["training"]["objective"] = {"forward_kl": 1, "on_policy": {"share": 0.5}}
    with pytest.raises(InvalidInput, match=r"on_policy.*not in this process.*forward_kl: 1"):
        limbeck.distill(recipe, home=tmp_path / "home")
    assert not server.seen


def test_our_own_tokens_are_found_by_their_bytes_alone(tiny_folder, tmp_path):
    telling = Telling(tiny_folder, tmp_path)
    assert isinstance(telling.renderer, Renderer)
    for token, stands_for in telling.names.bytes_of.items():
        assert telling.names.find(stands_for) == token
        if stands_for.isascii():
            assert telling.renderer.tokenizer.decode([token]) == stands_for.decode()
