"""The report on a job's input: every row, why, and whether there are enough of them."""

import csv
import json

import pytest
from tests.factory import message, write_rows

from limbeck.intake import collect, collect_documents
from limbeck.recipe import Curation, Recipe
from limbeck.storage.workspace import Workspace
from limbeck.worker.insights import insights


@pytest.fixture
def recipe(tmp_path):
    rows = [{"prompt": message(0)[0]}, {"prompt": message(0)[0]}, {"prompt": 7}, {"prompt": message(1)[0]}]
    return Recipe.build(
        {
            "kind": "distillation",
            "name": "job",
            "source": {"prompts": str(write_rows(tmp_path / "prompts.jsonl", rows)), "held_out_share": 0.0},
            "teacher": {"model": "t"},
        }
    )


REFUSED = ["prompts.jsonl", "3", "rejected", "refused: prompt: found 7, expected text"]


@pytest.mark.row(28)
def test_a_job_refused_for_its_number_alone_tells_its_rows_and_the_number(tmp_path, recipe):
    rows = list(csv.reader(insights(tmp_path, recipe).splitlines()))
    assert rows[0] == ["file", "line", "status", "reason"] and rows[3] == REFUSED
    assert [row[2] for row in rows[1:-2]] == ["accepted", "accepted", "rejected", "accepted"]
    assert rows[-2:] == [
        ["check", "3", "failed", "3 prompts accepted; expected 100 to 15000"],
        ["total", "4", "accepted", "3"],
    ]


def test_a_row_whose_answer_is_dropped_says_why(tmp_path, recipe):
    recipe = recipe.model_copy(update={"source": recipe.source.model_copy(update={"minimum": 2})})
    work = Workspace(tmp_path / "job")
    collect(recipe, work)
    verdict = {"file": "prompts.jsonl", "line": 4, "verdict": "empty", "detail": ""}
    write_rows_into = work.folder / "3-curation" / "dropped.jsonl"
    write_rows_into.parent.mkdir()
    write_rows_into.write_text(json.dumps(verdict) + "\n")
    rows = list(csv.reader(insights(work.folder, recipe).splitlines()))
    assert rows[2][3].startswith("folded: the same prompt as line 1") and rows[3] == REFUSED
    assert rows[4] == ["prompts.jsonl", "4", "accepted", "its answer is not learned: empty"]
    assert rows[-2][2] == "passed"


def test_a_reason_quotes_nothing_private_where_privacy_is_asked_for(tmp_path, recipe):
    path = recipe.source.prompt_files[0]
    rows = [{"prompt": "a", "completion": f"write to {name}@example.org"} for name in ("ada", "bob")]
    write_rows(path, rows)
    collect(recipe, Workspace(tmp_path / "job"))
    private = recipe.model_copy(update={"curation": Curation(privacy="mask")})
    assert "bob@example.org" in insights(tmp_path / "job", recipe)
    told = insights(tmp_path / "job", private)
    assert "[EMAIL-1]" in told and "example.org" not in told


def test_where_privacy_is_asked_for_half_an_address_is_not_told_either(tmp_path, recipe):
    role = "one who is to be reached by ada.lovelace@example.org"
    write_rows(recipe.source.prompt_files[0], [{"messages": [{"role": role, "content": "a"}]}])
    assert "ada.lovel" in insights(tmp_path, recipe)
    told = insights(tmp_path, recipe.model_copy(update={"curation": Curation(privacy="mask")}))
    assert "lovel" not in told and 'role: found ""…""' in told


def test_documents_are_counted_by_their_own_bounds(tmp_path):
    rows = write_rows(tmp_path / "text.jsonl", [{"input": "one text"}, {"input": "another"}, {"prompt": "a"}])
    values = {"kind": "continued-pre-training", "name": "read", "student": {"model": "m"}}
    recipe = Recipe.build({**values, "source": {"prompts": str(rows)}})
    collect_documents(recipe, Workspace(tmp_path / "job"))
    told = list(csv.reader(insights(tmp_path / "job", recipe).splitlines()))
    assert told[3][:3] == ["text.jsonl", "3", "rejected"]
    assert told[-2] == ["check", "2", "passed", "2 documents accepted; expected 1 to 100000"]
