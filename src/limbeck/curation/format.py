"""Rules on the answer's form: a JSON schema, a set of labels, a regular expression.

A rule is made from what is expected, which is checked there and then, and looks at one answer at a time. What it says
may quote the answer whole: it is cut where it is shown, after what is private in it was masked.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import jsonschema_rs
import regex

from limbeck.curation.text import Rule
from limbeck.errors import InvalidInput
from limbeck.records import AnsweredExample

__all__ = ["label_set", "matching", "schema_check"]

SECONDS = 0.5
"""The most a pattern may take on one answer; one that needs more has run away."""


def schema_check(schema: Mapping[str, Any]) -> Rule:
    """An answer that is no JSON, or not what ``schema`` describes. Nothing is fetched for a ``$ref``."""
    try:
        # Its own regular expressions run in linear time, whatever the schema's patterns are.
        validator = jsonschema_rs.validator_for(
            dict(schema), offline=True, pattern_options=jsonschema_rs.RegexOptions()
        )
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise InvalidInput(f"curation.json_schema: not a JSON schema: {str(error).splitlines()[0]}") from None

    def rule(one: AnsweredExample) -> str | None:
        try:
            value = json.loads(one.answer.text)
            fault = next(iter(validator.iter_errors(value)), None)
        except ValueError as error:
            if one.answer.text.lstrip().startswith("```"):
                return "no JSON: it stands in a code fence; synthesis.teacher_system can tell the teacher to leave that"
            return f"no JSON: {error}"
        except RecursionError:
            return "no JSON: nesting without end"
        if fault is None:
            return None
        where = ".".join(map(str, fault.instance_path)) or "the whole"
        return f"{where}: {fault.message}"

    return rule


def label_set(labels: Collection[str]) -> Rule:
    """An answer that is none of ``labels``, letter by letter (spaces around it aside)."""
    known = {label.strip() for label in labels}

    def rule(one: AnsweredExample) -> str | None:
        text = one.answer.text.strip()
        return None if text in known else f'none of the {len(known)} labels: "{text}"'

    return rule


def matching(pattern: str) -> Rule:
    """An answer that ``pattern`` does not match from its beginning to its end."""
    try:
        compiled = regex.compile(pattern)
    except regex.error as error:
        raise InvalidInput(f'curation.pattern: "{pattern}" is no regular expression: {error}') from None

    def rule(one: AnsweredExample) -> str | None:
        text = one.answer.text.strip()
        try:
            found = compiled.fullmatch(text, timeout=SECONDS)
        except TimeoutError:
            return f"the pattern took longer than {SECONDS} s on it"
        return None if found else f'does not match the pattern: "{text}"'

    return rule
