"""Mended answers keep what they were, and their soft labels are the teacher's for the prompt that stands before them."""

import numpy as np
import pytest
from tests.synthesis.sessions import SETTINGS, Editor, Ending, answer, example, rows, workspace

from limbeck.inference.engine import Engine
from limbeck.records import Example, GenerationSettings, Message, Prompt
from limbeck.teachers.scripted import ScriptedTeacher

REFINE = {"instruction": "Use one word."}


@pytest.fixture
def work(tmp_path):
    return workspace(tmp_path / "job")


def test_an_answer_of_the_teacher_is_mended_and_both_are_kept(work):
    teacher = ScriptedTeacher(lambda text: "leak" if "Use one word." in text else "a leak")
    made = answer([example("drips"), example("hums", "noise")], teacher, work, refine=REFINE)
    first, second = rows(work)
    assert (first["origin"], first["text"], first["before"]) == ("refined", "leak", "a leak")
    assert len(first["parent"]) == 64 and first["parent"] != first["id"]
    assert (second["origin"], second["text"], second["before"]) == ("given", "noise", None)
    assert made[0].before == "a leak" and made[0].origin == "refined"


@pytest.mark.parametrize("new, reason", [("", "empty"), ("far too long", "cut off"), ("a leak", "needs no correction")])
def test_what_cannot_be_mended_stays_and_says_why(work, new, reason):
    said = []
    work.progress.say = said.append
    answer(
        [example("drips")], ScriptedTeacher(lambda t: new if "Use one word." in t else "a leak"), work, refine=REFINE
    )
    (row,) = rows(work)
    assert (row["origin"], row["text"], row["note"]) == ("teacher", "a leak", f"not mended: {reason}")
    assert said == [f"answers refined: 0 of 1, 1 {reason}"]


def test_an_answer_that_was_cut_off_or_empty_is_not_mended_into_one_that_passes(work):
    said = []
    work.progress.say = said.append
    teacher = ScriptedTeacher(lambda t: "leak" if "Use one word." in t else {"drips": "a very long leak"}.get(t, " "))
    made = answer([example("drips"), example("hums")], teacher, work, refine=REFINE)
    assert [(one.origin, one.note) for one in made] == [
        ("teacher", "not mended: was cut off"),
        ("teacher", "not mended: was empty"),
    ]
    assert [one.answer.finish_reason for one in made] == ["length", "stop"] and teacher.asked.total() == 2
    assert said == ["answers refined: 0 of 2, 1 was cut off, 1 was empty"]


def test_soft_labels_of_a_mended_answer_belong_to_the_original_prompt_and_the_new_tokens(work, tiny):
    teacher = Ending(tiny, lambda text: "leak" if "Correct it" in text else "noise")
    examples = [example("it drips", "Leakage", "Name the intent."), example("it hums", system="Name the intent.")]
    made = answer(examples, teacher, work, labels="improve", refine=REFINE)
    assert [one.answer.text for one in made] == ["leak", "noise"]
    assert ["it drips" in q.prompt.messages[0].text for q in teacher.mended] == [True, False]
    render = tiny.renderer
    for one in made:
        prompt, response = render.prompt(one.example.prompt), render.response(one.answer.text)
        assert one.answer.token_ids == tuple(response)
        (expected,) = Engine(tiny).read([prompt], [response], SETTINGS.top_k_captured)
        assert np.array_equal(np.sort(one.answer.soft_labels.top_ids_TK), np.sort(expected.soft_labels.top_ids_TK))
        np.testing.assert_allclose(
            one.answer.soft_labels.top_logprobs_TK, expected.soft_labels.top_logprobs_TK, atol=1e-2
        )


def test_a_text_that_is_read_in_more_tokens_than_allowed_is_not_taken(work, tiny):
    class Spelling(Editor):
        """Says it wrote fewer tokens than the text has when read."""

        def answers(self, questions, settings, *rest):
            return super().answers(questions, GenerationSettings(99), *rest)

    teacher = Spelling(tiny, lambda text: "warranty billing delivery")
    answer([example("it drips", "leak")], teacher, work, labels="improve")
    (row,) = rows(work)
    assert row["response_tokens"] <= SETTINGS.max_tokens and row["note"] == "not mended: too long"


def test_a_conversation_is_shown_whole_to_who_mends(tmp_path, tiny):
    turns = (
        Message("system", "Be kind."),
        Message("user", "hi"),
        Message("assistant", "hello"),
        Message("user", "bye"),
    )
    teacher = Editor(tiny, lambda text: "bye")
    one = Example(Prompt(turns), "Bye", "train", "f", 1)
    answer([one], teacher, workspace(tmp_path / "job"), labels="improve")
    text = teacher.mended[0].prompt.messages[0].text
    assert "Request:\nInstructions: Be kind.\nUser: hi\nAssistant: hello\nUser: bye\n\nAnswer:\nBye\n" in text
