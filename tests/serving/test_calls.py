"""Tool calls read out of what a model writes, however it is cut."""

import json
import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from limbeck.serving.calls import (
    MARK,
    Call,
    CallBegins,
    CallInput,
    CallReader,
    Text,
    Tool,
    call_schema,
    describe,
    written,
)

NAMES = ("weather", "leak")
GOOD = '<tool_call>\n{"name": "weather", "arguments": {"city": "Hà \\"Nội\\" {", "days": [1, {}]}}\n</tool_call>'
INPUT = {"city": 'Hà "Nội" {', "days": [1, {}]}


def read(pieces, forced=False):
    """What is told, texts joined and inputs joined, and the reader."""
    reader, told = CallReader(NAMES, forced), []
    for event in [*(event for piece in pieces for event in reader.feed(piece)), *reader.end()]:
        if isinstance(event, CallBegins):
            told.append((event.name, ""))
        elif isinstance(event, CallInput):
            told[-1] = (told[-1][0], told[-1][1] + event.json)
        elif told and isinstance(told[-1], str):
            told[-1] += event.text
        else:
            told.append(event.text)
    return told, reader


def cut(text, cuts):
    places = sorted({0, len(text), *(place % (len(text) + 1) for place in cuts)})
    return [text[begin:end] for begin, end in pairwise(places)]


@pytest.mark.parametrize(
    ("text", "told", "calls", "malformed"),
    [
        ("No call at all. <tool", ["No call at all. <tool"], 0, False),
        ("  \n", ["  \n"], 0, False),
        (GOOD, [("weather", INPUT)], 1, False),
        (f"Let me see.\n\n{GOOD}\n{GOOD}", ["Let me see.", ("weather", INPUT), ("weather", INPUT)], 2, False),
        (GOOD.removesuffix("\n</tool_call>"), [("weather", INPUT)], 1, False),
        ('<tool_call>{"arguments": {"a": 1}, "name": "leak"}</tool_call>', [("leak", {"a": 1})], 1, False),
        ('<tool_call>{"arguments": {"a": 1}, "name": "leak"}', [("leak", {"a": 1})], 1, False),
        ('<tool_call>{"name": "leak", "parameters": {}}</tool_call>', [("leak", {})], 1, False),
        ("<tool_call>nonsense</tool_call> so", ["<tool_call>nonsense</tool_call> so"], 0, True),
        ('<tool_call>{"name": "rocket", "arguments": {}}', ['<tool_call>{"name": "rocket", "arguments": {}}'], 0, True),
        ('<tool_call>{"name": "leak", "arguments": {"a": ', [("leak", '{"a": ')], 0, True),
        ('<tool_call>{"name": "leak", "arguments": {"a": 1e999}}</tool_call>', [("leak", {"a": math.inf})], 0, True),
        (
            '<tool_call>{"name": "leak", "arguments": {"a": "\\ud83d"}}</tool_call>',
            [("leak", {"a": "\ud83d"})],
            0,
            True,
        ),
        ('<tool_call>{"name": "leak", "arguments": {\'a\': 1}}</tool_call>', [("leak", "{'a': 1}")], 0, True),
    ],
)
def test_calls_are_told_from_text_however_the_answer_is_cut(text, told, calls, malformed):
    @given(st.lists(st.integers(0, 200), max_size=8))
    @examples(max_examples=30, deadline=None)
    def check(cuts):
        found, reader = read(cut(text, cuts))
        assert [one if isinstance(one, str) else (one[0], _input(one[1])) for one in found] == told
        assert (reader.calls, reader.malformed) == (calls, malformed)

    check()


def _input(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


@given(st.text(st.sampled_from('<tool_cal>/ {"}\nx'), max_size=40), st.lists(st.integers(0, 40), max_size=6))
@examples(max_examples=200, deadline=None)
def test_nothing_a_model_says_is_lost_or_raises(text, cuts):
    found, reader = read(cut(text, cuts))
    if MARK not in text:
        assert found == ([text] if text else []) and not reader.malformed


def test_a_forced_answer_is_one_call_from_its_first_character():
    found, reader = read(['{"name": "le', 'ak", "arguments": {"a"', ": 1}", "} and more"], forced=True)
    assert (found, reader.calls, reader.malformed) == ([("leak", '{"a": 1}')], 1, False)
    found, reader = read(['{"name": '], forced=True)
    assert (found, reader.calls, reader.malformed) == (['{"name": '], 0, True)


def test_input_is_told_while_it_is_written():
    reader = CallReader(NAMES, False)
    told = [list(reader.feed(piece)) for piece in ('<tool_call>{"name": "leak", "arguments": {"a"', ': "b', '"}', "}")]
    assert [type(event) for event in told[0]] == [CallBegins, CallInput]
    assert [[event.json for event in one] for one in told[1:]] == [[': "b'], ['"}'], []]
    assert list(CallReader(NAMES, False).feed("plain")) == [Text("plain")]


def test_a_written_call_is_read_back():
    call = Call("id", "weather", INPUT)
    assert [(name, json.loads(text)) for name, text in read([written(call)])[0]] == [("weather", INPUT)]


def test_the_schema_of_a_call_keeps_every_tools_references():
    tools = [
        Tool(
            "a", "", {"type": "object", "properties": {"x": {"$ref": "#/$defs/X"}}, "$defs": {"X": {"type": "integer"}}}
        ),
        Tool("b", "", {"type": "object", "properties": {"$ref": {"type": "string"}, "self": {"$ref": "#"}}}),
    ]
    found = call_schema(tools)
    assert [one["properties"]["name"] for one in found["anyOf"]] == [{"const": "a"}, {"const": "b"}]
    assert found["anyOf"][0]["properties"]["arguments"] == {"$ref": "#/$defs/a"}
    assert found["$defs"]["a"]["properties"]["x"] == {"$ref": "#/$defs/a/$defs/X"}
    assert found["$defs"]["b"]["properties"] == {"$ref": {"type": "string"}, "self": {"$ref": "#/$defs/b"}}
    assert "anyOf" not in call_schema(tools[:1])


def test_tools_are_told_as_json_a_line_each():
    tools = [Tool("a", "é", {"type": "object"}), Tool("b", "", {})]
    lines = describe(tools).partition("<tools>\n")[2].partition("\n</tools>")[0].splitlines()
    assert [json.loads(line)["function"]["name"] for line in lines] == ["a", "b"]
    assert "é" in lines[0]
