"""Which rules a recipe asks for, in the order in which they are tried; the first that complains is the verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.curation import format, text
from limbeck.curation.text import Rule
from limbeck.errors import InvalidInput
from limbeck.recipe import Curation
from limbeck.records import Example

__all__ = ["answer_rules", "read_schema"]


def answer_rules(plan: Curation, examples: Sequence[Example]) -> dict[str, Rule]:
    """The rules that look at one answer, by name. Raises `InvalidInput` for a schema, pattern or labels amiss."""
    rules: dict[str, Rule] = {"empty": text.empty, "truncated": text.truncated}
    if plan.refusals:
        rules["refusal"] = text.refusal
    if plan.min_characters or plan.max_characters is not None:
        rules["length"] = text.length(plan.min_characters, plan.max_characters)
    if plan.json_schema is not None:
        rules["schema"] = format.schema_check(read_schema(plan.json_schema))
    if plan.labels is not None:
        rules["label"] = format.label_set(_labels(plan.labels, examples))
    if plan.pattern is not None:
        rules["pattern"] = format.matching(plan.pattern)
    if plan.repetition is not None:
        rules["repetition"] = text.repetition(plan.repetition)
    if plan.languages:
        rules["language"] = text.other_language(plan.languages)
    return rules


def _labels(wanted: str | Sequence[str], examples: Sequence[Example]) -> Sequence[str]:
    if wanted != "given":
        return wanted
    found = sorted({example.label.strip() for example in examples if example.label is not None})
    if not found:
        raise InvalidInput(
            "curation.labels: given; no row has a label to take them from; list them: curation.labels: [a, b]"
        )
    return found


def read_schema(wanted: Path | Mapping[str, Any]) -> Mapping[str, Any]:
    """The JSON schema in a file, or as it is given. Raises `InvalidInput` for a file that has none."""
    if not isinstance(wanted, Path):
        return wanted
    try:
        schema = json.loads(wanted.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"curation.json_schema: {wanted}: {error}; expected a file with a JSON schema") from None
    if not isinstance(schema, dict):
        raise InvalidInput(f"curation.json_schema: {wanted}: expected a JSON object")
    return schema
