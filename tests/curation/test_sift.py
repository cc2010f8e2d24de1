"""The stage: every rule drops its own, all stay in view with their lineage, and the same data have the same hashes."""

import json
import re
from dataclasses import replace

import pytest
from tests.curation.made import answered, example

from limbeck import curation
from limbeck.curation import sieve
from limbeck.errors import InvalidInput
from limbeck.recipe import Curation
from limbeck.records import VERDICTS, Answer
from limbeck.storage.workspace import Workspace


@pytest.fixture
def work(tmp_path):
    work = Workspace(tmp_path / "job")
    work.step("1-intake", {}, lambda folder: (folder / "x").write_text("x"))
    return work


def read(work, name):
    return [json.loads(line) for line in (work.folder / "3-curation" / name).read_text().splitlines()]


def test_each_rule_drops_its_own_and_all_stay_in_view(work):
    rows = [answered("a"), answered("b", "  "), answered("c", reason="length"), answered("Where, then?")]
    kept = curation.sift(rows, [example("where then", "held-out")], work)
    assert [one.example.prompt.messages[0].text for one in kept] == ["a"]
    assert [row["verdict"] for row in read(work, "dropped.jsonl")] == ["empty", "truncated", "held-out"]
    assert [row["response"] for row in read(work, "kept.jsonl")] == ["fine"]


def test_every_verdict_is_known_in_the_order_of_the_rules():
    rules = re.findall(r"^\| ([\w-]+) +\|", sieve.__doc__, re.MULTILINE)
    assert (rules[0], *VERDICTS) == ("rule", "kept", *rules[1:])


ANEW = "in a job of another name, or after `limbeck remove job`: answers are kept"


def test_nothing_left_to_train_on_says_why_and_how_to_begin_anew(work):
    with pytest.raises(
        InvalidInput, match=r"no answer is left to train on \(1 truncated\).*raise synthesis\.max_response_tokens"
    ):
        curation.sift([answered("a", reason="length")], [], work)
    with pytest.raises(
        InvalidInput, match=rf"\(1 empty\).*says why; give other rows, or loosen the rules under curation, {ANEW}"
    ):
        curation.sift([answered("a", "")], [], work)
    with pytest.raises(InvalidInput, match=rf"\(2 empty, 1 truncated\).*or loosen the rules under curation, {ANEW}"):
        curation.sift([answered("a", ""), answered("b", ""), answered("c", reason="length")], [], work)


def test_an_answer_that_a_filter_broke_off_is_not_said_to_be_too_long(work):
    with pytest.raises(InvalidInput, match=r"\(2 truncated\).*says why; give other rows"):
        curation.sift([answered(text, "no", "filtered") for text in "ab"], [], work)
    assert read(work, "dropped.jsonl")[0]["detail"] == "broken off by the service's content filter"


def test_how_long_an_answer_was_that_was_cut_off_is_told_as_the_teacher_counted_it(work):
    cut = [replace(answered("b"), answer=Answer("so", (), "length", 9, None, counted)) for counted in (256, None)]
    curation.sift([answered("a"), *cut], [], work)
    assert [row["detail"] for row in read(work, "dropped.jsonl")] == ["cut off after 256 tokens", "cut off"]


PLAN = Curation(
    refusals=True,
    max_characters=40,
    labels=("leak", "noise", "I cannot help with that", "noise " * 10),
    near_duplicates=0.8,
    contamination=5,
    privacy="drop",
    balance=0.7,
)
ROWS = [
    answered("my kettle leaks water all over the floor", "leak"),
    answered("the fan is loud", "I cannot help with that"),
    answered("the oven hums", "noise " * 10),
    answered("the hob clicks", "Noise"),
    answered("my kettle leaks water all over the floor!!", "leak"),
    answered("write to me@example.org about the fridge", "noise"),
    answered("they say that the new toaster smells of plastic", "noise"),
    *(answered(f"number {word} drips", "leak") for word in ("one", "two", "three", "four")),
    answered("there is a rattle", "noise"),
    answered("watched, and not balanced", "leak", split="validation"),
]
HELD_OUT = [example("why is it that the new toaster smells", "held-out")]


def test_every_rule_asked_for_is_counted_and_told(work):
    said = []
    work.progress.say = said.append
    curation.sift(ROWS, HELD_OUT, work, PLAN)
    summary = json.loads((work.folder / "3-curation" / "summary.json").read_text())
    assert summary == {
        "answers": 13,
        "kept": 4,
        "dropped": {
            "balance": 3,
            "contamination": 1,
            "label": 1,
            "length": 1,
            "near-duplicate": 1,
            "private": 1,
            "refusal": 1,
        },
        "masked": 0,
    }
    assert "4 answers kept, 3 balance, 1 contamination" in said[-1]
    (remark,) = curation.remarks(work.folder)
    assert remark.startswith("9 of 13 answers were dropped: 3 balance, 1 contamination, 1 label")
    told = {row["verdict"]: row["detail"] for row in read(work, "dropped.jsonl")}
    assert told["near-duplicate"] == "100% like p.jsonl line 1"
    assert told["contamination"] == 'has "that the new toaster smells" in common with a held-out prompt'
    assert told["private"] == "email"
    assert "example.org" not in (work.folder / "3-curation" / "dropped.jsonl").read_text()


def test_the_same_data_have_the_same_hashes(tmp_path):
    digests = set()
    for name in ("one", "other"):
        work = Workspace(tmp_path / name)
        work.step("1-intake", {}, lambda folder: (folder / "x").write_text("x"))
        curation.sift(ROWS, HELD_OUT, work, PLAN)
        digests.add(work.digest_of("3-curation"))
    assert len(digests) == 1
    curation.sift(ROWS, HELD_OUT, work, PLAN.model_copy(update={"seed": 1}))
    assert work.digest_of("3-curation") not in digests


def test_a_row_carries_its_lineage(work):
    one = answered("a", parent="b" * 64, metadata={"team": "desk"})
    curation.sift([replace(one, scores={"agreement": 0.5}, parent="c" * 64)], [], work)
    (row,) = read(work, "kept.jsonl")
    assert (row["prompt_parent"], row["parent"]) == ("b" * 64, "c" * 64)
    assert (row["metadata"], row["scores"]) == ({"team": "desk"}, {"agreement": 0.5})
    assert (row["origin"], row["prompt_origin"], row["teacher"], row["seed"]) == ("teacher", "given", "t", 0)
    assert row["settings"]["temperature"] == 0.0


@pytest.mark.parametrize("privacy", ["mask", "drop"])
def test_where_privacy_is_asked_for_no_row_shows_what_is_private(work, privacy):
    sent = {"metadata": {"user": "ada@example.org"}, "others": ({"user": "bob@example.org"},)}
    rows = [answered("it leaks", **sent), answered("write to ada@example.org", **sent), answered("c", "", **sent)]
    curation.sift(rows, [], work, Curation(privacy=privacy))
    assert not [name for name in ("kept.jsonl", "dropped.jsonl") if "example.org" in json.dumps(read(work, name))]
    assert read(work, "kept.jsonl")[0]["metadata"] == {"user": "[EMAIL-1]"}


def test_what_is_private_is_masked_before_a_reason_is_cut(work):
    private = "mary.jane.of.the.lake@example.org"
    for before in (f"{'x' * at} " for at in range(140, 200)):
        rows = [answered("a", "leak"), answered("b", before + private)]
        curation.sift(rows, [], work, Curation(privacy="mask", labels=["leak"]))
        (row,) = read(work, "dropped.jsonl")
        assert row["detail"].startswith("none of the 1 labels") and "mary" not in json.dumps(row)


def test_labels_of_ones_own_rows_are_the_set_and_without_any_it_says_so(work):
    rows = [answered("a", "leak", label="leak", origin="given"), answered("b", "fire"), answered("c", "leak")]
    kept = curation.sift(rows, [one.example for one in rows], work, Curation(labels="given"))
    assert [one.answer.text for one in kept] == ["leak", "leak"]
    with pytest.raises(InvalidInput, match=r"curation\.labels: given; no row has a label"):
        curation.sift(rows[1:], [one.example for one in rows[1:]], work, Curation(labels="given"))
