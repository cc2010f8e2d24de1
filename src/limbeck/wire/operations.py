"""The AWS rest-json protocol, seen from the server: which operation a request means, what it says, what to answer.

Everything comes from botocore's service models: addresses, shapes, patterns, ranges, status codes. No shape of AWS
is written down here. Clients check required members and types only; lengths, ranges, enumerations and patterns are
the server's to check, and all faults of a request are told at once, in the words AWS uses.

Knows nothing of what an operation does. `Service.route` finds the operation, `read` turns a request into plain
values (or raises `Refused`), `write` turns plain values into an answer, `write_event` into one event of a stream.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from botocore.loaders import Loader
from botocore.model import ListShape, OperationModel, ServiceModel
from pydantic_core import to_json

from limbeck.errors import InvalidInput
from limbeck.wire.exchange import Response
from limbeck.wire.shapes import Faults, Part, check_members, check_size, reader, writer

__all__ = ["Operation", "Refused", "Service", "json_object", "read", "write", "write_event"]

log = logging.getLogger(__name__)

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
    def is_list(self) -> bool:
        """Whether it gives a page of what there is."""
        return self.name.startswith("List")

    @cached_property
    def segments(self) -> tuple[str, ...]:
        """The address, cut at its slashes; a label keeps its braces."""
        return tuple(_cut(self.model.http["requestUri"]))

    @cached_property
    def readers(self) -> Mapping[str, Part]:
        """Of the request's members; outside of its body, numbers and booleans are text."""
        members = self.model.input_shape.members.items()
        return {name: reader(member, text="location" in member.serialization) for name, member in members}

    @cached_property
    def writers(self) -> Mapping[str, Part]:
        """Of the answer's members."""
        return {name: writer(member) for name, member in self.model.output_shape.members.items()}

    @cached_property
    def event_writers(self) -> Mapping[str, Part]:
        """Of the events of a stream that answers."""
        return {name: writer(member) for name, member in self.model.get_event_stream_output().members.items()}


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
        ordered = sorted(
            self.operations.values(), key=lambda operation: [part.startswith("{") for part in operation.segments]
        )
        self._here: dict[str, list[Operation]] = {}
        self._of_length: dict[tuple[str, int], list[Operation]] = {}
        for one in ordered:
            method = one.model.http["method"]
            self._here.setdefault(method, []).append(one)
            self._of_length.setdefault((method, len(one.segments)), []).append(one)

    def route(self, method: str, raw_path: str) -> tuple[Operation, dict[str, str]] | None:
        """The operation at ``raw_path`` (still percent-encoded) and its labels, decoded; None if there is none.

        boto3 encodes the slashes of an ARN; people with curl do not. A path that fits nothing label by label is
        tried again with labels that may hold slashes.
        """
        parts = _cut(raw_path)
        near, all_here = self._of_length.get((method, len(parts)), ()), self._here.get(method, ())
        for fit, operations in ((_labels, near), (_greedy_labels, all_here)):
            for operation in operations:
                labels = fit(operation.segments, parts)
                if labels is not None:
                    return operation, {name: unquote(value) for name, value in labels.items()}
        return None

    def methods(self, raw_path: str) -> list[str]:
        """The methods some operation has at ``raw_path``."""
        return [method for method in ("GET", "POST", "PUT", "PATCH", "DELETE") if self.route(method, raw_path)]


def _cut(path: str) -> list[str]:
    return path.split("?")[0].removeprefix("/").split("/")


def _labels(segments: Sequence[str], parts: Sequence[str]) -> dict[str, str] | None:
    """The labels of an address of as many segments as ``parts``; None if it is another."""
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
    faults = Faults()
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
        if given is not None and name == payload and member.type_name == "blob":
            check_size(member, given, (None, name), faults)
            values[name] = given
        elif given is not None:
            values[name] = operation.readers[name](given, (None, name), faults)
    check_members(shape, values, None, faults)
    if faults:
        raise Refused(faults)
    return values


def write(operation: Operation, values: Mapping[str, Any]) -> Response:
    """The answer to ``operation``. Raises `ValueError` naming every member that does not fit its shape.

    An item of a list that does not fit is logged and left out: it would keep all others from whoever asks.
    """
    status = operation.model.http.get("responseCode", 200)
    shape = operation.model.output_shape
    if shape is None:
        return Response(status, b"{}", {"content-type": "application/json"})
    faults = Faults()
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
            found = Faults()
            plain = operation.writers[name](value, (None, name), found)
            if found and operation.is_list and isinstance(member, ListShape):
                plain = _those_that_fit(operation, member, value)
            else:
                faults.extend(found)
            if name == payload:
                body = _json(plain)
            else:
                document[wire] = plain
    check_members(shape, present, None, faults)
    if faults:
        raise ValueError(f"answer to {operation.name}: {'; '.join(faults)}")
    return Response(status, _json(document) if body is None else body, headers)


def _those_that_fit(operation: Operation, shape: ListShape, items: Iterable[Any]) -> list[Any]:
    part, fit = writer(shape.member), []
    for item in items:
        faults = Faults()
        plain = part(item, (None, "item"), faults)
        if faults:
            log.error("%s leaves an item out: %s", operation.name, "; ".join(faults))
        else:
            fit.append(plain)
    return fit


def write_event(operation: Operation, name: str, values: Mapping[str, Any]) -> bytes:
    """The payload of the event ``name`` of a stream that answers ``operation``. Raises `ValueError` as `write` does."""
    if name not in operation.event_writers:
        raise ValueError(f"answer to {operation.name}: a stream of it has no event {name!r}")
    faults = Faults()
    plain = operation.event_writers[name](values, (None, name), faults)
    if faults:
        raise ValueError(f"answer to {operation.name}: {'; '.join(faults)}")
    return _json(plain)


def json_object(body: bytes, called: str = "the request's body") -> dict[str, Any]:
    """The JSON object a body is; nothing is an empty one. Raises `InvalidInput`, naming what is ``called`` so."""
    if not body.strip():
        return {}
    try:
        found = json.loads(body.decode("utf-8-sig"))  # of bytes it would let half a surrogate pass
        if HALF_A_CHARACTER.search(body):
            json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{called} is not JSON: it holds half a surrogate pair, no character") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{called} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"{called} is {type(found).__name__}; expected a JSON object")
    return found


def _json(value: Any) -> bytes:
    return to_json(value)
