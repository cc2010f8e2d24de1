"""Every example of a job is shown once, with all that is known of it; filters do what they say and nothing more."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import InvalidInput, Unknown
from limbeck.views.rows import KEYS, job_folder, rows
from limbeck.views.where import parse


def test_every_example_is_there_once_with_its_lineage(home):
    job = job_folder("first", home)
    found = list(rows(job))
    examples = [json.loads(line) for line in (job / "1-intake" / "examples.jsonl").read_text().splitlines()]
    sources = [row["prompt_unmasked"] or row["id"] for row in found]
    assert sorted(sources) == sorted(row["id"] for row in examples) and len(found) == 35
    assert all(tuple(row) == KEYS for row in found)
    by = {row["prompt"]: row for row in found}
    assert by["please refuse this"]["verdict"] == "refusal"
    masked = by["tell [EMAIL-1] that it leaks"]
    assert (masked["verdict"], masked["detail"], masked["response_tokens"]) == ("kept", "masked: email", 4)
    assert {row["verdict"] for row in found if row["split"] == "held-out"} == {"held-out"}
    given = next(row for row in found if row["label"])
    assert (given["origin"], given["copies"], given["settings"]) == ("given", 2, None)
    assert all(row["settings"]["max_tokens"] == 200 for row in found if row["origin"] == "teacher")


def test_a_job_under_way_shows_what_it_has(home):
    job = job_folder("first", home)
    (job / "3-curation" / "kept.jsonl").unlink()
    (job / "3-curation" / "dropped.jsonl").unlink()
    found = list(rows(job))
    assert len(found) == 35 and {row["verdict"] for row in found} == {"none yet", "held-out"}
    assert sum(row["response"] is not None for row in found) == sum(row["split"] != "held-out" for row in found)


def test_what_curation_has_not_seen_is_masked_too_where_privacy_is_asked_for(home):
    job = job_folder("first", home)
    path = job / "1-intake" / "examples.jsonl"
    path.write_text(path.read_text().replace("about my kettle", "to ada@example.org, about my kettle"))
    held_out = [row for row in rows(job) if row["split"] == "held-out"]
    assert any("to [EMAIL-1], about" in row["prompt"] for row in held_out)
    assert not any("ada@" in json.dumps(row) for row in rows(job))


def test_an_example_that_was_masked_is_there_once_where_no_teacher_was_asked(home):
    job = job_folder("first", home)
    (job / "2-synthesis" / "answers.jsonl").unlink()
    found = list(rows(job))
    assert len(found) == 35 and {row["verdict"] for row in found if row["split"] != "held-out"} >= {"kept", "refusal"}
    assert not [row for row in found if row["verdict"] == "none yet"]


@pytest.mark.parametrize("name", ["second", "../first", "first/1-intake"])
def test_a_job_that_is_not_there_is_told_with_those_that_are(home, name):
    with pytest.raises(Unknown, match="there is first"):
        job_folder(name, home)


ROW = {
    **dict.fromkeys(KEYS),
    "id": "ab12",
    "verdict": "judge",
    "line": 7,
    "prompt": "My Kettle leaks",
    "scores": {"agreement": 0.5},
    "metadata": {"team.name": "desk", "empty": ""},
}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("verdict=judge", True),
        ("verdict!=judge", False),
        ("verdict = judge", True),
        ("verdict==judge", True),
        ("label=", True),
        ("label!=x", True),
        ("line=7", True),
        ("line=7.0", True),
        ("line>6", True),
        ("line>=7", True),
        ("line<7", False),
        ("scores.agreement<=0.5", True),
        ("scores.judge>0", False),
        ("scores.judge!=1", True),
        ("metadata.team.name=desk", True),
        ("metadata.nobody=desk", False),
        ("prompt~KETTLE", True),
        ("prompt~kettle=", False),
        ("prompt.length=15", True),
        ("response.length>0", False),
        ("prompt>3", False),
    ],
)
def test_a_condition_says_which_rows(condition, holds):
    assert parse([condition])(ROW) is holds


def test_all_conditions_must_hold():
    assert parse([])(ROW) and parse(["line=7", "verdict=judge"])(ROW) and not parse(["line=7", "verdict=kept"])(ROW)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("verdict", "expected KEY=VALUE"),
        ("", "expected KEY=VALUE"),
        ("verdit=kept", 'did you mean "verdict"'),
        ("line>many", "expected a number"),
        ("__class__=x", "unknown key"),
    ],
)
def test_what_is_no_condition_is_told(condition, message):
    with pytest.raises(InvalidInput, match=message):
        parse([condition])


@given(st.text())
def test_no_text_does_more_than_filter(text):
    try:
        found = parse([text])(ROW)
    except InvalidInput:
        return
    assert isinstance(found, bool)
