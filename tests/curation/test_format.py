"""Rules on an answer's form. What is wrong with a schema or a pattern is told before anything is judged."""

import pytest
from tests.curation.made import answered

from limbeck.curation import format
from limbeck.errors import InvalidInput

SCHEMA = {
    "type": "object",
    "properties": {"intent": {"enum": ["leak", "noise"]}, "urgent": {"type": "boolean"}},
    "required": ["intent"],
    "additionalProperties": False,
}


def test_an_answer_must_be_json_of_the_schema():
    rule = format.schema_check(SCHEMA)
    assert rule(answered("a", ' {"intent": "leak", "urgent": true}\n')) is None
    assert rule(answered("a", '{"intent": "fire"}')).startswith("intent: ")
    assert "required" in rule(answered("a", "{}"))
    assert rule(answered("a", "```json\n{}\n```")).startswith("no JSON: it stands in a code fence")
    assert rule(answered("a", "[" * 100_000)).startswith("no JSON")


def test_a_schema_that_is_none_or_points_elsewhere_is_refused_and_nothing_is_fetched():
    for schema in ({"type": "objekt"}, {"$ref": "http://127.0.0.1:9/other.json"}, {"$ref": "file:///etc/passwd"}):
        with pytest.raises(InvalidInput, match=r"curation\.json_schema"):
            format.schema_check(schema)


def test_a_schemas_pattern_cannot_run_away():
    rule = format.schema_check({"type": "string", "pattern": "^(a+)+$"})
    assert rule(answered("a", '"' + "a" * 5000 + '!"')) is not None


def test_a_label_is_one_of_the_set_letter_by_letter():
    rule = format.label_set(["leak", "noise"])
    assert rule(answered("a", " leak\n")) is None
    assert rule(answered("a", "Leak")) == 'none of the 2 labels: "Leak"'


def test_a_pattern_must_match_the_whole_and_one_that_runs_away_is_stopped():
    assert format.matching(r"[a-z]+")(answered("a", "leak")) is None
    assert format.matching(r"[a-z]+")(answered("a", "leak 2")) is not None
    said = format.matching(r"(\w+\s?)+(?<!x)z")(answered("a", "word " * 40 + "!"))
    assert said.startswith(("the pattern took longer", "does not match the pattern"))
    with pytest.raises(InvalidInput, match=r"curation\.pattern"):
        format.matching("(")
