"""Objectives as a job runs them: what the recipe says reaches the student."""

import json

import pytest
from tests.conftest import make_model, make_tokenizer
from tests.factory import message, pairs, write_rows

import limbeck
from limbeck.errors import InvalidInput
from limbeck.progress import Silent

ROLES = ("user", "assistant")


class Heard(Silent):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A teacher, and a student that writes in other tokens."""
    place = tmp_path_factory.mktemp("models")
    teacher, other = make_model(place / "teacher", layers=2), make_model(place / "other", layers=1, seed=1)
    make_tokenizer(300).save_pretrained(other)
    return teacher, other


def conversations(count):
    """Rows of two questions, each with its answer."""
    asked = [message(number) for number in range(2 * count)]
    for first, second in zip(asked[::2], asked[1::2], strict=True):
        yield {
            "messages": [turn(role, text) for pair in (first, second) for role, text in zip(ROLES, pair, strict=True)]
        }


def turn(role, text):
    return {"role": role, "content": text}


def distill(folders, tmp_path, objective, student=None, training=None, rows=None, **synthesis):
    tmp_path.mkdir(exist_ok=True)
    heard, path = Heard(), tmp_path / "p.jsonl"
    model = limbeck.distill(
        {
            "kind": "distillation",
            "name": "job",
            "source": {"prompts": str(write_rows(path, rows) if rows else pairs(path, 24)), "minimum": 10},
            "teacher": {"model": str(folders[0])},
            "student": {"model": str(student)} if student else {"shrink": {"layers": 1}},
            "synthesis": {"max_response_tokens": 16, "top_k": 8, **synthesis},
            "training": {"objective": objective, "epochs": 1, "batch_size": 8, **(training or {})},
            "evaluation": {"latency_requests": 2, "baseline": False, "max_response_tokens": 4},
            "export": {"gguf": "none"},
        },
        home=tmp_path / "home",
        progress=heard,
    )
    losses = json.loads((model.path.parent / "4-training" / "losses.json").read_text())
    return heard.said, losses


def test_a_student_that_writes_its_own_batches(folders, tmp_path):
    objective = {"reverse_kl": 1, "on_policy": {"share": 1, "max_response_tokens": 3}, "temperature": 2}
    _, losses = distill(folders, tmp_path, objective)
    assert losses["steps"] == 3 and 0 < losses["training_loss"] < 50


def test_hidden_states_are_drawn_to_the_teachers(folders, tmp_path):
    _, losses = distill(folders, tmp_path, {"forward_kl": 1, "hidden": {"layers": {1: 2}, "measure": "relative"}})
    _, without = distill(folders, tmp_path / "without", {"forward_kl": 1})
    assert losses["steps"] == 3 and losses["training_loss"] > without["training_loss"]


def test_it_is_told_where_earlier_answers_of_conversations_are_not_learned(folders, tmp_path):
    told = "conversations the last answer alone is learned"
    for objective, expected in (({"forward_kl": 1, "hidden": {}}, True), ({"forward_kl": 1}, False)):
        said, _ = distill(folders, tmp_path / str(expected), objective, rows=conversations(24))
        assert any(told in line for line in said) is expected
    last = {"answers": "last"}
    said, _ = distill(folders, tmp_path / "last", {"forward_kl": 1, "hidden": {}}, None, last, conversations(24))
    assert not any(told in line for line in said)


def test_hidden_states_that_cannot_be_compared_are_refused(folders, tmp_path):
    with pytest.raises(InvalidInput, match=r"hidden: the teacher's tokens are not .*strongest .*\{forward_kl: 1\}"):
        distill(folders, tmp_path, {"forward_kl": 1, "hidden": {}}, folders[1])


@pytest.mark.parametrize(
    ("objective", "training", "fault"),
    [
        ({"hidden": {"layers": {2: 2}}}, {}, r"hidden\.layers: 2; the student has 1 layers"),
        ({"hidden": {"layers": {1: 3}}}, {}, r"hidden\.layers: 3; the teacher has 2 layers"),
        ({}, {"freeze_layers": 1}, r"freeze_layers: 1; the model has 1 layers"),
    ],
)
def test_layers_that_are_not_there_are_refused_before_the_teacher_is_asked(
    folders, tmp_path, objective, training, fault
):
    with pytest.raises(InvalidInput, match=fault):
        distill(folders, tmp_path, {"forward_kl": 1, **objective}, training=training)
    assert not list((tmp_path / "home" / "jobs" / "job").glob("2-synthesis/answers*"))


def test_tokens_drawn_from_the_teacher(folders, tmp_path):
    said, losses = distill(folders, tmp_path, {"forward_kl": 1, "temperature": 2}, draws=20)
    assert losses["steps"] == 3
    (signals,) = [line for line in said if line.startswith("signals: ")]
    assert "packing lost -" not in signals and "the 20 tokens drawn of each distribution stand for all" in signals


def test_a_student_of_other_tokens_learns_where_both_cut_alike_and_says_how_much(folders, tmp_path):
    said, losses = distill(folders, tmp_path, "auto", folders[1])
    assert any("objective: {forward_kl: 1}, because" in line and "cut the text alike" in line for line in said)
    assert any("response tokens" in line and "learn from distributions" in line for line in said)
    assert losses["training_loss"] > 0


def test_what_cannot_be_learned_is_refused_before_the_teacher_is_asked(folders, tmp_path):
    with pytest.raises(InvalidInput, match=r"on_policy: the teacher's tokens are not .*strongest .*\{forward_kl: 1\}"):
        distill(folders, tmp_path, {"reverse_kl": 1, "on_policy": {"share": 0.5}}, folders[1])
    assert not (tmp_path / "home" / "jobs" / "job" / "2-synthesis").exists()
