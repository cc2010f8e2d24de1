"""Answers and signals on disk are what the teacher gave; golden pairs are shown; a kill costs no answer twice."""

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.factory import message, write_rows
from tests.synthesis.sessions import answer, rows

from limbeck import synthesis
from limbeck.errors import Stopped
from limbeck.intake import collect
from limbeck.progress import Silent
from limbeck.recipe import Recipe
from limbeck.records import GenerationSettings
from limbeck.storage.workspace import Workspace
from limbeck.teachers.local import LocalTeacher
from limbeck.teachers.scripted import ScriptedTeacher


@pytest.fixture
def work(tmp_path):
    return Workspace(tmp_path / "job")


@pytest.fixture
def examples(tmp_path, work):
    rows = [{"prompt": message(i)[0], **({"completion": "leak"} if i % 4 == 0 else {})} for i in range(24)]
    source = {"prompts": str(write_rows(tmp_path / "p.jsonl", rows)), "minimum": 10, "held_out_share": 0.2}
    return collect(
        Recipe.build({"kind": "distillation", "name": "j", "source": source, "teacher": {"model": "t"}}), work
    )


def test_answers_come_back_from_disk_as_the_teacher_gave_them(work, examples, tiny):
    first = answer(examples, LocalTeacher(tiny), work)
    again = answer(examples, LocalTeacher(tiny), work)
    assert [a.example.id for a in first] == [e.id for e in examples if e.split != "held-out"]
    for one, other in zip(first, again, strict=True):
        assert one.answer.token_ids == other.answer.token_ids
        assert np.array_equal(one.answer.soft_labels.top_logprobs_TK, other.answer.soft_labels.top_logprobs_TK)
        assert one.answer.soft_labels.top_ids_TK.shape == (len(one.answer.token_ids), 5)
    given = [a for a in first if a.origin == "given"]
    assert given and all(a.answer.text == "leak" for a in given)
    tokens = load_file(work.folder / "2-synthesis" / "tokens.safetensors")
    rows = load_file(work.folder / "2-synthesis" / "signals.safetensors")["rows"]
    assert tokens["offsets"][-1] == len(tokens["token_ids"]) == len(rows)


@pytest.mark.row(27)
def test_every_answer_carries_its_lineage(work, examples):
    answer(examples, ScriptedTeacher(lambda t: "noise"), work, [("a", "b")])
    told = rows(work)
    assert {row["origin"] for row in told} == {"given", "teacher"}
    assert all(row["teacher"] == "scripted" and row["demonstrations"] == 1 for row in told)


@pytest.mark.row(20)
def test_golden_pairs_are_shown_but_never_the_example_itself(work, examples):
    seen = []

    class Watching(ScriptedTeacher):
        def answers(self, questions, *rest):
            seen.extend(questions)
            return super().answers(questions, *rest)

    own = examples[0].prompt.messages[-1].text
    golden = [(own, "leak"), ("another", "noise")]
    answer(examples, Watching(lambda t: "x"), work, golden)
    shown = {question.prompt.messages[-1].text: question.demonstrations for question in seen}
    assert all(own not in dict(pairs) for text, pairs in shown.items() if text == own)
    assert all(pairs == tuple(golden) for text, pairs in shown.items() if text != own)


def test_broken_off_and_begun_again_each_prompt_is_asked_once(work, examples):
    teacher = ScriptedTeacher(lambda text: "noise")
    asked = [e for e in examples if e.split != "held-out"]

    def script(text):
        if teacher.asked.total() >= 9:
            work.stop.set()
        return "noise"

    teacher._script = script
    with pytest.raises(Stopped):
        answer(examples, teacher, work)
    resumed = Workspace(work.folder)
    assert len(answer(examples, teacher, resumed)) == len(asked)
    assert set(teacher.asked.values()) == {1}


def test_without_a_teacher_the_labels_are_the_answers(examples):
    made = synthesis.labels(examples)
    assert made and all(one.answer.text == "leak" and one.teacher is None for one in made)
    assert all(one.example.split != "held-out" for one in made)


def test_what_a_teacher_thinks_aloud_is_told_before_it_is_learned(work, examples):
    heard = []

    class Listening(Silent):
        def say(self, text):
            heard.append(text)

    work.progress = Listening()
    aloud = ScriptedTeacher(lambda t: "<think>It drips.</think>leak" if len(t) % 2 else "leak")
    made = answer(examples, aloud, work, settings=GenerationSettings(60))
    thinking = sum(one.answer.text != "leak" for one in made)
    told = f"{thinking} of {len(made)} answers begin with what the teacher thought (<think>)"
    assert 0 < thinking < len(made) and any(told in line for line in heard)
    assert any(told in line for line in synthesis.remarks(work.folder, made))
    assert not any(
        "<think>" in line for line in synthesis.remarks(work.folder, [one for one in made if one.answer.text == "leak"])
    )
