"""Of several teachers the best on a sample teaches: by labels, by a judge, or by what most of them say."""

import json
import math

import pytest
from tests.synthesis.sessions import SETTINGS, example, workspace

from limbeck.errors import InvalidInput, InvalidRecipe
from limbeck.evaluation.metrics import token_f1
from limbeck.inference.engine import Engine
from limbeck.recipe import Recipe
from limbeck.records import Answer
from limbeck.synthesis import Framing, Session, choose_teacher, remarks
from limbeck.synthesis.instructions import marking
from limbeck.synthesis.marks import marks
from limbeck.synthesis.trial import _figures
from limbeck.teachers.local import LocalTeacher
from limbeck.teachers.scripted import ScriptedTeacher

EXAMPLES = [example(f"drip {i}", "leak") for i in range(20)]
UNLABELLED = [example(f"drip {i}") for i in range(20)]


@pytest.fixture
def work(tmp_path):
    return workspace(tmp_path / "job")


def sessions(work, **scripts):
    teachers = {name: ScriptedTeacher(script, name) for name, script in scripts.items()}
    store = work.folder.parent / "a.sqlite"
    opened = {name: (lambda t=t: Session(t, SETTINGS, Framing(), store, work)) for name, t in teachers.items()}
    return teachers, opened


def half(text):
    return "leak" if int(text.split()[-1]) % 2 else "noise"


def trial(work):
    return json.loads((work.folder / "2-teachers" / "trial.json").read_text())


def test_the_best_by_labels_is_chosen_and_every_figure_kept(work):
    said = []
    work.progress.say = said.append
    teachers, opened = sessions(work, worst=lambda t: "noise", best=lambda t: "leak", middling=half)
    assert choose_teacher(opened, None, EXAMPLES, 12, 0, token_f1, work) == "best"
    found = trial(work)
    assert (found["chosen"], found["by"], found["rows"]) == ("best", "labels", 12)
    scores = {name: one["score"] for name, one in found["candidates"].items()}
    assert scores["worst"] == 0.0 < scores["middling"] < scores["best"] == 1.0
    assert said == [found["sentence"]] == remarks(work.folder, [])[1:]
    assert "teacher: best, the best of 3 by labels on 12 prompts (worst 0% ± 0%, best 100% ± 0%" in said[0]
    rows = [json.loads(line) for line in (work.folder / "2-teachers" / "answers.jsonl").read_text().splitlines()]
    assert len(rows) == 12 and {row["answers"]["best"] for row in rows} == {"leak"}
    assert all(teacher.asked.total() == 12 for teacher in teachers.values())
    teachers, opened = sessions(work, worst=half, best=half, middling=half)
    assert choose_teacher(opened, None, EXAMPLES, 12, 0, token_f1, work) == "best"
    assert not any(teacher.asked for teacher in teachers.values())


def test_an_answer_whose_tokens_only_the_teacher_counted_has_its_length(work):
    counted = Answer("leak", (), "stop", 9, counted_tokens=4)
    assert _figures([counted, counted], [1.0, 0.0])["response_tokens"] == 4.0


def test_labelled_prompts_are_preferred_and_held_out_ones_never_asked(work):
    held_out = example("held", "leak")
    object.__setattr__(held_out, "split", "held-out")
    teachers, opened = sessions(work, one=lambda t: "leak", other=half)
    choose_teacher(opened, None, [held_out, *UNLABELLED, *EXAMPLES[:3]], 30, 0, token_f1, work)
    assert teachers["one"].asked.keys() == {e.id for e in EXAMPLES[:3]}


def test_without_labels_a_judge_marks(work):
    def script(text):
        return "So: 5" if "\nleak" in text else "2"

    _, opened = sessions(work, noisy=lambda t: "noise", leaky=lambda t: "leak", judge=script)
    judge = opened.pop("judge")
    assert choose_teacher(opened, judge, UNLABELLED, 5, 0, token_f1, work) == "leaky"
    assert {name: one["score"] for name, one in trial(work)["candidates"].items()} == {"noisy": 0.25, "leaky": 1.0}


def test_a_judge_that_cannot_be_asked_is_told_as_the_judge(work):
    def full(text):
        raise InvalidInput("p.jsonl line 3: a prompt of 589 tokens; judge reads at most 511")

    _, opened = sessions(work, one=half, other=half, judge=full)
    judge = opened.pop("judge")
    with pytest.raises(InvalidInput, match=r"trial\.judge, asked with prompt and answer: p\.jsonl line 3: .* 511"):
        choose_teacher(opened, judge, UNLABELLED, 5, 0, token_f1, work)


def test_without_a_judge_what_most_of_three_say_wins_and_two_are_refused(work):
    _, opened = sessions(work, odd=lambda t: "noise", one=lambda t: "leak", other=lambda t: "leak")
    assert choose_teacher(opened, None, UNLABELLED, 5, 0, token_f1, work) == "one"
    assert trial(work)["by"] == "each other's answers"
    del opened["other"]
    with pytest.raises(InvalidInput, match=r"no row has a label by which odd and one could be told apart"):
        choose_teacher(opened, None, UNLABELLED, 5, 0, token_f1, work)


def test_a_judge_that_can_be_read_gives_the_mean_of_its_marks(work, tiny):
    session = Session(LocalTeacher(tiny), SETTINGS, Framing(), work.folder / "a.sqlite", work)
    first, second = marks(session, EXAMPLES[:2], ["leak", "a very different answer"])
    render, engine = tiny.renderer, Engine(tiny)
    prompt = render.prompt(marking(EXAMPLES[0].prompt, "leak"))
    weights = []
    for mark in range(1, 6):
        response = render.response(str(mark))
        (read,) = engine.read([prompt], [response], len(render.tokenizer))
        soft = read.soft_labels
        found = [
            dict(zip(*row, strict=True)) for row in zip(soft.top_ids_TK.tolist(), soft.top_logprobs_TK, strict=True)
        ]
        inside = [set(ids[: SETTINGS.top_k_captured]) for ids in soft.top_ids_TK.tolist()]
        logprob = 0.0
        for at, token in enumerate(response):
            rest = [math.exp(p) for other, p in found[at].items() if other not in inside[at]]
            logprob += float(found[at][token]) if token in inside[at] else math.log(sum(rest))
        weights.append(math.exp(logprob))
    assert first == pytest.approx(sum(w * at / 4 for at, w in enumerate(weights)) / sum(weights), abs=1e-3)
    assert 0 <= second <= 1 and first != second


@pytest.mark.parametrize(
    "change, message",
    [
        ({"trial": {"teachers": ["a", "a"]}}, "a: named twice"),
        ({"trial": {"teachers": ["a"]}}, "trial.teachers"),
        ({"trial": {"teachers": ["a", "b"]}, "teacher": {"model": "c"}}, "drop one of the two"),
        (
            {"trial": {"teachers": ["a", "b"]}, "synthesis": {"use_responses": True}},
            "only a distillation whose teacher",
        ),
    ],
)
def test_a_recipe_names_a_teacher_or_several_to_try(change, message):
    values = {"kind": "distillation", "name": "j", "source": {"prompts": "p.jsonl"}, "student": {"model": "s"}}
    with pytest.raises(InvalidRecipe, match=message):
        Recipe.build({**values, **change})
    good = Recipe.build({**values, "trial": {"teachers": ["a", {"model": "b"}]}})
    assert [teacher.model for teacher in good.trial.teachers] == ["a", "b"]
