"""Whether a value fits a botocore shape: asked of pydantic's engine, in one go, for nearly every value does.

It only says yes or no. A yes means that JSON holds the value as it is; after a no, `shapes` has the word: it tells the
faults, if there are any, and changes what JSON cannot hold, such as bytes. AWS's patterns run in Rust's engine, whose
time grows with a text's length and never runs away, as Python's does with several of them on thirty characters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape
from pydantic_core import CoreConfig, SchemaValidator
from pydantic_core import core_schema as core

__all__ = ["fitting"]

CONFIG = CoreConfig(strict=True, regex_engine="rust-regex", allow_inf_nan=False, extra_fields_behavior="forbid")

ISO_8601 = r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{3,6})?Z\z"
"""Times as text, as AWS writes them; what has another offset is put into this form."""

LONG = 2**63 - 1


class _Nothing:
    """Of which there is no value."""


NEVER = core.is_instance_schema(_Nothing)
"""For what must be looked at more closely, or changed."""


def fitting(shape: Shape) -> Callable[[Any], bool]:
    """Tells whether a value is of ``shape`` and the same in JSON."""
    return SchemaValidator(_schema(shape, ()), CONFIG).isinstance_python


def _schema(shape: Shape, within: tuple[str, ...]) -> core.CoreSchema:
    """``within`` are the shapes around it: some of AWS's hold themselves, and are not followed into themselves."""
    if shape.name in within or getattr(shape, "is_document_type", False):
        return NEVER
    within = (*within, shape.name)
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if isinstance(shape, StructureShape):
        return _structure(shape, within)
    if isinstance(shape, ListShape):
        return core.list_schema(_schema(shape.member, within), min_length=least, max_length=most)
    if isinstance(shape, MapShape):
        inner = _schema(shape.key, within), _schema(shape.value, within)
        return core.dict_schema(*inner, min_length=least, max_length=most)
    match shape.type_name:
        case "string" | "character":
            return _text(shape)
        case "integer" | "long":
            return core.int_schema(ge=-LONG if least is None else least, le=LONG if most is None else most)
        case "float" | "double":
            return core.float_schema(ge=least, le=most)
        case "boolean":
            return core.bool_schema()
        case "timestamp":
            text = core.chain_schema([core.str_schema(pattern=ISO_8601), core.datetime_schema(strict=False)])
            return core.union_schema([core.datetime_schema(tz_constraint=0), text], mode="left_to_right")
        case _:
            return NEVER


def _structure(shape: StructureShape, within: tuple[str, ...]) -> core.CoreSchema:
    if shape.is_tagged_union or any(
        member.serialization.get("name", name) != name for name, member in shape.members.items()
    ):
        return NEVER
    return core.typed_dict_schema(
        {
            name: core.typed_dict_field(_schema(member, within), required=name in shape.required_members)
            for name, member in shape.members.items()
        },
        config=CONFIG,  # which it does not take from what is around it
    )


def _text(shape: Shape) -> core.CoreSchema:
    allowed, pattern = shape.metadata.get("enum"), shape.metadata.get("pattern")
    if allowed:
        return core.literal_schema(list(allowed))
    return core.str_schema(
        pattern=rf"\A(?:{pattern})\z" if pattern else None,
        min_length=shape.metadata.get("min"),
        max_length=shape.metadata.get("max"),
    )
