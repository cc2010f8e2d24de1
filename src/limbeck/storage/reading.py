"""Rows as they are read: plain values, by statements that are built once for each set of filters.

An entity of the ORM watches over each of its values, and a statement built anew is walked and hashed before it is sent:
for a page of twenty rows that took several times as long as SQLite itself. Rows are changed in `ledger`.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, TypedDict, Unpack

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from limbeck.storage.database import Resource

__all__ = ["Filters", "Row", "read"]


class Row(NamedTuple):
    """A row of `Resource`, without what only its worker needs."""

    arn: str
    kind: str
    name: str
    status: str
    created: datetime
    modified: datetime
    ended: datetime | None
    model: str | None
    request: dict[str, Any]
    facts: dict[str, Any]


class Filters(TypedDict, total=False):
    """What rows may be asked for; all that is said must hold."""

    arn: str
    name: str
    kind: str
    status: str
    model: str
    kinds: Collection[str]
    statuses: Collection[str]
    part: str
    """What the name has in it, in the same case."""
    before: datetime
    after: datetime
    """When it was created, without that moment itself."""
    past: tuple[datetime, str]
    """When the row was created that the page before ended with, and its ARN."""


def read(source: Engine | Connection, most: int, newest_first: bool = True, **filters: Unpack[Filters]) -> list[Row]:
    """At most ``most`` rows that fit, by time of creation and ARN; a connection reads what its transaction sees."""
    values: dict[str, Any] = {**filters, "most": most}
    if "past" in filters:
        values["past_created"], values["past_arn"] = values.pop("past")
    with source.connect() if isinstance(source, Engine) else nullcontext(source) as connection:
        found = connection.execute(_statement(frozenset(filters), newest_first), values)
        return [Row(*one) for one in found.all()]


class _Place(GenericFunction[int]):
    """Where a text has another in it, from 1; 0 for nowhere. LIKE overlooks case on SQLite, and not on Postgres."""

    type = sa.Integer()
    inherit_cache = True
    name = "instr"


@compiles(_Place, "postgresql")
def _strpos(place: _Place, compiler: SQLCompiler, **more: Any) -> str:
    return f"strpos({compiler.process(place.clauses, **more)})"


_COLUMNS = Resource.__table__.c

_CONDITIONS = {
    "arn": _COLUMNS.arn == sa.bindparam("arn"),
    "name": _COLUMNS.name == sa.bindparam("name"),
    "kind": _COLUMNS.kind == sa.bindparam("kind"),
    "status": _COLUMNS.status == sa.bindparam("status"),
    "model": _COLUMNS.model == sa.bindparam("model"),
    "kinds": _COLUMNS.kind.in_(sa.bindparam("kinds", expanding=True)),
    "statuses": _COLUMNS.status.in_(sa.bindparam("statuses", expanding=True)),
    "part": _Place(_COLUMNS.name, sa.bindparam("part", type_=sa.String())) > 0,
    "before": _COLUMNS.created < sa.bindparam("before"),
    "after": _COLUMNS.created > sa.bindparam("after"),
}


@cache
def _statement(filters: frozenset[str], newest_first: bool) -> sa.Select[Any]:
    conditions = [_CONDITIONS[name] for name in sorted(filters - {"past"})]
    order = (_COLUMNS.created, _COLUMNS.arn)
    if "past" in filters:
        there = sa.tuple_(
            sa.bindparam("past_created", type_=order[0].type), sa.bindparam("past_arn", type_=sa.String())
        )
        conditions.append(sa.tuple_(*order) < there if newest_first else sa.tuple_(*order) > there)
    ordered = [column.desc() for column in order] if newest_first else order
    columns = [_COLUMNS[name] for name in Row._fields]
    return sa.select(*columns).where(*conditions).order_by(*ordered).limit(sa.bindparam("most"))
