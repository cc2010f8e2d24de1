"""Three shapes of a row, and everything that can be wrong with one."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from limbeck.errors import InvalidInput
from limbeck.intake.rows import MAXIMUM_LINE_BYTES, SCHEMA_VERSION, Row, parse_row, read_rows
from limbeck.records import Fault, Message, Prompt


def bedrock(*turns, system=None, **more):
    roles = ("user", "assistant")
    row = {"schemaVersion": SCHEMA_VERSION}
    if system:
        row["system"] = [{"text": system}]
    row["messages"] = [{"role": roles[i % 2], "content": [{"text": text}]} for i, text in enumerate(turns)]
    return row | more


def parse(row) -> Row | list[Fault]:
    line = row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode()
    return parse_row(line, "rows.jsonl", 41)


@pytest.mark.parametrize(
    "row",
    [
        bedrock("Why?", "Because.", system="Be short."),
        {"messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "Because."},
        ]},
    ],
)  # fmt: skip
def test_a_conversation_is_the_same_row_in_either_shape(row):
    expected = Prompt((Message("system", "Be short."), Message("user", "Why?")))
    assert parse(row) == Row(expected, "Because.", 41)


@pytest.mark.row(33)
def test_a_pair_is_a_conversation_of_one_turn():
    assert parse({"prompt": "Why?", "completion": "Because."}) == Row(
        Prompt((Message("user", "Why?"),)), "Because.", 41
    )
    assert parse({"prompt": "Why?"}) == Row(Prompt((Message("user", "Why?"),)), None, 41)


def test_a_conversation_that_ends_with_the_user_is_a_prompt_however_long():
    row = parse(bedrock("Why?", "Because.", "And then?"))
    assert row.label is None
    assert [m.role for m in row.prompt.messages] == ["user", "assistant", "user"]


FAULTS: list[tuple[object, str, str, str]] = [
    (b'{"prompt": "a"', "line", "column", "one JSON object a line"),
    (b'["a"]', "line", "a list", "a JSON object"),
    (b'{"prompt": "\xff"}', "line", "byte 0xff", "UTF-8"),
    (b'{"prompt": "a", "prompt": "b"}', "prompt", "the same key twice", "each key once"),
    ({"text": "a"}, "line", "text", '"messages", or "prompt" and "completion"'),
    ({"prompt": ""}, "prompt", "empty text", "text"),
    ({"prompt": 7}, "prompt", "7", "text"),
    ({"completion": "a"}, "prompt", "nothing", "text"),
    ({"prompt": "a", "completion": "b", "weight": 1}, "weight", "an unknown key", "only prompt, completion"),
    ({"prompt": "a\x00b"}, "prompt", "a NUL character", "text"),
    (b'{"prompt": "\\ud800"}', "prompt", "half of a surrogate pair", "text that is valid Unicode"),
    ({"messages": []}, "messages", "an empty list", "a list of turns"),
    ({"messages": "a"}, "messages", '"a"', "a list of turns"),
    ({"messages": ["a"]}, "messages[0]", '"a"', '{"role": …, "content": …}'),
    ({"messages": [{"role": "asistant", "content": "a"}]}, "messages[0].role", '"asistant"', "system, user or assistant"),
    ({"messages": [{"role": "assistant", "content": "a"}]}, "turn 1", "assistant", "user (the user begins"),
    ({"messages": [{"role": "system", "content": "a"}]}, "messages", "no turn of the user", "at least one"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}, "turn 2", "user", "assistant"),
    (bedrock("a", schemaVersion="bedrock-conversion-2024"), "schemaVersion", '"bedrock-conversion-2024"', SCHEMA_VERSION),
    ({"messages": [{"role": "user", "content": [{"text": "a"}]}]}, "schemaVersion", "nothing", SCHEMA_VERSION),
    (bedrock("a", system="s") | {"system": [{"text": "a"}, {"text": "b"}]}, "system", "2 items", "at most one"),
    (bedrock("a") | {"messages": [{"role": "user", "content": []}]}, "messages[0].content", "0 items", "exactly one"),
    (bedrock("a") | {"messages": [{"role": "user", "content": [{"image": {}}]}]}, "messages[0].content[0]", "image", "text"),
    (bedrock("a", toolConfig={}), "toolConfig", "an unknown key", "only schemaVersion, system, messages"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "field", "found", "expected"), FAULTS)
@pytest.mark.row(38)
def test_a_faulty_row_says_where_what_was_found_and_what_was_expected(row, field, found, expected):
    faults = parse(row)
    assert isinstance(faults, list)
    assert [fault.field for fault in faults] == [field]
    assert found in faults[0].found
    assert expected in faults[0].expected
    assert str(faults[0]).startswith(f"rows.jsonl line 41: {field}: found ")


@pytest.mark.row(38)
def test_all_faults_of_a_row_are_told_at_once():
    row = bedrock("a", extra=1) | {"schemaVersion": "1", "messages": [{"role": "robot", "content": [{"text": ""}]}]}
    assert [fault.field for fault in parse(row)] == [
        "extra",
        "schemaVersion",
        "messages[0].role",
        "messages[0].content[0].text",
    ]


HOSTILE = [
    (b'{"prompt": ' + b"1" * 5_000 + b"}", "line: found a number of thousands of digits; expected one JSON object a line"),
    (b'{"conversations": [{"from": [], "value": "x"}]}', "conversations[0].from: found a list; expected human, gpt"),
    (b'{"\\ud800": 1}', r"line: found \ud800; expected "),
    (b'{"prompt": "a", "a\\nb\\u001b": 1}', r"a\nb\x1b: found an unknown key; expected only prompt"),
    (b'{"prompt": "a", "' + b"k" * 9_000 + b'": 1}', f"{'k' * 80}…: found an unknown key; expected only prompt"),
    (b'{"messages": [{"role": "\\ud800", "content": "a"}]}', r'messages[0].role: found "\ud800"; expected system'),
    (b'{"messages": [{"role": "user", "content": "a"}], "metadata": {"a": "\\ud800"}}', "metadata: found half of a surrogate"),
    (b'{"messages": [{"role": "user", "content": "a"}], "metadata": {"\\u0000": "a"}}', "metadata: found a NUL character"),
]  # fmt: skip
LOGGED = b'{"messages": [{"role": "user", "content": "a"}], "log": {"file": "%b", "line": %b, "copies": %b%b}}'
HOSTILE += [
    (LOGGED % (b"a", b"1", b"-5", b""), "log.copies: found -5; expected a number from 1"),
    (LOGGED % (b"a", b"0", b"1", b""), "log.line: found 0; expected a number from 1"),
    (LOGGED % (b"a", b"1", b"9" * 4_000, b""), f"log.copies: found {'9' * 40}…; expected a number from 1"),
    (LOGGED % (b"\\ud800", b"1", b"1", b""), "log.file: found half of a surrogate pair"),
    (LOGGED % (b"a", b"1", b"1", b', "others": [{"a": "\\ud800"}]'), "log.others[0]: found half of a surrogate pair"),
]


@pytest.mark.parametrize(("line", "told"), HOSTILE)
def test_a_hostile_row_is_one_line_of_fault_that_anything_can_print(line, told):
    (fault,) = parse(line)
    printed = str(fault).encode().decode()
    assert printed.startswith(f"rows.jsonl line 41: {told}")
    assert len(printed.splitlines()) == 1 and len(printed) < 300


def test_a_hostile_row_hides_no_other(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join([*(line for line, _ in HOSTILE), b'{"prompt": 5}', b'{"prompt": "fine"}']))
    *faulty, last = read_rows(path)
    assert [row[0].line for row in faulty] == list(range(1, len(HOSTILE) + 2))
    assert last.prompt.messages[0].text == "fine"


@given(st.binary(max_size=200))
@examples(max_examples=300)
def test_no_bytes_whatever_raise(line):
    found = parse_row(line, "f", 1)
    assert isinstance(found, Row) or (found and all(isinstance(fault, Fault) for fault in found))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["role", "content", "messages", "system", "schemaVersion", "text", "prompt", "completion", "type", "x", "from",
         "value", "weight", "message", "file", "line", "copies", "others", "\ud800"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


ROW_KEYS = ["schemaVersion", "system", "messages", "prompt", "completion", "conversations", "choices", "metadata", "log", "tools"]  # fmt: skip


@given(st.dictionaries(st.sampled_from(ROW_KEYS), json_values), st.booleans())
@examples(max_examples=400)
def test_no_json_whatever_raises(row, stored):
    found = parse(json.dumps(row | {"object": "chat.completion"} if stored else row).encode())
    assert isinstance(found, Row) or (found and all(str(fault).encode() for fault in found))


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1).filter(str.strip),
        min_size=1,
        max_size=6,
    )
)
@examples(max_examples=100)
def test_what_is_written_is_what_is_read(texts):
    row = parse(bedrock(*texts))
    said = [m.text for m in row.prompt.messages] + ([row.label] if row.label is not None else [])
    assert said == texts


def test_a_file_is_read_line_by_line_with_its_faults_in_place(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"prompt": "a"}\r\n\n{"prompt": 1}\n'
        + b'{"prompt": "'
        + b"x" * MAXIMUM_LINE_BYTES
        + b'"}\n{"prompt": "d"}'
    )
    rows = list(read_rows(path))
    assert [row.line if isinstance(row, Row) else (row[0].line, row[0].field) for row in rows] == [
        1,
        (3, "prompt"),
        (4, "line"),
        5,
    ]


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidInput, match=r"nowhere\.jsonl: No such file.*expected a file of JSON lines"):
        list(read_rows(tmp_path / "nowhere.jsonl"))


def test_what_json_says_of_a_fault_is_told_with_its_column():
    (fault,) = parse(b'{"prompt": "a\tb"}')
    assert fault.found == "invalid control character at column 14"


@pytest.mark.parametrize(
    ("begins", "told"),
    [
        (gzip.compress(b'{"prompt": "a"}\n', mtime=0), "packed with gzip"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b'[\n  {"prompt": "a"},\n  {"prompt": "b"}\n]\n', "a JSON array"),
        (b'\xef\xbb\xbf[{"prompt": "a"},\n{"prompt": "b"}]\n', "a JSON array"),
        (b'[{"prompt": "a"}, {"prompt": "b"}]\n', "a JSON array"),
        (b'{\n  "prompt": "a"\n}\n', r"an object over several lines.*\(jq -c \. makes"),
        ('{"prompt": "a"}\n{"prompt": "b"}\n'.encode("utf-16"), "UTF-16"),
        (b'{\x00"\x00', "UTF-16"),
        (b'{"input": "It was night."}\n', "text, which continued pre-training reads"),
    ],
    ids=[
        "gzip",
        "zip",
        "array",
        "array in a line each",
        "array in a line",
        "indented",
        "UTF-16",
        "UTF-16 without mark",
        "rows of text",
    ],
)
def test_a_file_of_another_kind_is_told_so_once(tmp_path, begins, told):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(begins)
    with pytest.raises(InvalidInput, match=rf"rows\.jsonl: {told}"):
        list(read_rows(path))


@pytest.mark.parametrize("ending", [".txt", ".MD", ".text"])
def test_a_file_of_text_is_told_so_once_and_one_of_rows_is_read_whatever_its_name(tmp_path, ending):
    book, rows = tmp_path / f"book{ending}", tmp_path / f"rows{ending}"
    book.write_text("\nIt was night.\nNobody came.\n")
    rows.write_text('\n{"prompt": "a"}\n')
    with pytest.raises(
        InvalidInput, match=rf"book\{ending}: text, which continued .*`limbeck pretrain --text`.*expected"
    ):
        list(read_rows(book))
    (row,) = read_rows(rows)
    assert row.prompt.messages[0].text == "a"
