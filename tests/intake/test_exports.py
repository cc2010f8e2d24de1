"""Rows of other services and tables: each told apart, each fault named."""

import json

import duckdb
import pytest

from limbeck.errors import InvalidInput, InvalidRecipe
from limbeck.intake import collect, survey
from limbeck.intake.rows import Row, parse_row, read_rows
from limbeck.intake.tables import MAXIMUM_CELL
from limbeck.recipe import Recipe
from limbeck.storage.workspace import Workspace

ASKED = {"role": "user", "content": "Why?"}
SAID = {"role": "assistant", "content": "Because."}
BRIEF = {"role": "system", "content": "Be short."}
TOOL = {"type": "function", "function": {"name": "call", "parameters": {}}}
STORED = {
    "object": "chat.completion",
    "id": "chatcmpl-1",
    "created": 1738960610,
    "model": "gpt-4o",
    "request_id": "req_1",
    "choices": [{"index": 0, "message": {**SAID, "tool_calls": None}, "finish_reason": "stop"}],
    "metadata": {"team": "desk"},
    "usage": {"total_tokens": 31},
}

SHAPES = {
    "OpenAI stored completions": {**STORED, "messages": [{"id": "chatcmpl-1-0", "name": None, **BRIEF}, ASKED]},
    "OpenAI stored completions, of a developer": {**STORED, "messages": [{**BRIEF, "role": "developer"}, ASKED]},
    "OpenAI, by a developer": {"messages": [{**BRIEF, "role": "developer"}, ASKED, SAID]},
    "OpenAI, in blocks": {"messages": [
        BRIEF, {"role": "user", "content": [{"type": "text", "text": "Why?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Because."}]},
    ]},
    "OpenAI, as its client dumps it": {"messages": [
        BRIEF, {**ASKED, "name": "ada"},
        {**SAID, "refusal": None, "annotations": [], "audio": None, "function_call": None, "tool_calls": None},
    ]},
    "OpenAI fine-tuning": {"messages": [BRIEF, ASKED, {**SAID, "weight": 1}]},
    "OpenPipe": {"messages": [BRIEF, ASKED, SAID], "tools": None, "tool_choice": None, "split": "TRAIN"},
    "Kiln, for OpenAI": {"messages": [BRIEF, ASKED, SAID]},
    "Kiln, for chat templates": {"conversations": [BRIEF, ASKED, SAID]},
    "ShareGPT": {"conversations": [
        {"from": "system", "value": "Be short."}, {"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."},
    ]},
    "ShareGPT, with its extras": {"id": "x_0", "source": "web", "system": "Be short.", "conversations": [
        {"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."},
    ]},
}  # fmt: skip


def parse(row):
    return parse_row(json.dumps(row).encode(), "rows.jsonl", 7)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_gives_the_same_conversation(shape):
    row = parse(SHAPES[shape])
    assert isinstance(row, Row), row
    assert [(turn.role, turn.text) for turn in row.prompt.messages] == [("system", "Be short."), ("user", "Why?")]
    assert row.label == "Because."
    assert row.metadata == (({"team": "desk"},) if "stored" in shape else ())


def test_several_blocks_of_a_turn_are_lines_of_its_text():
    blocks = [{"type": "text", "text": "Why?"}, {"type": "text", "text": "And how?"}]
    (turn,) = parse({"messages": [{"role": "user", "content": blocks}]}).prompt.messages
    assert turn.text == "Why?\nAnd how?"


def test_an_answer_of_no_weight_is_no_label():
    row = parse({"messages": [ASKED, {**SAID, "weight": 0}]})
    assert (row.label, len(row.prompt.messages)) == (None, 1)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (STORED, "messages: found nothing; expected what was asked, as GET /chat/completions/ID/messages gives it"),
        ({**STORED, "messages": [ASKED], "choices": []}, "choices: found no message"),
        (
            {**STORED, "messages": [ASKED], "choices": [{"message": SAID, "finish_reason": "length"}]},
            'choices[0].finish_reason: found "length"; expected an answer that came to its end',
        ),
        ({**STORED, "messages": [ASKED], "colour": 1}, "colour: found an unknown key"),
        ({"messages": [ASKED, SAID], "tools": [TOOL]}, "tools: found functions; expected none"),
        ({**STORED, "messages": [ASKED], "tools": [TOOL]}, "tools: found functions"),
        (
            {"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": [{}]}]},
            "messages[1].tool_calls: found calls of functions; expected text alone",
        ),
        ({"messages": [ASKED, {**SAID, "weight": 2}]}, "messages[1].weight: found 2; expected 0 or 1"),
        ({"messages": [{**ASKED, "weight": 1}, SAID]}, "messages[0].weight"),
        ({"messages": [ASKED, {**SAID, "weight": 0}, ASKED, SAID]}, "say training.answers: last"),
        ({"conversations": 5}, "conversations: found no list"),
        ({"conversations": [{"from": "bing", "value": "x"}]}, 'conversations[0].from: found "bing"'),
        ({"conversations": [{"from": "human", "value": "x", "lang": "en"}]}, "messages[0].lang: found an unknown key"),
        ({"conversations": [ASKED, SAID], "colour": 4}, "colour: found an unknown key"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url"}]}, SAID]},
            'messages[0].content[1]: found a block of type "image_url"; expected {"type": "text"',
        ),
        (
            {"messages": [ASKED, {"role": "assistant", "content": None, "refusal": "I cannot."}]},
            "messages[1].refusal: found a refusal; expected text alone",
        ),
        (
            {**STORED, "messages": [ASKED], "choices": [{"message": {**SAID, "tool_calls": [{}]}}]},
            "choices[0].message.tool_calls: found calls of functions",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(row, said):
    told = "; ".join(map(str, parse(row)))
    assert told.startswith("rows.jsonl line 7: ") and said in told


def told(rows):
    return [str(row[0]) if isinstance(row, list) else row.prompt.messages[0].text for row in rows]


def table(path, header, rows):
    quoted = [",".join('"{}"'.format(cell.replace('"', '""')) for cell in row) for row in rows]
    path.write_text("\n".join([",".join(header), *quoted]) + "\n", encoding="utf-8-sig")
    return path


def test_a_table_is_read_by_the_names_of_its_columns(tmp_path):
    rows = [["Why?", 'Say "x",\nthen y.', "Be short."], ["Why not?", "", ""]]
    csv = table(tmp_path / "t.csv", ["prompt", "completion", "system"], rows)
    first, second = read_rows(csv)
    assert [(turn.role, turn.text) for turn in first.prompt.messages] == [("system", "Be short."), ("user", "Why?")]
    assert (first.label, first.line) == ('Say "x",\nthen y.', 3)
    assert (second.label, second.prompt.system, second.line) == (None, None, 4)

    parquet = tmp_path / "t.parquet"
    duckdb.execute(f"copy (from read_csv('{csv}', header = true, all_varchar = true)) to '{parquet}'")
    assert [(row.prompt, row.label) for row in read_rows(parquet)] == [
        (row.prompt, row.label) for row in (first, second)
    ]


def test_columns_are_named_in_the_recipe(tmp_path):
    csv = table(tmp_path / "t.csv", ["id", "Question?", "gold"], [[str(at), f"ask {at}", "yes"] for at in range(5)])
    with pytest.raises(InvalidInput, match=r"t\.csv: no column prompt among id, Question\?, gold; say which is which"):
        survey(csv)
    csv.write_text(csv.read_text().replace(",", ";"))
    with pytest.raises(InvalidInput, match=r"t\.csv: no column prompt among id, Question\?, gold; say which is which"):
        survey(csv)
    source = {"prompts": str(csv), "columns": {"prompt": "Question?", "completion": "gold"}, "held_out_share": 0}
    asked = {"kind": "distillation", "name": "job", "source": source, "teacher": {"model": "t"}}
    found = collect(Recipe.build(asked), Workspace(tmp_path / "job"))
    assert [(one.prompt.messages[0].text, one.label, one.line) for one in found] == [
        (f"ask {at}", "yes", at + 2) for at in range(5)
    ]
    with pytest.raises(InvalidRecipe, match=r"source\.columns\.answer: unknown key"):
        Recipe.build({**asked, "source": {**source, "columns": {"prompt": "a", "answer": "b"}}})


def test_a_row_of_another_width_is_a_fault_and_no_more(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("prompt,completion\na,b\nc\nd,e,f\n\n  ,x\ng,\n")
    rows = list(read_rows(path))
    assert told(rows) == [
        "a",
        "t.csv line 3: row: found 1 fields; expected 2, as in the header",
        "t.csv line 4: row: found 3 fields; expected 2, as in the header",
        "t.csv line 6: prompt: found empty text; expected text",
        "g",
    ]


def test_a_stray_quote_or_byte_in_a_table_is_told_with_its_line_and_hides_no_other_row(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b'prompt,completion\na,b\n"x"y,c\n\xff,d\ne,"f\ng"\n"open,h\ni,j\n')
    assert told(read_rows(path)) == [
        "a",
        "t.csv line 3: row: found text after the quote that ends a cell; expected the next cell; a quote inside a cell is doubled"
        ' ("")',
        "t.csv line 4: row: found byte 0xff; expected UTF-8",
        "e",
        "t.csv line 7: row: found a quote that nothing closes up to the file's end, line 8; expected a quote at the end of"
        ' the cell; a quote inside is doubled ("")',
    ]


def test_a_cell_may_be_as_long_as_a_line_of_jsonl(tmp_path):
    path, parquet = tmp_path / "t.csv", tmp_path / "t.parquet"
    path.write_text("prompt\n" + "x" * MAXIMUM_CELL + "\n" + "y" * (MAXIMUM_CELL + 1) + "\nz\n")
    first, second, third = told(read_rows(path))
    assert (len(first), third) == (MAXIMUM_CELL, "z")
    assert second.startswith("t.csv line 3: row: found a longer cell") and "at most 10,000,000 characters" in second
    duckdb.execute(f"copy (select repeat('x', {MAXIMUM_CELL + 1}) as prompt) to '{parquet}'")
    assert told(read_rows(parquet)) == [
        "t.parquet line 1: prompt: found a longer cell; expected at most 10,000,000 characters"
    ]


@pytest.mark.parametrize("name", ["T.CSV", "T.Parquet", "T.JSONL"])
def test_a_suffix_may_be_in_capitals(tmp_path, name):
    path = tmp_path / name
    match name.partition(".")[2]:
        case "CSV":
            path.write_text("prompt\nWhy?\n")
        case "Parquet":
            duckdb.execute(f"copy (select 'Why?' as prompt) to '{path}' (format parquet)")
        case _:
            path.write_text('{"prompt": "Why?"}\n')
    assert told(read_rows(path)) == ["Why?"]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"prompt,note,prompt", r"t\.csv: 2 columns prompt in the header; expected one"),
        (b'"pro"mpt', r"t\.csv: the header: found text after the quote"),
        (b"\xff\xfep\x00", r"t\.csv: the header: found byte 0xff; expected UTF-8"),
        (b"", r"t\.csv: no column prompt among none"),
    ],
)
def test_a_header_that_names_no_column_for_sure_is_told(tmp_path, header, said):
    (tmp_path / "t.csv").write_bytes(header + b"\na,b,c\n" if header else b"")
    with pytest.raises(InvalidInput, match=said):
        list(read_rows(tmp_path / "t.csv"))
    (tmp_path / "u.csv").write_text("note,prompt,note,completion\na,b,c,d\n")
    assert told(read_rows(tmp_path / "u.csv")) == ["b"]


@pytest.mark.parametrize("parted", ["a, B ", "a;B", "a\tB", "sep=,\na,B", "sep=;\na;B", '"a";"B"'])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_the_header_of_a_table_says_what_parts_its_cells(tmp_path, parted, suffix):
    path, header = (tmp_path / "t").with_suffix(suffix), parted.replace("a", "prompt").replace("B", "Completion")
    path.write_text(f"{header}\n{parted.splitlines()[-1]}\n", encoding="utf-8-sig")
    (row,) = read_rows(path)
    assert (row.prompt.messages[0].text, row.label.strip(), row.line) == ("a", "B", 2 + parted.startswith("sep"))


def test_a_column_that_may_hold_the_answers_is_not_passed_over(tmp_path):
    (tmp_path / "t.csv").write_text("id,prompt,answer\n1,a,b\n")
    with pytest.raises(
        InvalidInput, match=r"t\.csv: no column completion, and nothing is read of id, answer; say with"
    ):
        list(read_rows(tmp_path / "t.csv"))
    assert [row.label for row in read_rows(tmp_path / "t.csv", columns={"prompt": "prompt"})] == [None]
    (tmp_path / "u.csv").write_text("id,prompt,completion\n1,a,b\n")
    assert [row.label for row in read_rows(tmp_path / "u.csv")] == ["b"]


@pytest.mark.parametrize(("name", "raw"), [("t.parquet", b"PAR1 no"), ("t.csv", b"question\nx\n")])
def test_what_is_no_table_is_told(tmp_path, name, raw):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(InvalidInput, match=name):
        list(read_rows(tmp_path / name))
    with pytest.raises(InvalidInput, match=r"no\.(csv|parquet)"):
        list(read_rows(tmp_path / f"no{name[1:]}"))
