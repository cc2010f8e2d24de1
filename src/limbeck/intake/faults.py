"""What is wrong with one line, gathered as it is read: whoever reads a part of a row tells it here, with its field."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from limbeck.records import Fault

__all__ = ["Faults", "described", "flaw", "listed", "loaded"]

SHOWN = 40
"""The characters of a value that are quoted; it is to be known again, not read."""

SHOWN_KEY = 80
"""The same of a key."""


class Faults:
    """Gathers the faults of one line."""

    def __init__(self, file: str, line: int) -> None:
        self.file, self.line = file, line
        self.found: list[Fault] = []

    def add(self, field: str, found: str, expected: str) -> Faults:
        """Tell of a fault."""
        self.found.append(Fault(self.file, self.line, field, found, expected))
        return self

    def unknown(self, where: str, keys: Any, known: tuple[str, ...]) -> None:
        """Tell of each key that is none of the ``known``."""
        for key in keys:
            if key not in known:
                self.add(f"{where}{_shortened(key, SHOWN_KEY)}", "an unknown key", f"only {', '.join(known)}")

    def unique_keys(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """The object that these pairs are; tells of keys that stand in it twice."""
        times = Counter(key for key, _ in pairs)
        for key in sorted(key for key, number in times.items() if number > 1):
            self.add(_shortened(key, SHOWN_KEY), "the same key twice", "each key once")
        return dict(pairs)

    def text(self, field: str, value: Any) -> str:
        """``value`` if it is text with something in it; a fault otherwise."""
        if not isinstance(value, str):
            self.add(field, described(value), "text")
        elif not value.strip():
            self.add(field, "empty text", "text")
        elif wrong := flaw(value):
            self.add(field, wrong, "text that is valid Unicode")
        else:
            return value
        return ""


def loaded(line: bytes, faults: Faults, expected: str = "one JSON object a line") -> dict[str, Any] | None:
    """The JSON object that a line is; None, and a fault, where it is anything else."""
    try:
        row = json.loads(line.decode("utf-8"), object_pairs_hook=faults.unique_keys)
    except UnicodeDecodeError as error:
        faults.add("line", f"byte 0x{line[error.start]:02x} at {error.start}", "UTF-8")
    except json.JSONDecodeError as error:
        faults.add("line", f"{error.msg.lower().removesuffix(' at')} at column {error.colno}", expected)
    except RecursionError:
        faults.add("line", "nesting without end", expected)
    except ValueError:  # Python reads no whole number of over 4,300 digits
        faults.add("line", "a number of thousands of digits", expected)
    else:
        if isinstance(row, dict):
            return row
        faults.add("line", described(row), "a JSON object")
    return None


def flaw(text: str) -> str | None:
    """What keeps text from being written as UTF-8 and read again by anyone; None if nothing does."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair"
    return "a NUL character" if "\x00" in text else None


def described(value: Any) -> str:
    """A JSON value as a message quotes it: in short."""
    match value:
        case None:
            return "null"
        case bool() | int() | float():
            return _shortened(json.dumps(value), SHOWN)
        case str():
            return f'"{_shortened(value, SHOWN)}"'
        case list():
            return "a list"
        case _:
            return "an object"


def listed(keys: Iterable[str]) -> str:
    """The first keys of an object as a message names them."""
    return ", ".join(_shortened(key, SHOWN_KEY) for key in sorted(keys)[:6]) or "no keys"


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
