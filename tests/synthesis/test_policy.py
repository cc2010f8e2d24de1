"""Labels are kept, improved or ignored as one says, all of it in view; `auto` tells good labels from bad and says why."""

import json

import numpy as np
import pytest
from tests.factory import message
from tests.synthesis.sessions import answer, example, rows, workspace

from limbeck.models.loading import load
from limbeck.records import Answer, GenerationSettings, Message, Prompt, SoftLabels
from limbeck.synthesis.instructions import FRAME, IMPROVE, mending
from limbeck.synthesis.policy import SAMPLE, _gain, _judged, _shape
from limbeck.synthesis.session import likelihood
from limbeck.teachers.local import LocalTeacher
from limbeck.teachers.scripted import ScriptedTeacher

SYSTEM = "Name the intent."


@pytest.fixture
def work(tmp_path):
    return workspace(tmp_path / "job")


def by_text(work, examples):
    return {e.prompt.messages[-1].text: row for e, row in zip(examples, rows(work), strict=True)}


def policy(work):
    return json.loads((work.folder / "2-synthesis" / "policy.json").read_text())


def script(text):
    return "noise" if IMPROVE[:30] in text else "leak"


EXAMPLES = [example("drips", "Leakage!!"), example("hums"), example("gold", "pure")]


@pytest.mark.row(21)
@pytest.mark.parametrize(
    "labels, expected",
    [
        ("keep", {"origin": "given", "text": "Leakage!!", "label": "Leakage!!", "before": None}),
        ("ignore", {"origin": "teacher", "text": "leak", "label": "Leakage!!", "before": None}),
        ("improve", {"origin": "refined", "text": "noise", "label": "Leakage!!", "before": "Leakage!!"}),
    ],
)
def test_a_label_is_kept_improved_or_ignored_in_full_view(work, labels, expected):
    made = answer(EXAMPLES, ScriptedTeacher(script), work, labels=labels)
    found = by_text(work, EXAMPLES)
    assert {key: found["drips"][key] for key in expected} == expected
    assert (found["hums"]["origin"], found["hums"]["text"], found["hums"]["label"]) == ("teacher", "leak", None)
    assert made[0].answer.text == expected["text"] and made[0].before == expected["before"]
    assert found["drips"]["parent"] == (EXAMPLES[0].id if labels == "improve" else None)
    assert policy(work)["labels"] == labels


@pytest.mark.parametrize("labels", ["ignore", "improve", "auto"])
def test_golden_answers_stay_whatever_the_policy(work, labels):
    answer(EXAMPLES, ScriptedTeacher(script), work, golden=[("gold", "pure")], labels=labels)
    found = by_text(work, EXAMPLES)
    assert (found["gold"]["origin"], found["gold"]["text"], found["gold"]["demonstrations"]) == ("given", "pure", 0)
    assert found["hums"]["demonstrations"] == 1


def test_the_instruction_is_the_users_own_if_there_is_one(work):
    own = 'Fix {answer} for {prompt}: {"json": 1}'
    teacher = ScriptedTeacher(lambda text: text)
    answer([example("why {answer}?", "a {prompt}")], teacher, work, labels="improve", improve_instruction=own)
    (row,) = rows(work)
    assert row["note"] == "not mended: cut off" and row["text"] == "a {prompt}"
    settings = {"labels": "improve", "improve_instruction": own}
    other = workspace(work.folder.parent / "other")
    answer([example("why {answer}?", "a {prompt}")], teacher, other, settings=GenerationSettings(99), **settings)
    assert rows(other)[0]["text"] == 'Fix a {prompt} for why {answer}?: {"json": 1}'


def test_wherever_an_instruction_or_its_frame_has_a_place_it_is_filled():
    prompt = Prompt((Message("user", "why {answer}?"),))
    framed = mending("Say again what {prompt} asks.", prompt, "so").messages[0].text
    assert framed == FRAME.replace("{instruction}", "Say again what {prompt} asks.").replace("{answer}", "so").replace(
        "{prompt}", "why {answer}?"
    )
    assert mending("{prompt} {answer} {prompt}", prompt, "{prompt}").messages[0].text == (
        "why {answer}? {prompt} why {answer}?"
    )


def labelled(change):
    """Sixty messages of which the teacher knows the intents, labelled with what ``change`` makes of place and intent."""
    made = []
    for i in range(60):
        text, intent = message(i)
        made.append(example(text, change(i, intent), SYSTEM))
    return made


@pytest.mark.row(21)
@pytest.mark.parametrize(
    "change, expected, reason",
    [
        (lambda i, intent: intent, "keep", "says the same"),
        (lambda i, intent: message(7 * i + i // 4 + 1)[1], "ignore", "they are poor"),
        (lambda i, intent: intent if i % 5 < 3 else message(i + 1)[1], "improve", "room for improvement"),
        (lambda i, intent: "n/a" if i % 3 else intent, "ignore", "say nothing"),
        (lambda i, intent: None, "keep", "about ten golden pairs"),
    ],
    ids=["right", "random", "half right", "blank", "none"],
)
def test_auto_measures_labels_against_a_teacher_that_knows(work, taught_folder, settings, change, expected, reason):
    teacher = LocalTeacher(load(str(taught_folder), settings))
    said = []
    work.progress.say = said.append
    answer(labelled(change), teacher, work, labels="auto")
    found = policy(work)
    assert found["labels"] == expected
    assert reason in f"{found['reason']}; {found['advice']}"
    assert f"labels: {expected}" in said[0]
    assert found["measured"].get("sample", SAMPLE) == SAMPLE


def test_a_label_nested_without_end_is_a_line_like_another():
    assert _shape("[" * 100_000) == "a line" == _shape("leak")


def test_labels_that_fit_are_kept_though_the_teacher_words_its_own_otherwise():
    measured = {
        "sample": 50,
        "labels": 90,
        "blank": 0.0,
        "unfinished": 0.1,
        "agreement": 0.1,
        "shape": 1.0,
        "fit": 0.95,
    }
    assert _judged(measured).labels == "keep"
    assert _judged({**measured, "shape": 0.2}).labels == "improve"
    assert _judged({**measured, "fit": 0.55}).labels == "ignore"
    assert _judged({**measured, "fit": None}).labels == "ignore"
    assert _judged({**measured, "fit": 0.5, "unfinished": 0.6}).labels == "keep"
    assert _judged({**measured, "fit": None, "agreement": 0.3}).labels == "improve"


def test_a_token_that_is_likely_in_neither_place_says_nothing():
    def read(tail, *logprobs):
        ids = np.array([[7, 8], [9, 8]], np.int32)
        top = np.array([[logprobs[0], -9.0], [logprobs[1], -9.0]], np.float32)
        return Answer("x y", (7, 5), "stop", 1, SoftLabels(ids, top, np.array([-9.0, tail], np.float32)))

    assert _gain(read(-0.1, -1.0, -2.0), read(-5.0, -3.0, -2.0)) == pytest.approx(2.0)
    nothing = read(-np.inf, -1.0, -2.0)
    assert _gain(nothing, nothing) == 0.0 and likelihood(nothing) == pytest.approx(-1.0 + np.log(1e-6))
    assert _gain(read(-0.1, -1.0, -2.0), Answer("x y", (7, 5), "stop", 1)) is None


def test_a_teacher_that_does_not_finish_its_own_answers_is_no_measure(work):
    answer([example(f"drip {i}", "leak") for i in range(9)], ScriptedTeacher(lambda t: "rambling"), work, labels="auto")
    assert policy(work)["labels"] == "keep" and "it is no measure of them" in policy(work)["reason"]


def test_a_teacher_that_cannot_be_read_is_judged_by_agreement_alone(work):
    answer([example(f"drip {i}", "leak") for i in range(9)], ScriptedTeacher(script), work, labels="auto")
    found = policy(work)
    assert (found["labels"], found["measured"]["fit"], found["measured"]["agreement"]) == ("keep", None, 1.0)
