"""Filters on rows, as one writes them at a terminal: `verdict=judge`, `scores.agreement<0.6`, `prompt~warranty`.

| written                   | takes a row                                                                   |
|---------------------------|-------------------------------------------------------------------------------|
| `key=value`               | whose key is this value; numbers as numbers; `key=` where it is empty or absent |
| `key!=value`              | of which the same is not true, also one without the key                       |
| `key>n`, `>=`, `<`, `<=`  | whose key is a number, and so large                                           |
| `key~text`                | whose key holds the text, in any case                                         |

A key may lead inside: `metadata.team`, `scores.judge`, `settings.temperature`; `prompt.length` and `response.length`
count characters. Of several filters a row must pass all. It is a filter and nothing else: no expression is evaluated.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from limbeck.errors import InvalidInput
from limbeck.records import VERDICTS
from limbeck.views.rows import KEYS, UNJUDGED, Row

__all__ = ["Filter", "parse"]

Filter = Callable[[Row], bool]

_WRITTEN = re.compile(r"([A-Za-z_][\w-]*(?:\.[^=!<>~]+?)?)\s*(!=|>=|<=|==?|>|<|~)(.*)", re.DOTALL)
_ORDER: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


def parse(conditions: Sequence[str]) -> Filter:
    """One filter of several conditions, all of which must hold. Raises `InvalidInput` for one that is none."""
    filters = [_condition(text) for text in conditions]
    return lambda row: all(one(row) for one in filters)


def _condition(text: str) -> Filter:
    found = _WRITTEN.fullmatch(text.strip())
    if found is None:
        raise InvalidInput(f'--where "{text}": expected KEY=VALUE, KEY!=VALUE, KEY>NUMBER (>=, <, <=) or KEY~TEXT')
    key, sign, value = found[1].strip(), found[2], found[3].strip()
    top = key.split(".")[0]
    if top not in KEYS:
        near = difflib.get_close_matches(top, KEYS, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"expected one of {', '.join(KEYS)}"
        raise InvalidInput(f'--where "{text}": unknown key "{top}"; {hint}')
    if sign in _ORDER:
        bound, compare = _number(value), _ORDER[sign]
        if bound is None:
            raise InvalidInput(f'--where "{text}": found "{value}"; expected a number after {sign}')
        return lambda row: (number := _number(_value(row, key))) is not None and compare(number, bound)
    if sign == "~":
        return lambda row: value.casefold() in _text(_value(row, key)).casefold()
    if key == "verdict" and value not in (*VERDICTS, UNJUDGED):
        expected = ", ".join((*VERDICTS, UNJUDGED))
        raise InvalidInput(f'--where "{text}": unknown verdict "{value}"; expected one of {expected}')
    wanted = sign != "!="
    return lambda row: _equal(_value(row, key), value) == wanted


def _value(row: Row, key: str) -> Any:
    """What lies under a dotted key; None where nothing does. What follows the first dot may hold dots itself."""
    top, _, rest = key.partition(".")
    found = row.get(top)
    if not rest:
        return found
    if isinstance(found, dict):
        return found.get(rest)
    return len(found) if rest == "length" and isinstance(found, str | list) else None


def _equal(found: Any, value: str) -> bool:
    if _text(found) == value:
        return True
    number, wanted = _number(found), _number(value)
    return number is not None and not isinstance(found, str) and number == wanted


def _text(found: Any) -> str:
    return "" if found is None else str(found).lower() if isinstance(found, bool) else str(found)


def _number(found: Any) -> float | None:
    if isinstance(found, bool):
        return None
    try:
        return float(found)
    except (TypeError, ValueError):
        return None
