"""The service's database: its tables, and an engine that keeps the same promises on SQLite and on Postgres.

One table holds everything the service was asked to make (`Resource`): what was asked, and what has become of it. It
is migrated by Alembic (`migrations/`). The durable queue keeps tables of its own beside these.

SQLAlchemy's defaults lose updates on SQLite, so the engine begins every transaction with BEGIN IMMEDIATE, in WAL mode,
with foreign keys on. What only reads says so (the execution option ``reading``): each of its statements stands alone,
and waits for nobody.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic_core import from_json
from sqlalchemy import JSON, Index, MetaData, String, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect, Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from limbeck.errors import InvalidInput

__all__ = [
    "AWAY",
    "HEAD",
    "Base",
    "Heartbeat",
    "Resource",
    "Setting",
    "Tag",
    "Token",
    "engine_of",
    "migrate",
    "reached",
]

HEAD = "0003"
"""The newest migration: a database that has seen it is not looked at further."""

AWAY = (sa.exc.OperationalError, sa.exc.InterfaceError)
"""What asking raises while a database is away, restarting or busy for too long: later it may be answered."""

BUSY_SECONDS = 30.0
"""How long one process waits for another's write to end before it gives up: SQLite has one writer."""

Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class UtcDateTime(sa.TypeDecorator[datetime]):
    """An aware moment in UTC, also where the database forgets the zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database."""
        return None if value is None else value.astimezone(UTC)

    def result_processor(self, dialect: Dialect, coltype: Any) -> Callable[[Any], datetime | None]:
        """From the database. SQLite's text is read here at once: by way of ``impl`` it took ten times as long."""
        if dialect.name == "sqlite":
            return lambda text: None if text is None else datetime.fromisoformat(f"{text}+00:00")
        return lambda moment: None if moment is None else moment.astimezone(UTC)


class Base(DeclarativeBase):
    """The tables of the service."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Resource(Base):
    """One thing somebody asked for: a job, a deployment, an imported model. A row is changed only as a whole."""

    __tablename__ = "resources"

    arn: Mapped[str] = mapped_column(String(2048), primary_key=True)
    kind: Mapped[str] = mapped_column(String(40))
    """As in the ARN: ``model-customization-job``, ``custom-model-deployment``, …"""
    name: Mapped[str] = mapped_column(String(256))
    status: Mapped[str] = mapped_column(String(40))
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    modified: Mapped[datetime] = mapped_column(UtcDateTime)
    ended: Mapped[datetime | None] = mapped_column(UtcDateTime)
    model: Mapped[str | None] = mapped_column(String(2048))
    """ARN of the model it is about, where lists are filtered by it."""
    request: Mapped[dict[str, Any]] = mapped_column(Json)
    """The members of the request that made it."""
    facts: Mapped[dict[str, Any]] = mapped_column(Json)
    """What has become of it, by the names of the answer's members."""
    recipe: Mapped[dict[str, Any] | None] = mapped_column(Json, deferred=True)
    """What the river does for it: for its worker alone, so that lists need not carry it."""
    version: Mapped[int] = mapped_column()

    __table_args__ = (
        UniqueConstraint("kind", "name"),
        Index(None, "kind", "created", "arn", "name"),
        Index(None, "status", "kind", "created", "arn", "name"),
        Index(None, "model", "kind", "created", "arn"),
    )
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 (as SQLAlchemy declares it)


class Token(Base):
    """A client's token for a request it may repeat, what it asked then, and what came of it."""

    __tablename__ = "tokens"

    operation: Mapped[str] = mapped_column(String(64), primary_key=True)
    token: Mapped[str] = mapped_column(String(256), primary_key=True)
    asked: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the request without its token."""
    arn: Mapped[str] = mapped_column(String(2048))


class Tag(Base):
    """A label a user put on a resource."""

    __tablename__ = "tags"

    arn: Mapped[str] = mapped_column(String(2048), primary_key=True)
    key: Mapped[str] = mapped_column(String(128), primary_key=True)
    value: Mapped[str] = mapped_column(String(256))


class Setting(Base):
    """What holds for the whole account and region: the configuration of invocation logging."""

    __tablename__ = "settings"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[dict[str, Any]] = mapped_column(Json)


class Heartbeat(Base):
    """A worker that is alive, or was."""

    __tablename__ = "heartbeats"

    worker: Mapped[str] = mapped_column(String(128), primary_key=True)
    beat: Mapped[datetime] = mapped_column(UtcDateTime)


def engine_of(url: str) -> Engine:
    """An engine for ``url``, with what a database needs to keep its word. Raises `InvalidInput` for another kind."""
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # the latter of a port
        raise InvalidInput("LIMBECK_DATABASE is no URL; expected sqlite:////path or postgresql://…") from None
    if parsed.get_backend_name() in ("postgresql", "postgres"):
        postgres = parsed.set(drivername="postgresql+psycopg")
        return sa.create_engine(postgres, pool_pre_ping=True, json_deserializer=_from_json)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        raise InvalidInput(f"LIMBECK_DATABASE is for {parsed.get_backend_name()}; expected a SQLite file or Postgres")
    try:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(parsed, error.strerror) from None
    engine = sa.create_engine(parsed, connect_args={"timeout": BUSY_SECONDS}, json_deserializer=_from_json)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"pragma {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        if not connection.get_execution_options().get("reading", False):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def reached(url: str) -> Engine:
    """As `engine_of`, of a database that answers. Raises `InvalidInput` for one that does not."""
    engine = engine_of(url)
    try:
        engine.connect().close()
    except sa.exc.DBAPIError as error:
        engine.dispose()
        raise _unusable(engine.url, " ".join(str(error.orig).split())) from None
    return engine


def _unusable(url: sa.URL, why: object) -> InvalidInput:
    shown = url.render_as_string(hide_password=True)
    return InvalidInput(f"the database {shown} cannot be used: {why}; LIMBECK_DATABASE names another")


def _from_json(text: str | bytes) -> Any:
    """The value of a JSON column. pydantic's parser takes half the time, but not all that Python's has written."""
    try:
        return from_json(text)
    except ValueError:  # half a surrogate pair, out of a file's odd name; arrays within hundreds of arrays
        return json.loads(text)


def migrate(engine: Engine) -> None:
    """Bring the tables to this version; several processes may do so at once."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("select pg_advisory_xact_lock(8462)")
        if _version(connection) == HEAD:
            return
        from alembic import command  # a quarter of a second, needed once a version
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _version(connection: sa.Connection) -> str | None:
    """The last migration the database has seen."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.exec_driver_sql("select version_num from alembic_version").scalar()
    return None if found is None else str(found)
