"""Values held to botocore's shapes: what a client said, made plain (`reader`); what it is told, made JSON (`writer`).

A shape becomes a function once, not with every value: a page of twenty jobs holds five hundred of them. Nothing of a
shape is written down here, and every fault of a value is told, in the words AWS uses, with its place.
What fits, as nearly everything does, is told in one go (`fitting`); the functions here tell what does not, and why.
"""

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from limbeck.wire.extensions import takes
from limbeck.wire.fitting import fitting

__all__ = ["Faults", "Part", "Place", "check_members", "check_size", "reader", "writer"]

MOST_FAULTS = 50
"""Faults told of one request; a body can hold millions."""

SHOWN_CHARACTERS = 200
"""Of a faulty value, in a message."""

Place = tuple[Any, str]
"""Where a value is: the place that holds it, or None, and its own name. It becomes text only in a fault."""


class Faults(list[str]):
    """The faults found so far; says once that there are more than it holds."""

    def add(self, found: Any, place: Place | None, wanted: str) -> None:
        """``found`` is not what its shape wants."""
        shown = "null" if found is None else f"'{_shown(found)}'"
        self.say(f"Value {shown} at '{_path(place)}' failed to satisfy constraint: Member must {wanted}")

    def say(self, fault: str) -> None:
        """Another one."""
        if len(self) < MOST_FAULTS:
            self.append(fault)
        elif len(self) == MOST_FAULTS:
            self.append("and more")


Part = Callable[[Any, Place, Faults], Any]
"""Gives a value as the other side has it; what its shape does not allow is added to the faults."""


def reader(shape: Shape, text: bool = False) -> Part:
    """From JSON to plain values; ``text`` where numbers and booleans arrive as strings."""
    return _part(shape, False, text)


def writer(shape: Shape) -> Part:
    """From plain values to JSON, checked as a reader would."""
    return _part(shape, True, False)


def check_members(shape: StructureShape, values: Mapping[str, Any], place: Place | None, faults: Faults) -> None:
    """All required members are there, and of a union's exactly one."""
    _completeness(shape)(values, place, faults)


def check_size(shape: Shape, value: Any, place: Place, faults: Faults) -> None:
    """Range, or length."""
    _limits(shape)(value, place, faults)


def _completeness(shape: StructureShape) -> Callable[[Mapping[str, Any], Place | None, Faults], None]:
    """`check_members` of one shape."""
    required, members, is_union = tuple(shape.required_members), tuple(shape.members), shape.is_tagged_union

    def check(values: Mapping[str, Any], place: Place | None, faults: Faults) -> None:
        for name in required:
            if values.get(name) is None:
                faults.add(None, (place, name), "not be null")
        if is_union:
            said = [name for name in members if values.get(name) is not None]
            if len(said) != 1:
                faults.add(", ".join(said) or None, place, f"have exactly one of [{', '.join(members)}]")

    return check


def _part(shape: Shape, out: bool, text: bool) -> Part:
    if getattr(shape, "is_document_type", False):
        return _document if out else lambda given, place, faults: given
    if isinstance(shape, StructureShape):
        return _structure_out(shape) if out else _structure_in(shape)
    if isinstance(shape, ListShape):
        return _list(shape, out, text)
    if isinstance(shape, MapShape):
        return _map(shape, out, text)
    kind = shape.type_name
    if kind in ("string", "character"):
        return _string(shape)
    if kind == "blob":
        return _blob(shape, out)
    if kind == "boolean":
        return _boolean(text)
    return _moment(out) if kind == "timestamp" else _number(shape, kind in ("integer", "long"), text)


class _Members(dict[str, Part]):
    """The parts of a structure, each made when a value first has it: some of AWS's shapes hold themselves."""

    def __init__(self, shape: StructureShape, out: bool) -> None:
        self._shapes, self._out = shape.members, out

    def __missing__(self, name: str) -> Part:
        self[name] = made = _part(self._shapes[name], self._out, False)
        return made


def _wire_names(shape: StructureShape) -> dict[str, str]:
    return {name: member.serialization.get("name", name) for name, member in shape.members.items()}


def _structure_in(shape: StructureShape) -> Part:
    names, parts, check = _wire_names(shape), _Members(shape, out=False), _completeness(shape)

    def part(given: Any, place: Place, faults: Faults) -> Any:
        if not isinstance(given, dict):
            return faults.add(given, place, "be a structure")
        present = {name: given[wire] for name, wire in names.items() if given.get(wire) is not None}
        made = {name: parts[name](one, (place, name), faults) for name, one in present.items()}
        check(present, place, faults)
        return made

    return part


def _structure_out(shape: StructureShape) -> Part:
    fits, names, parts, check = fitting(shape), _wire_names(shape), _Members(shape, out=True), _completeness(shape)

    def part(given: Any, place: Place, faults: Faults) -> Any:
        if fits(given):
            return given
        if not isinstance(given, Mapping):
            return faults.add(given, place, "be a structure")
        made = {}
        for name, one in given.items():
            wire = names.get(name)
            if wire is None:
                faults.say(f"{_path(place)} has no member {name!r}")
            elif one is not None:
                made[wire] = parts[name](one, (place, name), faults)
        check(given, place, faults)
        return made

    return part


def _list(shape: ListShape, out: bool, text: bool) -> Part:
    check, member = _limits(shape), _part(shape.member, out, text)
    fits = fitting(shape) if out else None

    def part(given: Any, place: Place, faults: Faults) -> Any:
        if fits is not None and fits(given):
            return given
        if not isinstance(given, list | tuple if out else list):
            return faults.add(given, place, "be a list")
        if given or not out:  # AWS describes some lists as never empty; one of nothing is answered all the same
            check(given, place, faults)
        return [member(one, ((place, str(at)), "member"), faults) for at, one in enumerate(given, 1)]

    return part


def _map(shape: MapShape, out: bool, text: bool) -> Part:
    check, key_part, value_part = _limits(shape), _part(shape.key, out, text), _part(shape.value, out, text)

    def part(given: Any, place: Place, faults: Faults) -> Any:
        if not isinstance(given, Mapping):
            return faults.add(given, place, "be a map")
        check(given, place, faults)
        return {
            key_part(key, place, faults): value_part(one, ((place, key), "member"), faults)
            for key, one in given.items()
        }

    return part


def _string(shape: Shape) -> Part:
    check, fits = _limits(shape), fitting(shape)
    allowed, pattern = shape.metadata.get("enum"), shape.metadata.get("pattern")

    def part(given: Any, place: Place, faults: Faults) -> Any:
        if fits(given):
            return given
        if not isinstance(given, str):
            return faults.add(given, place, "be a string")
        if check(given, place, faults) and not takes(shape.name, given):
            if allowed:
                faults.add(given, place, f"satisfy enum value set: [{', '.join(allowed)}]")
            elif pattern:
                faults.add(given, place, f"satisfy regular expression pattern: {pattern}")
        return given

    return part


def _blob(shape: Shape, out: bool) -> Part:
    check = _limits(shape)

    def part(given: Any, place: Place, faults: Faults) -> Any:
        if out and isinstance(given, bytes):
            check(given, place, faults)
            return base64.b64encode(given).decode()
        try:
            found = base64.b64decode(given, validate=True)
        except (binascii.Error, TypeError, ValueError):
            return faults.add(given, place, "be base64")
        check(found, place, faults)
        return given if out else found

    return part


def _document(given: Any, place: Place, faults: Faults) -> Any:
    """Whatever JSON can hold."""
    try:
        json.dumps(given, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        faults.add(given, place, "be JSON")
    return given


def _boolean(text: bool) -> Part:
    def part(given: Any, place: Place, faults: Faults) -> Any:
        if text and given in ("true", "false"):
            return given == "true"
        return given if isinstance(given, bool) else faults.add(given, place, "be true or false")

    return part


def _moment(out: bool) -> Part:
    def read(given: Any, place: Place, faults: Faults) -> Any:
        found = _as_moment(given)
        return faults.add(given, place, "be a time in ISO 8601") if found is None else found

    def write(given: Any, place: Place, faults: Faults) -> Any:
        if isinstance(given, datetime):
            return given.astimezone(UTC)
        found = read(given, place, faults)
        return given if isinstance(given, str) and given.endswith("Z") else found

    return write if out else read


def _number(shape: Shape, whole: bool, text: bool) -> Part:
    check, wanted = _limits(shape), "be a whole number" if whole else "be a number"

    def part(given: Any, place: Place, faults: Faults) -> Any:
        number = _as_number(given, whole, text)
        if number is None:
            return faults.add(given, place, wanted)
        check(number, place, faults)
        return number

    return part


def _limits(shape: Shape) -> Callable[[Any, Place, Faults], bool]:
    """Whether a number is within its range, and anything else of the right length."""
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is None and most is None:
        return lambda value, place, faults: True

    def check(value: Any, place: Place, faults: Faults) -> bool:
        size, word = (value, "value") if isinstance(value, int | float) else (len(value), "length")
        if least is not None and size < least:
            faults.add(value, place, f"have {word} greater than or equal to {least}")
            return False
        if most is not None and size > most:
            faults.add(value, place, f"have {word} less than or equal to {most}")
            return False
        return True

    return check


def _as_number(given: Any, whole: bool, text: bool) -> int | float | None:
    if text and isinstance(given, str):
        try:
            given = int(given) if whole and len(given) < 20 else float(given)
        except ValueError:
            return None
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    if not -sys.float_info.max <= given <= sys.float_info.max:  # also NaN; an integer may be beyond any float
        return None
    if whole:
        return int(given) if float(given).is_integer() else None
    return given


def _as_moment(given: Any) -> datetime | None:
    try:
        if isinstance(given, str):
            found = datetime.fromisoformat(given)
            return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        return None if isinstance(given, bool) else datetime.fromtimestamp(given, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _path(place: Place | None) -> str:
    holder, name = place or (None, "")
    return name if holder is None else f"{_path(holder)}.{name}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
