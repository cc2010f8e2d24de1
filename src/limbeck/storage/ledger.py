"""What the service was asked to make and what became of it: rows of `database.Resource`, written, and read (`reading`).

Every change is one transaction. A change of state says from which states it may come, so that two hands on one row
cannot undo each other: a job that has ended stays as it ended, whoever else had a word to say.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Unpack

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session

from limbeck.errors import Conflict, Unknown
from limbeck.storage.database import Heartbeat, Resource, Setting, Tag, Token
from limbeck.storage.reading import Filters, Row, read

__all__ = ["STAGES", "UNDER_WAY", "Asking", "Ledger", "now"]

UNDER_WAY = ("Submitted", "Validating", "Scheduled", "InProgress", "Creating", "Updating")
"""States of what waits or is worked on; what is Stopping has been asked to end."""

STAGES = ("validationDetails", "dataProcessingDetails", "trainingDetails")
"""What a customization job tells of, in its order; only a distillation has the second."""


def now() -> datetime:
    """This moment, to the millisecond, as the wire shows it."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


@dataclass(frozen=True)
class Asking:
    """A request that may be repeated: the operation, the client's token if it sent one, and a hash of the rest."""

    operation: str
    token: str | None
    digest: str


class Ledger:
    """The rows of one installation."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._reading = engine.execution_options(reading=True)

    def repeated(self, asking: Asking) -> str | None:
        """The ARN an equal earlier request got; None for a new one.

        Raises `Conflict` if the token was used for something else.
        """
        if asking.token is None:
            return None
        with Session(self._reading) as session:
            return _repeated(session, asking)

    @contextmanager
    def alone(self) -> Iterator[Session]:
        """A transaction during which nobody else creates, or changes a row with something to do `then`."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            _alone(session)
            yield session

    def create(
        self,
        resource: Resource,
        asking: Asking | None = None,
        tags: Mapping[str, str] | None = None,
        check: Callable[[Session], None] | None = None,
        then: Callable[[Connection], None] | None = None,
    ) -> str:
        """Add a row with its tags, and do ``then`` (enqueue it), all in one transaction; gives its ARN.

        A request repeated with its token gets the ARN of the first. ``check`` may look at the database and raise, for
        a limit: nobody else creates meanwhile. Raises `Conflict` for a name that is taken.
        """
        arn = resource.arn
        with self.alone() as session:
            if asking is not None and (earlier := _repeated(session, asking)) is not None:
                return earlier
            _check_name(session, resource, resource.name)
            if check is not None:
                check(session)
            session.add(resource)
            if asking is not None and asking.token is not None:
                session.add(Token(operation=asking.operation, token=asking.token, asked=asking.digest, arn=arn))
            session.add_all(Tag(arn=arn, key=key, value=value) for key, value in (tags or {}).items())
            session.flush()
            if then is not None:
                then(session.connection())
        return arn

    def row(self, arn: str) -> Row | None:
        """The resource of that ARN, whatever its kind."""
        return self._one(arn=arn)

    def recipe(self, arn: str) -> dict[str, Any]:
        """What the river does for a job."""
        with self._reading.connect() as connection:
            return dict(connection.execute(sa.select(Resource.recipe).where(Resource.arn == arn)).scalar_one())

    def find(self, kind: str, identifier: str) -> Row | None:
        """The resource of that ARN or name."""
        by_arn = self._one(arn=identifier) if identifier.startswith("arn:") else None
        if by_arn is not None:
            return by_arn if by_arn.kind == kind else None
        return self._one(kind=kind, name=identifier)

    def get(self, kind: str, identifier: str) -> Row:
        """The resource of that ARN or name. Raises `Unknown`."""
        found = self.find(kind, identifier)
        if found is None:
            raise Unknown(f'no {kind} "{identifier}"')
        return found

    def some(
        self, most: int, newest_first: bool = True, within: Session | None = None, **filters: Unpack[Filters]
    ) -> list[Row]:
        """At most ``most`` rows that fit, by time of creation and ARN; ``within`` a transaction, as that sees them."""
        return read(self._reading if within is None else within.connection(), most, newest_first, **filters)

    def _one(self, **filters: Unpack[Filters]) -> Row | None:
        if any("\0" in str(value) for value in filters.values()):
            return None  # no text is kept with it, and Postgres does not even take the question
        return next(iter(read(self._reading, 1, **filters)), None)

    def arns(self, status: str, most: int) -> Sequence[str]:
        """The ARNs of rows of any kind in that state."""
        with Session(self._reading) as session:
            return session.scalars(sa.select(Resource.arn).where(Resource.status == status).limit(most)).all()

    def change(
        self,
        arn: str,
        status: str | None = None,
        among: Collection[str] = (),
        facts: Mapping[str, Any] | None = None,
        end: bool = False,
        without: Collection[str] = (),
        lacking: Collection[str] = (),
        then: Callable[[Connection], None] | None = None,
        **columns: Any,
    ) -> Resource | None:
        """Change a row: its status, some facts (and ``without`` some), other columns; ``modified`` becomes now.

        With ``end`` it has ended, and with it the stage that was under way. Nothing is changed, and None given, if the
        row is gone, its status is not ``among`` those named, or it has facts it should be ``lacking``. ``then``
        (enqueue it) is done in the same transaction, and may look at what is there, and raise: nobody else creates or
        deletes meanwhile. Raises `Conflict` for a name that another has.
        """
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            if "name" in columns or then is not None:
                _alone(session)
            row = session.get(Resource, arn, with_for_update=True)
            if row is None or (among and row.status not in among) or not row.facts.keys().isdisjoint(lacking):
                return None
            if "name" in columns:
                _check_name(session, row, columns["name"])
            if status is not None:
                row.status = status
            if facts or without:
                row.facts = {key: one for key, one in {**row.facts, **(facts or {})}.items() if key not in without}
            for name, value in columns.items():
                setattr(row, name, value)
            row.modified = now()
            if end:
                row.ended = row.modified
                row.facts = _ended(row.facts, row.status, row.modified)
            if then is not None:
                session.flush()
                then(session.connection())
            return row

    def remove(self, arn: str) -> None:
        """Forget a row, its tags, and the token it was asked for with: sent again, that asks for another."""
        with Session(self.engine) as session, session.begin():
            session.execute(sa.delete(Tag).where(Tag.arn == arn))
            session.execute(sa.delete(Token).where(Token.arn == arn))
            session.execute(sa.delete(Resource).where(Resource.arn == arn))

    def tags(self, arn: str) -> dict[str, str]:
        """The tags of a resource, by key."""
        with Session(self._reading) as session:
            rows = session.scalars(sa.select(Tag).where(Tag.arn == arn).order_by(Tag.key))
            return {row.key: row.value for row in rows}

    def tag(self, arn: str, tags: Mapping[str, str], most: int | None = None) -> bool:
        """Add or replace tags; False, and nothing changed, if the resource would then have more than ``most``."""
        with Session(self.engine) as session, session.begin():
            known = set(session.scalars(sa.select(Tag.key).where(Tag.arn == arn)))
            if most is not None and len(known | tags.keys()) > most:
                return False
            for key, value in tags.items():
                session.merge(Tag(arn=arn, key=key, value=value))
            return True

    def untag(self, arn: str, keys: Collection[str]) -> None:
        """Take tags away; those that are not there are no fault."""
        with Session(self.engine) as session, session.begin():
            session.execute(sa.delete(Tag).where(Tag.arn == arn, Tag.key.in_(keys)))

    def setting(self, name: str) -> dict[str, Any] | None:
        """What is set for the whole account."""
        with Session(self._reading) as session:
            row = session.get(Setting, name)
            return None if row is None else dict(row.value)

    def put_setting(self, name: str, value: Mapping[str, Any] | None) -> None:
        """Set what holds for the whole account; None forgets it."""
        with Session(self.engine) as session, session.begin():
            session.execute(sa.delete(Setting).where(Setting.name == name))
            if value is not None:
                session.add(Setting(name=name, value=dict(value)))

    def beat(self, worker: str) -> None:
        """Say that a worker lives."""
        with Session(self.engine) as session, session.begin():
            session.merge(Heartbeat(worker=worker, beat=now()))

    def alive(self, since: datetime) -> set[str]:
        """The workers heard of since then."""
        with Session(self._reading) as session:
            return set(session.scalars(sa.select(Heartbeat.worker).where(Heartbeat.beat >= since)))

    def inherit(self, worker: str, silent_since: datetime) -> bool:
        """Whether the caller, of all who ask, is the one to take up what ``worker`` held.

        It is not heard of since then; the others see its row move, and leave it alone as long as they would one alive.
        """
        with Session(self.engine) as session, session.begin():
            row = session.get(Heartbeat, worker, with_for_update=True)
            if row is not None and row.beat >= silent_since:
                return False
            session.merge(Heartbeat(worker=worker, beat=now()))
            return True


def _ended(facts: Mapping[str, Any], status: str, moment: datetime) -> dict[str, Any]:
    """The facts of a job that has ended: its stage under way ended as the job did."""
    if "statusDetails" not in facts:
        return dict(facts)
    stages = {
        stage: {**one, "status": status, "lastModifiedTime": moment.isoformat()}
        if one["status"] == "InProgress"
        else one
        for stage, one in facts["statusDetails"].items()
    }
    return {**facts, "statusDetails": stages}


def _alone(session: Session) -> None:
    """Nobody else is alone until the transaction ends. SQLite has one writer at a time anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(sa.text("select pg_advisory_xact_lock(8463)"))


def _check_name(session: Session, resource: Resource, name: str) -> None:
    """Raise `Conflict` if ``name`` is another's of the kind of ``resource``."""
    kind, arn = resource.kind, resource.arn
    taken = sa.select(Resource.arn).where(Resource.kind == kind, Resource.name == name, Resource.arn != arn)
    if (holder := session.scalar(taken)) is not None:
        raise Conflict(f'the name "{name}" is taken by {holder}; choose another')


def _repeated(session: Session, asking: Asking) -> str | None:
    row = None if asking.token is None else session.get(Token, (asking.operation, asking.token))
    if row is None:
        return None
    if row.asked != asking.digest:
        raise Conflict("this clientRequestToken was sent before with another request; a new request needs a new token")
    return row.arn
