"""The AWS rest-json protocol, seen from the server: which operation a request means, what it says, what to answer.

Everything comes from botocore's service models: addresses, shapes, patterns, ranges, status codes. No shape of AWS
is written down here. Clients check required members and types only; lengths, ranges, enumerations and patterns are
the server's to check, and all faults of a request are told at once, in the words AWS uses.

Knows nothing of what an operation does. `Service.route` finds the operation, `read` turns a request into plain
values (or raises `Refused`), `write` turns plain values into an answer, `write_event` into one event of a stream.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import unquote

import regex
from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape

from limbeck.errors import InvalidInput
from limbeck.wire.exchange import Response

__all__ = ["Operation", "Refused", "Service", "json_object", "read", "write", "write_event"]

PATTERN_SECONDS = 0.1
"""Time one pattern may take on one value. Several of AWS's own patterns run away in a backtracking engine."""

MOST_FAULTS = 50
"""Faults told of one request; a body can hold millions."""

TAKEN_TOO = {"EvaluationTaskType": ("General",)}
"""Values that AWS's own notebooks send and its service takes, though its model does not have them."""

SHOWN_CHARACTERS = 200
"""Of a faulty value, in a message."""


HALF_A_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")
"""An escape that may be half of a surrogate pair: without its other half it is text that nothing can encode."""


class Refused(InvalidInput):
    """A request that does not fit its shape; ``faults`` holds one sentence for each place."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        count = len(self.faults)
        super().__init__(f"{count} validation error{'s' * (count > 1)} detected: {'; '.join(self.faults)}")


@dataclass(frozen=True)
class Operation:
    """One operation of a service."""

    service: str
    model: OperationModel

    @property
    def name(self) -> str:
        """As the API names it: ``CreateModelCustomizationJob``."""
        return str(self.model.name)

    @property
    def segments(self) -> tuple[str, ...]:
        """The address, cut at its slashes; a label keeps its braces."""
        return tuple(_cut(self.model.http["requestUri"]))


class Service:
    """The operations of some AWS services, found by method and path."""

    def __init__(self, *names: str) -> None:
        loader = Loader()
        self.operations: dict[tuple[str, str], Operation] = {}
        for name in names:
            model = ServiceModel(loader.load_service_model(name, "service-2"), name)
            for operation in model.operation_names:
                self.operations[name, operation] = Operation(name, model.operation_model(operation))
        # Literal segments before labels: /custom-models/create-custom-model is not a model of that name.
        self._ordered = sorted(
            self.operations.values(), key=lambda operation: [part.startswith("{") for part in operation.segments]
        )

    def route(self, method: str, raw_path: str) -> tuple[Operation, dict[str, str]] | None:
        """The operation at ``raw_path`` (still percent-encoded) and its labels, decoded; None if there is none.

        boto3 encodes the slashes of an ARN; people with curl do not. A path that fits nothing label by label is
        tried again with labels that may hold slashes.
        """
        parts = _cut(raw_path)
        here = [operation for operation in self._ordered if operation.model.http["method"] == method]
        for found in (_labels, _greedy_labels):
            for operation in here:
                labels = found(operation.segments, parts)
                if labels is not None:
                    return operation, {name: unquote(value) for name, value in labels.items()}
        return None

    def methods(self, raw_path: str) -> list[str]:
        """The methods some operation has at ``raw_path``."""
        return [method for method in ("GET", "POST", "PUT", "PATCH", "DELETE") if self.route(method, raw_path)]


def _cut(path: str) -> list[str]:
    return path.split("?")[0].removeprefix("/").split("/")


def _labels(segments: Sequence[str], parts: Sequence[str]) -> dict[str, str] | None:
    if len(segments) != len(parts):
        return None
    labels = {}
    for segment, part in zip(segments, parts, strict=True):
        if segment.startswith("{"):
            if not part:
                return None
            labels[segment.strip("{}+")] = part
        elif segment != part:
            return None
    return labels


def _greedy_labels(segments: Sequence[str], parts: Sequence[str]) -> dict[str, str] | None:
    """As `_labels`, where the address's one label takes all the slashes that are too many."""
    places = [place for place, segment in enumerate(segments) if segment.startswith("{")]
    more = len(parts) - len(segments)
    if len(places) != 1 or more < 1:
        return None
    place = places[0]
    joined = [*parts[:place], "/".join(parts[place : place + more + 1]), *parts[place + more + 1 :]]
    return _labels(segments, joined)


def read(
    operation: Operation,
    labels: Mapping[str, str],
    query: Iterable[tuple[str, str]] = (),
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> dict[str, Any]:
    """The request's members as plain values: datetimes aware, blobs decoded, unknown members left out.

    ``headers`` have lower-case names. Raises `Refused` with every fault.
    """
    shape = operation.model.input_shape
    if shape is None:
        return {}
    headers = headers or {}
    asked: dict[str, list[str]] = {}
    for name, value in query:
        asked.setdefault(name, []).append(value)
    faults = _Faults()
    payload = shape.serialization.get("payload")
    in_body = [member for member in shape.members.values() if "location" not in member.serialization]
    document: Any = {}
    if in_body and (payload is None or shape.members[payload].type_name == "structure"):
        document = json_object(body)
    values: dict[str, Any] = {}
    for name, member in shape.members.items():
        place, wire = member.serialization.get("location"), member.serialization.get("name", name)
        given: Any = None
        if place == "uri":
            given = labels.get(wire)
        elif place == "querystring":
            found = asked.get(wire)
            given = None if found is None else found if member.type_name == "list" else found[0]
        elif place == "header":
            given = headers.get(wire.lower())
        elif name == payload:
            given = (body or None) if member.type_name == "blob" else document
        else:
            given = document.get(wire)
        if given is not None:
            text = place is not None
            raw = name == payload and member.type_name == "blob"
            values[name] = given if raw else _value(member, given, name, faults, text)
            if raw:
                _check_size(member, given, name, faults)
    _check_required(shape, values, "", faults)
    if faults:
        raise Refused(faults)
    return values


def write(operation: Operation, values: Mapping[str, Any]) -> Response:
    """The answer to ``operation``. Raises `ValueError` naming every member that does not fit its shape."""
    status = operation.model.http.get("responseCode", 200)
    shape = operation.model.output_shape
    if shape is None:
        return Response(status, b"{}", {"content-type": "application/json"})
    faults = _Faults()
    unknown = sorted(set(values) - set(shape.members))
    faults.extend(f"{operation.name} has no member {name!r}" for name in unknown)
    headers = {"content-type": "application/json"}
    payload = shape.serialization.get("payload")
    document: dict[str, Any] = {}
    body: bytes | None = None
    present = {name: value for name, value in values.items() if value is not None and name in shape.members}
    for name, value in present.items():
        member = shape.members[name]
        place, wire = member.serialization.get("location"), member.serialization.get("name", name)
        if place == "statusCode":
            status = int(value)
        elif place == "header":
            headers[wire.lower()] = str(value)
        elif name == payload and member.type_name == "blob":
            body = bytes(value)
        else:
            plain = _plain(member, value, name, faults)
            _value(member, plain, name, faults, False)
            if name == payload:
                body = _json(plain)
            else:
                document[wire] = plain
    _check_required(shape, present, "", faults)
    if faults:
        raise ValueError(f"answer to {operation.name}: {'; '.join(faults)}")
    return Response(status, _json(document) if body is None else body, headers)


def write_event(operation: Operation, name: str, values: Mapping[str, Any]) -> bytes:
    """The payload of the event ``name`` of a stream that answers ``operation``. Raises `ValueError` as `write` does."""
    stream = operation.model.get_event_stream_output()
    if name not in stream.members:
        raise ValueError(f"answer to {operation.name}: a stream of it has no event {name!r}")
    faults = _Faults()
    plain = _plain(stream.members[name], values, name, faults)
    _value(stream.members[name], plain, name, faults, False)
    if faults:
        raise ValueError(f"answer to {operation.name}: {'; '.join(faults)}")
    return _json(plain)


class _Faults(list[str]):
    """The faults found so far; says once that there are more than it holds."""

    def add(self, found: Any, path: str, wanted: str) -> None:
        if len(self) == MOST_FAULTS:
            self.append("and more")
        if len(self) > MOST_FAULTS:
            return
        shown = "null" if found is None else f"'{_shown(found)}'"
        self.append(f"Value {shown} at '{path}' failed to satisfy constraint: Member must {wanted}")


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object a body is; nothing is an empty one. Raises `InvalidInput` for any other body."""
    if not body.strip():
        return {}
    try:
        found = json.loads(body)
        if HALF_A_CHARACTER.search(body):
            json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidInput("the request's body is not JSON: it holds half a surrogate pair, no character") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the request's body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"the request's body is {type(found).__name__}; expected a JSON object")
    return found


def _value(shape: Shape, given: Any, path: str, faults: _Faults, text: bool) -> Any:
    """``given`` as ``shape`` wants it; ``text`` where numbers and booleans arrive as strings."""
    if getattr(shape, "is_document_type", False):
        return given
    if isinstance(shape, StructureShape):
        return _structure(shape, given, path, faults)
    if isinstance(shape, ListShape):
        if not isinstance(given, list):
            return faults.add(given, path, "be a list")
        _check_size(shape, given, path, faults)
        return [_value(shape.member, one, f"{path}.{place}.member", faults, text) for place, one in enumerate(given, 1)]
    if isinstance(shape, MapShape):
        if not isinstance(given, dict):
            return faults.add(given, path, "be a map")
        _check_size(shape, given, path, faults)
        for key in given:
            _value(shape.key, key, path, faults, text)
        return {key: _value(shape.value, one, f"{path}.{key}.member", faults, text) for key, one in given.items()}
    return _scalar(shape, given, path, faults, text)


def _structure(shape: StructureShape, given: Any, path: str, faults: _Faults) -> Any:
    if not isinstance(given, dict):
        return faults.add(given, path, "be a structure")
    made = {}
    for name, member in shape.members.items():
        wire = member.serialization.get("name", name)
        if given.get(wire) is not None:
            made[name] = _value(member, given[wire], f"{path}.{name}", faults, False)
    _check_required(shape, made, f"{path}.", faults)
    if shape.is_tagged_union and len(made) != 1:
        said = ", ".join(made) or None
        faults.add(said, path, f"have exactly one of [{', '.join(shape.members)}]")
    return made


def _scalar(shape: Shape, given: Any, path: str, faults: _Faults, text: bool) -> Any:
    kind = shape.type_name
    if kind in ("string", "character"):
        if not isinstance(given, str):
            return faults.add(given, path, "be a string")
        _check_size(shape, given, path, faults)
        return given
    if kind == "blob":
        try:
            found = base64.b64decode(given, validate=True)
        except (binascii.Error, TypeError, ValueError):
            return faults.add(given, path, "be base64")
        _check_size(shape, found, path, faults)
        return found
    if kind == "boolean":
        if text and given in ("true", "false"):
            return given == "true"
        return given if isinstance(given, bool) else faults.add(given, path, "be true or false")
    if kind == "timestamp":
        moment = _moment(given)
        return moment if moment is not None else faults.add(given, path, "be a time in ISO 8601")
    number = _number(given, kind in ("integer", "long"), text)
    if number is None:
        return faults.add(given, path, "be a whole number" if kind in ("integer", "long") else "be a number")
    _check_size(shape, number, path, faults)
    return number


def _number(given: Any, whole: bool, text: bool) -> int | float | None:
    if text and isinstance(given, str):
        try:
            given = int(given) if whole and len(given) < 20 else float(given)
        except ValueError:
            return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        return None
    if whole:
        return int(given) if float(given).is_integer() else None
    return given


def _moment(given: Any) -> datetime | None:
    try:
        if isinstance(given, int | float) and not isinstance(given, bool):
            return datetime.fromtimestamp(given, UTC)
        found = datetime.fromisoformat(given)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _check_required(shape: StructureShape, values: Mapping[str, Any], path: str, faults: _Faults) -> None:
    for name in shape.required_members:
        if name not in values:
            faults.add(None, f"{path}{name}", "not be null")


def _check_size(shape: Shape, value: Any, path: str, faults: _Faults) -> None:
    """Range, length, enumeration and pattern. The length comes first, so that no pattern sees a huge value."""
    number = isinstance(value, int | float)
    size, word = (value, "value") if number else (len(value), "length")
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and size < least:
        return faults.add(value, path, f"have {word} greater than or equal to {least}")
    if most is not None and size > most:
        return faults.add(value, path, f"have {word} less than or equal to {most}")
    if not isinstance(value, str):
        return None
    allowed = shape.metadata.get("enum")
    if allowed and value not in (*allowed, *TAKEN_TOO.get(shape.name, ())):
        return faults.add(value, path, f"satisfy enum value set: [{', '.join(allowed)}]")
    pattern = shape.metadata.get("pattern")
    if pattern and not _fits(pattern, value):
        faults.add(value, path, f"satisfy regular expression pattern: {pattern}")
    return None


def _fits(pattern: str, value: str) -> bool:
    try:
        # The time limit is on what the whole process computes: were other threads let in (concurrent), theirs would
        # count, and on a busy server a value that fits would be refused.
        return _compiled(pattern).fullmatch(value, timeout=PATTERN_SECONDS, concurrent=False) is not None
    except TimeoutError:
        return False


_compiled = cache(regex.compile)


def _plain(shape: Shape, value: Any, path: str, faults: _Faults) -> Any:
    """``value`` as JSON has it, all the way down."""
    if getattr(shape, "is_document_type", False):
        return value
    if isinstance(shape, StructureShape) and isinstance(value, Mapping):
        faults.extend(f"{path} has no member {name!r}" for name in sorted(set(value) - set(shape.members)))
        return {
            shape.members[name].serialization.get("name", name): _plain(
                shape.members[name], one, f"{path}.{name}", faults
            )
            for name, one in value.items()
            if one is not None and name in shape.members
        }
    if isinstance(shape, ListShape):
        return [_plain(shape.member, one, f"{path}.{place}", faults) for place, one in enumerate(value)]
    if isinstance(shape, MapShape):
        return {key: _plain(shape.value, one, f"{path}.{key}", faults) for key, one in value.items()}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
