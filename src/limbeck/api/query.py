"""The AWS query protocol, which STS and IAM speak: a form comes in, XML goes out; shapes are botocore's.

A form is turned into the document that the same shape has in JSON, and `wire.operations` reads and checks it: one
set of rules, one wording of faults, whatever the protocol.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from limbeck.api import xml
from limbeck.api.xml import Element, element
from limbeck.wire import operations
from limbeck.wire.exchange import Response
from limbeck.wire.operations import Operation

__all__ = ["fault", "read", "write"]


def read(operation: Operation, form: Mapping[str, str]) -> dict[str, Any]:
    """The request's members as plain values. Raises `operations.Refused` with every fault."""
    shape = operation.model.input_shape
    document = {} if shape is None else _members(shape, form, "")
    return operations.read(operation, {}, body=json.dumps(document).encode())


def write(operation: Operation, values: Mapping[str, Any], request_id: str) -> Response:
    """The answer to ``operation``. Raises `ValueError` for a member its shape has not."""
    shape = operation.model.output_shape
    result = None
    if shape is not None:
        unknown = sorted(set(values) - set(shape.members))
        if unknown:
            raise ValueError(f"{operation.name} has no member {', '.join(unknown)}")
        result = element(shape.serialization["resultWrapper"], *_elements(shape, values))
    about = element("ResponseMetadata", element("RequestId", request_id))
    root = element(f"{operation.name}Response", result, about, xmlns=operation.model.metadata["xmlNamespace"])
    return Response(200, xml.document(root), {"content-type": "text/xml"})


def fault(code: str, status: int, message: str, request_id: str) -> Response:
    """The error ``code`` with ``message``."""
    kind = "Sender" if status < 500 else "Receiver"
    said = element("Error", element("Type", kind), element("Code", code), element("Message", message))
    root = element("ErrorResponse", said, element("RequestId", request_id))
    return Response(status, xml.document(root), {"content-type": "text/xml"})


def _members(shape: StructureShape, form: Mapping[str, str], above: str) -> dict[str, Any]:
    found = {}
    for name, member in shape.members.items():
        wired = member.serialization.get("name", name)
        value = _value(member, form, above + wired)
        if value is not None:
            found[wired] = value
    return found


def _value(shape: Shape, form: Mapping[str, str], name: str) -> Any:
    """What ``form`` says under ``name`` and the names that go on from it; None if nothing."""
    if not isinstance(shape, StructureShape | ListShape | MapShape):
        text = form.get(name)
        if text is not None and shape.type_name in ("integer", "long") and re.fullmatch("-?[0-9]{1,18}", text):
            return int(text)
        return {"true": True, "false": False}.get(text or "", text) if shape.type_name == "boolean" else text
    if not any(key.startswith(f"{name}.") for key in form):
        return None
    if isinstance(shape, StructureShape):
        return _members(shape, form, f"{name}.")
    if isinstance(shape, ListShape):
        inside = "" if shape.serialization.get("flattened") else f".{shape.member.serialization.get('name', 'member')}"
        return list(_numbered(shape.member, form, name + inside))
    pairs = zip(
        _numbered(shape.key, form, f"{name}.entry", ".key"),
        _numbered(shape.value, form, f"{name}.entry", ".value"),
        strict=False,
    )
    return dict(pairs)


def _numbered(shape: Shape, form: Mapping[str, str], name: str, behind: str = "") -> Iterator[Any]:
    number = 1
    while (value := _value(shape, form, f"{name}.{number}{behind}")) is not None:
        yield value
        number += 1


def _elements(shape: StructureShape, values: Mapping[str, Any]) -> Iterator[Element]:
    for name, member in shape.members.items():
        if values.get(name) is not None:
            yield _element(member.serialization.get("name", name), member, values[name])


def _element(name: str, shape: Shape, value: Any) -> Element:
    if isinstance(shape, StructureShape):
        return element(name, *_elements(shape, value))
    if isinstance(shape, ListShape):
        inside = shape.member.serialization.get("name", "member")
        return element(name, *(_element(inside, shape.member, one) for one in value))
    if isinstance(value, datetime):
        return element(name, value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"))
    return element(name, str(value).lower() if isinstance(value, bool) else str(value))
