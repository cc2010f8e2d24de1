"""What was spent is set beside what was foreseen: all of it over the network, the answers alone where nobody was."""

import json

import pytest

from limbeck.recipe import Prices
from limbeck.records import Answer, AnsweredExample, Example, Message, Prompt
from limbeck.teachers.budget import JOURNAL
from limbeck.teachers.estimate import Estimate, Judging, Part, Range
from limbeck.teachers.reckoning import Reckoning

CENTS = Range(0.1, 0.2)
EXAMPLE = Example(Prompt((Message("user", "It leaks."),)), "leak", "train", "p.jsonl", 1)
ANSWER = Answer("leak", (1, 2), "stop", 10)
ANSWERS = [AnsweredExample(EXAMPLE, ANSWER, "teacher", "wise")] * 3


def part(kind, remote, usd=CENTS):
    return Part(kind, "wise", remote, 3, Range(30, 40), Range(6, 60), Range(1, 2), usd)


def estimate(*parts, judged=None):
    return Estimate("wise", 3, 3, 1, parts, 30, 40, Range(6, 60), Range(1, 2), Range(0.1, 0.2), judged)


@pytest.fixture
def job(tmp_path):
    lines = [{"request": str(i), "used": {"tokens": 20, "usd": 0.05}} for i in range(7)]
    (tmp_path / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_all_that_was_spent_over_the_network_stands_beside_all_that_was_foreseen_there(job):
    judged = Judging("stern", True, 3, 50, Range(60, 600), Range(1, 2))
    found = estimate(part("answers", True), part("samples", True), part("trial", False, None), judged=judged)
    told = Reckoning.of(ANSWERS, found, Prices(input=1, output=1), job)
    assert str(told) == (
        "the job's 7 requests took 140 tokens; foreseen, with the examination, were 9 and 182 to 850;"
        " 0.35 USD of 1.20 to 2.40"
    )
    assert told.to_json()["spent"] == {"requests": 7, "at_worst": 0, "tokens": 140, "usd": pytest.approx(0.35)}
    free = estimate(part("answers", True), part("samples", True, None))
    assert "USD" not in str(Reckoning.of(ANSWERS, free, None, job))


def test_of_a_teacher_that_is_here_the_answers_stand_beside_what_was_foreseen_of_them(tmp_path):
    found = estimate(part("answers", False), part("samples", False))
    told = Reckoning.of(ANSWERS, found, None, tmp_path)
    assert str(told) == (
        "the teacher's 3 answers took 30 tokens of prompts and 6 of answers; foreseen for them were 36 to 100"
    )
    assert told.to_json()["spent"] is None


def test_a_label_that_the_teacher_read_is_among_the_tokens_it_read(tmp_path):
    label = AnsweredExample(EXAMPLE, ANSWER, "given", "wise")
    told = Reckoning.of([*ANSWERS, label], estimate(part("answers", False), part("labels", False)), None, tmp_path)
    assert (told.answers, told.prompt_tokens, told.response_tokens) == (4, 42, 6)


def test_a_service_that_tells_no_usage_is_not_said_to_cost_nothing(job):
    silent = AnsweredExample(EXAMPLE, Answer("leak", (), "stop", 0), "teacher", "wise")
    with (job / JOURNAL).open("a") as file:
        file.write(json.dumps({"request": "silent", "reserved": {"tokens": 600, "usd": 0.5}}) + "\n")
    told = Reckoning.of([silent, *ANSWERS], estimate(part("answers", True)), Prices(input=1, output=1), job)
    assert "the job's 8 requests took 740 tokens at most (1 did not tell, and count at their worst); fore" in str(told)
    found = told.to_json()
    assert (found["spent"]["at_worst"], found["actual"]["answers"]) == (1, 4)
    assert found["actual"]["usd"] is found["actual"]["prompt_tokens"] is found["actual"]["response_tokens"] is None
    (job / JOURNAL).unlink()  # all was stored, and nobody was asked
    told = Reckoning.of([silent], estimate(part("answers", True)), None, job)
    assert str(told).startswith("the teacher's 1 answers took tokens that the service did not tell; foreseen for them")
