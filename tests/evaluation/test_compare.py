"""The stage: what it leaves in its folder for people to read."""

import json
from dataclasses import asdict

from tests.curation.made import example

from limbeck.curation import cover
from limbeck.evaluation.candidates import Candidate
from limbeck.evaluation.compare import compare
from limbeck.evaluation.table import cells
from limbeck.recipe import Budget, Curation, Evaluation, Prices, Teacher
from limbeck.records import Answer, GenerationSettings, Question
from limbeck.storage.workspace import Workspace
from limbeck.teachers.budget import Purse
from limbeck.teachers.openai import OpenAIEndpoint
from limbeck.teachers.remote import RemoteTeacher


def test_a_model_is_asked_with_the_true_prompt_and_what_is_left_shows_it_masked(tmp_path, tiny):
    asked = []

    def ask(one):
        asked.append(one.prompt.messages[-1].text)
        return Question(one.prompt)

    rows = [example(f"write to ada@example.org, number {i}", "held-out", label="ada@example.org") for i in range(3)]
    plan, shown = Evaluation(latency_requests=2, baseline=False), cover(Curation(privacy="mask"))
    work, store = Workspace(tmp_path / "job"), tmp_path / "answers.sqlite"
    candidates = [Candidate("student after", tiny, ask)]
    compare(candidates, rows, [], plan, GenerationSettings(3), store, work, {}, (), list, shown)
    left = [json.loads(line) for line in (work.folder / "5-evaluation/answers.jsonl").read_text().splitlines()]
    assert all("ada@example.org" in text for text in asked)
    assert [row["prompt"] for row in left] == [f"write to [EMAIL-1], number {i}" for i in range(3)]
    assert [(row["id"], row["reference"]) for row in left] == [(one.id, "[EMAIL-1]") for one in rows]


def test_rows_without_an_answer_of_their_own_are_left_out_of_the_scores_not_the_answers_of_the_others(tmp_path, tiny):
    said = tiny_says(tiny, tmp_path)
    rows = [example(f"number {i}", "held-out", label=said[i] if i < 7 else "another") for i in range(8)]
    rows += [example("number 8", "held-out"), example("number 9", "held-out")]
    report = examined(tiny, rows, tmp_path / "mixed")
    scored = report.models["student after"]["exact_match"]
    assert (scored["rows"], scored["value"]) == (8, 7 / 8)
    assert "Scores are over the 8 of 10 held-out rows that have a reference." in report.verdict
    bare = examined(tiny, [example(f"number {i}", "held-out") for i in range(8)], tmp_path / "bare")
    assert "Of 8 held-out rows none have a reference of their own: scores are agreement" in bare.verdict
    assert "exact_match" not in bare.models["student after"]


def test_where_a_handful_have_references_the_teachers_answers_are_what_is_compared_with(tmp_path, tiny):
    rows = [example(f"number {i}", "held-out", label="another" if i < 5 else None) for i in range(8)]
    report = examined(tiny, rows, tmp_path / "few")
    assert "100.0% exact match against the teacher's 100.0%" in report.verdict
    assert "Of 8 held-out rows 5 have a reference of their own: scores are agreement" in report.verdict
    assert report.models["student after"]["exact_match"]["rows"] == 5


def test_an_examination_is_held_again_where_a_reference_is_another(tmp_path, tiny):
    rows = [example(f"number {i}", "held-out", label="another") for i in range(8)]
    assert examined(tiny, rows, tmp_path / "job").models["student after"]["exact_match"]["value"] == 0.0
    rows = [example(f"number {i}", "held-out", label=said) for i, said in enumerate(tiny_says(tiny, tmp_path))]
    assert examined(tiny, rows, tmp_path / "job").models["student after"]["exact_match"]["value"] == 1.0


def test_what_a_service_does_not_count_has_no_cost_and_no_speed():
    recipe = Teacher(model="wise", endpoint="http://127.0.0.1:9/v1")
    far = Candidate("teacher", RemoteTeacher(OpenAIEndpoint(recipe), Purse(Budget(), Prices(input=1.0, output=2.0))))
    rows = [example(f"number {i}", "held-out") for i in range(2)]
    counted, bare = (
        Answer("so", (), "stop", 500, counted_tokens=250, seconds=0.5),
        Answer("so", (), "stop", 0, seconds=0.5),
    )
    assert far.facts(rows, [counted, counted])["cost_per_1000_requests"] == 1000.0
    assert "cost_per_1000_requests" not in far.facts(rows, [counted, bare])
    timed = far.latency([bare, bare], [], GenerationSettings(3), lambda: None)
    assert timed.at_once and timed.requests == 2
    shown = cells("teacher", {**far.facts(rows, [bare, bare]), "latency": asdict(timed)})
    assert shown[6:] == ("–", "–", "–")


def tiny_says(tiny, place):
    examined(tiny, [example(f"number {i}", "held-out") for i in range(8)], place / "first")
    lines = (place / "first" / "5-evaluation" / "answers.jsonl").read_text().splitlines()
    return [json.loads(line)["student after"] for line in lines]


def examined(tiny, rows, folder):
    candidates = [Candidate("teacher", tiny), Candidate("student after", tiny)]
    plan, settings = Evaluation(latency_requests=2, baseline=False), GenerationSettings(3)
    return compare(candidates, rows, [], plan, settings, folder.parent / "answers.sqlite", Workspace(folder), {})
