"""The stage: nothing is lost, nothing leaks, and what is refused is named."""

import csv
import json

import pytest
from tests.factory import message, pairs, write_rows

from limbeck.errors import InvalidDataset, InvalidInput
from limbeck.intake import check, collect, golden_pairs, survey
from limbeck.recipe import Recipe
from limbeck.records import Message, Prompt
from limbeck.storage.workspace import Workspace


def recipe(path, kind="distillation", **source):
    who = {"teacher": {"model": "t"}} if kind == "distillation" else {"student": {"model": "m"}}
    return Recipe.build({"kind": kind, "name": "job", "source": {"prompts": str(path), **source}, **who})


def fates(work):
    with (work.folder / "1-intake" / "report.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_row_ends_in_exactly_one_place(tmp_path):
    rows = [{"prompt": message(i)[0]} for i in range(30)]
    rows[5] = {"prompt": 5}
    rows[7] = rows[6]
    rows[9] = {"prompt": rows[6]["prompt"], "completion": "leak"}
    work = Workspace(tmp_path / "job")
    found = collect(recipe(write_rows(tmp_path / "p.jsonl", rows), minimum=10), work)
    told = fates(work)
    assert [int(row["line"]) for row in told] == list(range(1, 31))
    assert len(found) == 27 == sum(row["status"] == "accepted" for row in told)
    folded = next(example for example in found if example.line == 7)
    assert (folded.copies, folded.label) == (3, "leak")
    refused = [json.loads(line) for line in (work.folder / "1-intake" / "refused.jsonl").read_text().splitlines()]
    assert [(row["line"], row["field"]) for row in refused] == [(6, "prompt")]


def test_several_files_are_one_source(tmp_path):
    first, second = pairs(tmp_path / "a.jsonl", 60), pairs(tmp_path / "b.jsonl", 50, labelled=False, start=55)
    several = recipe(first).model_copy(
        update={"source": recipe(first).source.model_copy(update={"prompts": (first, second)})}
    )
    check(several)
    work = Workspace(tmp_path / "job")
    found = collect(several, work)
    assert len(found) == 105
    assert [row["status"] for row in fates(work) if row["file"] == "b.jsonl"] == ["folded"] * 5 + ["accepted"] * 45


def test_what_is_given_to_be_watched_is_not_examined_on(tmp_path):
    texts = sorted((f"number {i}" for i in range(12)), key=lambda text: Prompt((Message("user", text),)).normalized_id)
    watched = write_rows(tmp_path / "v.jsonl", [{"prompt": texts[0]}])
    rows = write_rows(tmp_path / "p.jsonl", [{"prompt": text} for text in texts[1:]])
    source = {"validation": [str(watched)], "held_out_share": 0.0, "minimum": 1}
    found = {
        one.prompt.messages[0].text: one.split for one in collect(recipe(rows, **source), Workspace(tmp_path / "job"))
    }
    assert (found[texts[0]], found[texts[1]], found[texts[2]]) == ("validation", "held-out", "train")


def test_rows_go_by_the_name_their_file_has_now(tmp_path):
    rows, work = pairs(tmp_path / "p.jsonl", 30), Workspace(tmp_path / "job")
    watched = write_rows(tmp_path / "before.jsonl", [{"prompt": "watched"}])
    assert collect(recipe(rows, validation=[str(watched)]), work)[0].file == "before.jsonl"
    watched = watched.rename(tmp_path / "after.jsonl")
    assert collect(recipe(rows, validation=[str(watched)]), work)[0].file == "after.jsonl"


def test_a_prompt_that_thousands_sent_keeps_who_did_each_once(tmp_path):
    def sent(at):
        return {"messages": [{"role": "user", "content": "ping"}], "metadata": {"request": str(at % 9000)}}

    rows = [sent(at) for at in range(10_000)] + [{"prompt": "another"}]
    ping, _ = collect(recipe(write_rows(tmp_path / "p.jsonl", rows), minimum=1), Workspace(tmp_path / "job"))
    assert ping.copies == 10_000
    assert [dict(one) for one in (ping.metadata, *ping.others)] == [{"request": str(at)} for at in range(9000)]


def test_a_contradicting_label_is_told_and_the_first_kept(tmp_path):
    rows = [{"prompt": "a?", "completion": "yes"}, {"prompt": "a?", "completion": "no"}]
    work = Workspace(tmp_path / "job")
    found = collect(recipe(write_rows(tmp_path / "p.jsonl", rows), minimum=1), work)
    assert [example.label for example in found] == ["yes"]
    assert 'with another answer ("no"); that of line 1 is kept' in fates(work)[1]["reason"]


def test_no_held_out_prompt_is_trained_on_in_any_spelling(tmp_path):
    train = [{"prompt": "Where is it?"}, {"prompt": "WHERE is it"}, {"prompt": "Something else"}]
    held = [{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "where is it ?"}]}]
    path = write_rows(tmp_path / "p.jsonl", train)
    work = Workspace(tmp_path / "job")
    found = collect(recipe(path, held_out=str(write_rows(tmp_path / "h.jsonl", held)), minimum=1), work)
    trained = [example.prompt.messages[-1].text for example in found if example.split != "held-out"]
    assert trained == ["Something else"]
    assert [row["status"] for row in fates(work) if row["file"] == "p.jsonl"] == ["guarded", "guarded", "accepted"]


def test_without_a_held_out_file_the_normalized_content_decides(tmp_path):
    rows = [{"prompt": text} for i in range(100) for text in (f"Prompt {i}?", f"prompt {i}")]
    found = collect(recipe(write_rows(tmp_path / "p.jsonl", rows), held_out_share=0.3), Workspace(tmp_path / "job"))
    sides = {}
    for example in found:
        sides.setdefault(example.prompt.normalized_id, set()).add(example.split)
    assert len(sides) == 100
    assert all(len(side) == 1 for side in sides.values())


def test_adding_rows_moves_none_of_those_there(tmp_path):
    def splits(count, name):
        found = collect(recipe(pairs(tmp_path / f"{name}.jsonl", count, labelled=False)), Workspace(tmp_path / name))
        return {example.id: example.split for example in found}

    small, large = splits(100, "small"), splits(300, "large")
    assert small.items() <= large.items()


def test_the_system_prompt_of_the_recipe_is_for_rows_that_have_none(tmp_path):
    rows = [{"prompt": "a"}, {"messages": [{"role": "system", "content": "own"}, {"role": "user", "content": "b"}]}]
    found = collect(
        recipe(write_rows(tmp_path / "p.jsonl", rows), minimum=1, system="ours"), Workspace(tmp_path / "job")
    )
    assert [example.prompt.system for example in found] == ["ours", "own"]


@pytest.mark.row(18, 31)
def test_the_minimum_is_the_kinds_own_and_an_explicit_flag_lowers_it(tmp_path):
    path = pairs(tmp_path / "p.jsonl", 99)
    with pytest.raises(InvalidDataset, match=r"p\.jsonl: 99 valid prompts of 99 rows; expected at least 100"):
        check(recipe(path))
    check(recipe(path, minimum=99))
    check(recipe(path, kind="fine-tuning"))
    with pytest.raises(InvalidDataset, match="7 valid labelled pairs"):
        check(recipe(pairs(tmp_path / "q.jsonl", 7), kind="fine-tuning"))


@pytest.mark.row(28, 38)
def test_a_source_too_small_tells_every_fault_of_it(tmp_path):
    path = write_rows(tmp_path / "p.jsonl", [{"prompt": 1}, {"prompt": "a"}, {"text": "b"}])
    with pytest.raises(InvalidDataset) as refused:
        check(recipe(path))
    lines = str(refused.value).splitlines()
    assert lines[0].startswith("p.jsonl line 1: prompt: found 1")
    assert lines[1].startswith("p.jsonl line 3: line: found text")
    assert "1 valid prompts of 3 rows" in lines[2]


@pytest.mark.row(19)
def test_more_than_15000_prompts_are_refused(tmp_path):
    with pytest.raises(InvalidDataset, match="15,001 valid prompts; expected at most 15,000"):
        check(recipe(pairs(tmp_path / "p.jsonl", 15_001, labelled=False)))


def test_golden_examples_are_pairs(tmp_path):
    golden = pairs(tmp_path / "g.jsonl", 3)
    assert golden_pairs(recipe(golden, golden=str(golden)).source) == [message(i) for i in range(3)]
    bare = pairs(tmp_path / "b.jsonl", 3, labelled=False)
    with pytest.raises(InvalidDataset, match="3 rows without an answer; golden examples are pairs"):
        check(recipe(pairs(tmp_path / "p.jsonl", 100), golden=str(bare)))


def test_fine_tuning_rows_without_an_answer_are_refused_not_lost(tmp_path):
    rows = [{"prompt": message(i)[0], **({} if i == 3 else {"completion": "leak"})} for i in range(12)]
    work = Workspace(tmp_path / "job")
    found = collect(recipe(write_rows(tmp_path / "p.jsonl", rows), kind="fine-tuning"), work)
    assert len(found) == 11
    assert fates(work)[3]["status"] == "refused"


def test_a_survey_counts_and_writes_nothing(tmp_path):
    rows = [{"prompt": "a", "completion": "x"}, {"prompt": "a"}, {"prompt": ""}]
    census = survey(write_rows(tmp_path / "p.jsonl", rows))
    assert (census.rows, census.valid, census.labelled, census.prompts, len(census.faults)) == (3, 2, 1, 1, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["p.jsonl"]


def test_a_file_too_large_is_refused_unread(tmp_path):
    path = tmp_path / "p.jsonl"
    with path.open("wb") as file:
        file.truncate(1_000_000_001)
    with pytest.raises(InvalidInput, match="1,000,000,001 bytes; expected at most 1,000,000,000"):
        check(recipe(path))


def test_files_of_one_name_are_told_apart_wherever_they_are_named(tmp_path):
    rows = {
        "a": [{"prompt": "Why?"}, {"prompt": 5}],
        "b": [{"prompt": "Why?"}, {"text": "x"}],
        "c": [{"prompt": "Held"}],
    }
    for name, some in rows.items():
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name / "p.jsonl", some)
    a, b, c = (str(tmp_path / name / "p.jsonl") for name in rows)
    asked = recipe(a, prompts=[a, b], held_out=c, minimum=1)
    assert [(one.file, [fault.file for fault in one.faults]) for one in check(asked)] == [
        ("a/p.jsonl", ["a/p.jsonl"]),
        ("b/p.jsonl", ["b/p.jsonl"]),
        ("c/p.jsonl", []),
    ]
    work = Workspace(tmp_path / "job")
    assert [example.file for example in collect(asked, work)] == ["c/p.jsonl", "a/p.jsonl"]
    told = {(row["file"], row["line"]): (row["status"], row["reason"]) for row in fates(work)}
    assert told["b/p.jsonl", "1"] == ("folded", "the same prompt as a/p.jsonl line 1")
    assert [told[f"{name}/p.jsonl", "2"][0] for name in "ab"] == ["refused", "refused"]
    refused = [json.loads(line) for line in (work.folder / "1-intake" / "refused.jsonl").read_text().splitlines()]
    assert [row["file"] for row in refused] == ["a/p.jsonl", "b/p.jsonl"]


def test_all_files_that_cannot_be_read_are_told_at_once(tmp_path):
    names = {"held_out": "h.jsonl", "golden": "g.jsonl", "validation": ["v.jsonl"]}
    several = recipe(tmp_path / "p.jsonl", prompts=["p.jsonl", "q.jsonl"], **names)
    with pytest.raises(InvalidInput) as refused:
        check(several)
    told = str(refused.value).splitlines()
    assert [line.split(":")[0] for line in told] == ["p.jsonl", "q.jsonl", "v.jsonl", "h.jsonl", "g.jsonl"]
    assert all("No such file or directory; expected a file of rows" in line for line in told)

    tables = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path in tables:
        path.write_text("question\nWhy?\n")
    with pytest.raises(InvalidInput, match=r"(?s)a\.csv: no column prompt.*b\.csv: no column prompt"):
        check(recipe(tmp_path, prompts=[str(path) for path in tables]))
