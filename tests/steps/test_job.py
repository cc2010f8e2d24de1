"""Whether a job may be begun is known before anybody is asked, and what it will not learn is told."""

import pytest
from tests.factory import write_rows

import limbeck
from limbeck.errors import InvalidInput
from limbeck.progress import Silent
from limbeck.recipe import Recipe, Training
from limbeck.records import Example, Message, Prompt
from limbeck.steps.job import check_responses, check_watched
from limbeck.storage.workspace import Workspace


class Told(Silent):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def example(number, label=None, split="train"):
    return Example(Prompt((Message("user", f"It leaks, {number}."),)), label, split, "p.jsonl", number)


@pytest.fixture
def recipe():
    values = {"kind": "distillation", "name": "t", "source": {"prompts": "p"}, "teacher": {"model": "m"}}
    return lambda **plan: Recipe.build({**values, "synthesis": plan, "training": {"objective": {"cross_entropy": 1}}})


def test_prompts_without_a_response_are_counted_where_responses_alone_are_learned(tmp_path, recipe):
    told = Told()
    given = [example(1, "leak"), example(2), example(3, split="validation"), example(4, split="held-out")]
    check_responses(given, recipe(use_responses=True), Workspace(tmp_path, told))
    assert told.said == ["responses: 2 of 3 prompts have none, and are not learned"]
    check_responses(given[:1], recipe(use_responses=True), Workspace(tmp_path, told))
    check_responses(given, recipe(), Workspace(tmp_path, told))
    assert len(told.said) == 1


def test_a_job_that_would_learn_responses_and_has_none_is_refused(tmp_path, recipe):
    given = [example(1), example(2, "leak", "held-out")]
    with pytest.raises(InvalidInput, match="use_responses: no prompt has a response that could be learned; give rows"):
        check_responses(given, recipe(use_responses=True), Workspace(tmp_path, Told()))


def test_a_training_that_goes_by_a_validation_loss_is_refused_where_no_row_is_watched(recipe):
    def plan(**training):
        return recipe().model_copy(update={"training": Training(**training)})

    rows = [example(1), example(2, split="held-out")]
    check_watched(rows, plan())
    for training, keys in (
        ({"keep": "best"}, "keep"),
        ({"patience": 2, "keep": "best"}, r"patience and training\.keep"),
    ):
        with pytest.raises(InvalidInput, match=rf"training\.{keys}: none of 2 different prompts is set aside"):
            check_watched(rows, plan(**training))
        check_watched([*rows, example(3, split="validation")], plan(**training))


def test_nobody_is_asked_where_nothing_is_watched(tmp_path, tiny_folder):
    rows = write_rows(tmp_path / "p.jsonl", [{"prompt": f"It leaks, {number}."} for number in range(12)])
    job = {
        "kind": "distillation",
        "name": "job",
        "source": {"prompts": str(rows), "minimum": 2, "validation_share": 1e-9},
        "teacher": {"model": str(tiny_folder)},
        "training": {"keep": "best"},
    }
    with pytest.raises(InvalidInput, match=r"training\.keep: none of 12 different prompts"):
        limbeck.distill(job, home=tmp_path / "home")
    assert not (tmp_path / "home" / "answers.sqlite").exists()
