"""Filters of request metadata: which of many logged requests are meant, in the API's words.

One member of four: ``{"equals": {key: value}}``, ``{"notEquals": {key: value}}``, or ``andAll`` and ``orAll`` over 1 to
16 of those two. There is one pair in each, they do not nest, and strings are compared exactly. A request that lacks
the key fits ``notEquals``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["MOST_PARTS", "filter_faults", "fits"]

MOST_PARTS = 16
"""The most filters under ``andAll`` or ``orAll``."""

_KEY = re.compile(r"[a-zA-Z0-9\s._:/=+$@-]{1,256}")
_VALUE = re.compile(r"[a-zA-Z0-9\s._:/=+$@-]{0,256}")


def fits(filters: Mapping[str, Any] | None, metadata: Mapping[str, Any]) -> bool:
    """Whether a request with ``metadata`` passes ``filters``; without filters each does."""
    if not filters:
        return True
    ((form, value),) = filters.items()
    if form == "andAll":
        return all(fits(one, metadata) for one in value)
    if form == "orAll":
        return any(fits(one, metadata) for one in value)
    ((key, wanted),) = value.items()
    return bool((metadata.get(key) == wanted) == (form == "equals"))


def filter_faults(filters: Any) -> list[str]:
    """All that is wrong with ``filters``, each with its place; an empty list if nothing is."""
    form, faults = _form(filters, "", ("equals", "notEquals", "andAll", "orAll"))
    if form not in ("andAll", "orAll"):
        return faults if form is None else _pair_faults(filters[form], form)
    parts = filters[form]
    if not isinstance(parts, list | tuple) or not 1 <= len(parts) <= MOST_PARTS:
        found = f"{len(parts)} filters" if isinstance(parts, list | tuple) else repr(parts)
        return [f"{form}: found {found}; expected a list of 1 to {MOST_PARTS} of equals and notEquals"]
    for at, part in enumerate(parts):
        inner, wrong = _form(part, f"{form}[{at}]: ", ("equals", "notEquals"))
        faults += wrong if inner is None else _pair_faults(part[inner], f"{form}[{at}].{inner}")
    return faults


def _form(given: Any, where: str, forms: tuple[str, ...]) -> tuple[str | None, list[str]]:
    """The one member of a filter, or what is wrong with it."""
    if isinstance(given, Mapping) and len(given) == 1 and next(iter(given)) in forms:
        return str(next(iter(given))), []
    found = (" and ".join(map(str, given)) or "nothing") if isinstance(given, Mapping) else repr(given)
    return None, [f"{where}found {found}; expected exactly one of {', '.join(forms)}"]


def _pair_faults(pair: Any, where: str) -> list[str]:
    if not isinstance(pair, Mapping) or len(pair) != 1:
        found = f"{len(pair)} pairs" if isinstance(pair, Mapping) else repr(pair)
        return [f"{where}: found {found}; expected one pair of key and value (several go under andAll or orAll)"]
    ((key, value),) = pair.items()
    return [
        f"{where}: found {text!r}; expected {least} to 256 letters, digits, spaces and . _ : / = + $ @ -"
        for text, pattern, least in ((key, _KEY, 1), (value, _VALUE, 0))
        if not (isinstance(text, str) and pattern.fullmatch(text))
    ]
