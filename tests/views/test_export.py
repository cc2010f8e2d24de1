"""Exports hold the same rows in every format, and intake reads the training formats back."""

import duckdb
import pytest

from limbeck.intake.rows import Row, read_rows
from limbeck.storage.workspace import writing
from limbeck.views.export import lines, write, write_parquet
from limbeck.views.rows import job_folder, rows
from limbeck.views.where import parse


@pytest.fixture
def kept(home):
    wanted = parse(["verdict=kept"])
    return [row for row in rows(job_folder("first", home)) if wanted(row)]


@pytest.mark.parametrize("form", ["openai", "bedrock"])
def test_a_training_format_is_read_back_as_it_was(kept, tmp_path, form):
    with writing(tmp_path / "x.jsonl") as file:
        assert write(kept, form, file) == len(kept)
    back = list(read_rows(tmp_path / "x.jsonl"))
    assert all(isinstance(row, Row) for row in back)
    assert [(row.prompt.id, row.label) for row in back] == [(row["id"], row["response"]) for row in kept]


def test_a_row_without_an_answer_is_in_no_training_format(home):
    held_out = [row for row in rows(job_folder("first", home)) if row["verdict"] == "held-out"]
    assert held_out and not list(lines(held_out, "openai")) and len(list(lines(held_out, "jsonl"))) == len(held_out)


def test_bedrock_has_the_system_prompt_apart():
    messages = [{"role": "system", "text": "s"}, {"role": "user", "text": "u"}]
    (line,) = lines([{"messages": messages, "response": "a"}], "bedrock")
    assert line["system"] == [{"text": "s"}]
    assert line["messages"][-1] == {"role": "assistant", "content": [{"text": "a"}]}


def test_parquet_has_the_same_rows_in_typed_columns(home, tmp_path):
    found = list(rows(job_folder("first", home)))
    path = tmp_path / "it's.parquet"
    assert write_parquet(iter(found), path) == len(found)
    assert [file.name for file in tmp_path.glob("*parquet*")] == [path.name]
    with duckdb.connect() as database:
        table = database.read_parquet(str(path))
        back = table.select("id, line, copies, settings['max_tokens'], messages[1].text").fetchall()
    assert back == [
        (row["id"], row["line"], row["copies"], (row["settings"] or {}).get("max_tokens"), row["messages"][0]["text"])
        for row in found
    ]
