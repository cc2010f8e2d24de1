"""What a control operation works with, and what many of them do: name things, find them, list them, refuse repeats."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, wraps
from itertools import accumulate
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from limbeck.arns import Arns
from limbeck.control.shelf import Shelf
from limbeck.errors import InvalidInput, QuotaExceeded, TooManyTags, UnknownObject
from limbeck.jobs.queue import Queue, open_database
from limbeck.models.catalog import catalog
from limbeck.recipe import REMOTE, sections
from limbeck.records import digest
from limbeck.settings import Settings
from limbeck.storage.database import Resource
from limbeck.storage.ledger import Asking, Ledger, now
from limbeck.storage.objects import Objects, check_key, open_objects, parse_uri
from limbeck.storage.reading import Filters, Row

__all__ = [
    "ID12",
    "MOST_TAGS",
    "Answered",
    "Asked",
    "Desk",
    "models_of",
    "new_id",
    "once",
    "open_desk",
    "page",
    "page_of",
    "present",
    "tags_of",
]

Asked = Mapping[str, Any]
"""The members of a request: plain values, checked against the operation's shape."""

Answered = dict[str, Any]

PAGE = 100
"""Items on a page when nobody says how many."""

MOST_TAGS = 50
"""Tags a resource may have."""

Item = TypeVar("Item")

Make = Callable[[Asked, "Desk"], Answered]

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"

ID12 = "x" * 12
"""In the place of an id that is not made yet, in the name of what will be put."""


@dataclass(frozen=True)
class Desk:
    """Where an operation is done: the rows, the queue and the buckets of one installation."""

    settings: Settings
    ledger: Ledger
    queue: Queue
    objects: Objects

    @cached_property
    def arns(self) -> Arns:
        """Names within the region and account."""
        return Arns(self.settings.region, self.settings.account)

    @cached_property
    def shelf(self) -> Shelf:
        """The custom models."""
        return Shelf(self.settings, self.arns)

    @cached_property
    def is_near(self) -> bool:
        """Whether the rows lie in a file of this machine: to read one waits for nobody."""
        return self.ledger.engine.dialect.name == "sqlite"

    def check_place(self, uri: str) -> None:
        """Raise `InvalidInput` or `UnknownObject` for an address that cannot be, or a bucket that is not there."""
        next(iter(self.objects.find(uri)), None)

    def check_source(self, uri: str) -> None:
        """Raise `InvalidInput` for an address that cannot be, or a bucket that is not there."""
        try:
            self.check_place(uri)
        except UnknownObject as error:
            raise InvalidInput(str(error)) from None

    def check_target(self, uri: str, names: Iterable[str]) -> None:
        """Raise `InvalidInput` or `UnknownObject` unless objects called ``names`` can be put below ``uri``."""
        self.check_place(uri)
        bucket, folder = parse_uri(f"{uri.rstrip('/')}/")
        for name in names:
            check_key(f"{folder}{name}")
        for above in accumulate(folder.split("/")[:-1], "{}/{}".format):
            if self.objects.exists(bucket, above):
                raise InvalidInput(
                    f"{uri}: s3://{bucket}/{above} is an object; expected a folder, or a place where none is"
                )

    def check_models(self, names: Iterable[str]) -> None:
        """Raise `InvalidInput` for a model that is not there any more, by the names under which the river knows them.

        Within a transaction that writes down who needs them it holds: they are deleted in one themselves.
        """
        for name in names:
            if name not in catalog(self.settings) and not (self.settings.models / f"{name}.json").exists():
                raise InvalidInput(f'model "{name}" has just been deleted')

    def order(
        self,
        kind: str,
        name: str,
        status: str,
        asked: Asked,
        operation: str,
        *,
        base: str | None = None,
        model: str | None = None,
        facts: Mapping[str, Any] | None = None,
        recipe: Mapping[str, Any] | None = None,
        tags: str = "tags",
        queue: str = "jobs",
        check: Callable[[Session], None] = lambda _: None,
        most_at_once: int | None = None,
        working: Sequence[str] = (),
        too_many: str = "are under way, as many as may be at once; try again later",
    ) -> str:
        """Make a row and enqueue its work, in one transaction; gives its ARN, or that of the request this one repeats.

        ``check`` may look at the database in that transaction, and raise. ``most_at_once`` rows of the kind may be in
        the states ``working`` at a time, else `QuotaExceeded` in the words of ``too_many``. Raises `InvalidInput` where
        a model that it needs was deleted meanwhile.
        """
        id12 = new_id()
        arn = self.arns.resource(kind, id12, base)
        moment = now()
        row = Resource(
            arn=arn,
            kind=kind,
            name=name,
            status=status,
            created=moment,
            modified=moment,
            model=model,
            request=plain(asked),
            facts=dict(facts or {}),
            recipe=None if recipe is None else dict(recipe),
        )

        def check_all(session: Session) -> None:
            check(session)
            self.check_models(models_of(row.facts, row.recipe))
            if most_at_once is None:
                return
            busy = sa.select(sa.func.count()).where(Resource.kind == kind, Resource.status.in_(working))
            if session.execute(busy).scalar_one() >= most_at_once:
                raise QuotaExceeded(f"{most_at_once} of {kind} {too_many}")

        return self.ledger.create(
            row,
            _asking(operation, asked),
            tags_of(asked.get(tags)),
            check_all,
            lambda connection: self.queue.put(connection, queue, id12, arn),
        )


def open_desk(settings: Settings) -> Desk:
    """The desk of an installation, its database brought to this version first."""
    engine = open_database(settings.database)
    return Desk(settings, Ledger(engine), Queue(engine), open_objects(settings))


def models_of(facts: Mapping[str, Any], recipe: Mapping[str, Any] | None) -> set[str]:
    """The names of the models that a row with ``facts`` stands on, is being moved to or works with."""
    found = [facts.get("hosts"), facts.get("next", {}).get("hosts"), *facts.get("judges", {}).values()]
    here = [one for one in sections(recipe, ("teacher", "student")) if one.get("via") not in REMOTE]
    return {name for name in (*found, *(one["model"] for one in here)) if name is not None}


def new_id() -> str:
    """Twelve of [a-z0-9], of nobody else."""
    return "".join(secrets.choice(ALPHABET) for _ in range(12))


def _asking(operation: str, asked: Asked) -> Asking:
    """What tells a repeated request from a new one."""
    rest = {key: value for key, value in asked.items() if key != "clientRequestToken"}
    return Asking(operation, asked.get("clientRequestToken"), digest(plain(rest)))


def once(operation: str, arn: str) -> Callable[[Make], Make]:
    """What makes something for ``operation`` is not called for a request that repeats an earlier one, token and all.

    That is answered with what was made then, under the name ``arn``, before anything is looked at: what it spoke of may
    be gone by now. Raises `Conflict` where the token was used for something else.
    """

    def decorate(make: Make) -> Make:
        @wraps(make)
        def answered(asked: Asked, desk: Desk) -> Answered:
            earlier = desk.ledger.repeated(_asking(operation, asked))
            return make(asked, desk) if earlier is None else {arn: earlier}

        return answered

    return decorate


def plain(asked: Asked) -> dict[str, Any]:
    """The request as JSON keeps it: times as text."""
    kept: dict[str, Any] = json.loads(json.dumps(asked, default=lambda value: value.isoformat()))
    return kept


def present(said: Mapping[str, Any]) -> Answered:
    """What has a value: an item of a list is checked in one go if it has no member of none."""
    return {name: value for name, value in said.items() if value is not None}


def tags_of(tags: Sequence[Mapping[str, str]] | None) -> dict[str, str]:
    """AWS's list of tags by key. Raises `InvalidInput` for a key said twice or reserved to AWS, `TooManyTags`."""
    found = {tag["key"]: tag["value"] for tag in tags or ()}
    if len(found) < len(tags or ()):
        raise InvalidInput("tags: the same key twice; expected each key once")
    if reserved := sorted(key for key in found if key.casefold().startswith("aws:")):
        raise InvalidInput(f"tags: {reserved[0]}: keys that begin with aws: are AWS's own; expected another")
    if len(found) > MOST_TAGS:
        raise TooManyTags(f"tags: found {len(found)}; expected at most {MOST_TAGS}")
    return found


def page(
    desk: Desk,
    kind: str,
    asked: Asked,
    fields: Mapping[str, str] = {},
) -> tuple[Sequence[Row], str | None]:
    """A page of the rows of ``kind`` that ``asked`` filters, and the token of the next.

    Filters and order are those all of AWS's lists share: ``nameContains``, ``statusEquals``, times before and after
    (under the names ``fields`` maps to ``before`` and ``after``), ``sortOrder``, ``maxResults``, ``nextToken``.
    """
    before, after = fields.get("before", "creationTimeBefore"), fields.get("after", "creationTimeAfter")
    newest_first = asked.get("sortOrder", "Descending") == "Descending"
    filters: Filters = {"kind": kind}
    if "nameContains" in asked:
        filters["part"] = asked["nameContains"]
    if "statusEquals" in asked:
        filters["status"] = asked["statusEquals"]
    if before in asked:
        filters["before"] = asked[before]
    if after in asked:
        filters["after"] = asked[after]
    if "modelArnEquals" in asked:
        filters["model"] = asked["modelArnEquals"]
    if asked.get("nextToken"):
        moment, arn = _position(asked["nextToken"])
        filters["past"] = datetime.fromisoformat(moment), arn
    size = asked.get("maxResults", PAGE)
    rows = desk.ledger.some(size + 1, newest_first, **filters)
    token = None
    if len(rows) > size:
        last = rows[size - 1]
        token = _token(last.created.isoformat(), last.arn)
    return rows[:size], token


def page_of(
    items: Sequence[Item], key: Callable[[Item], tuple[str, str]], asked: Asked
) -> tuple[list[Item], str | None]:
    """As `page`, for what lies in memory; ``key`` gives an item's time in ISO 8601 and its ARN."""
    newest_first = asked.get("sortOrder", "Descending") == "Descending"
    ordered = sorted(items, key=key, reverse=newest_first)
    if asked.get("nextToken"):
        last = _position(asked["nextToken"])
        ordered = [one for one in ordered if (key(one) < last if newest_first else key(one) > last)]
    size = asked.get("maxResults", PAGE)
    return ordered[:size], _token(*key(ordered[size - 1])) if len(ordered) > size else None


def _token(moment: str, arn: str) -> str:
    """The token names the last row shown, so rows that come or go between two pages neither repeat nor hide another."""
    return base64.urlsafe_b64encode(json.dumps([moment, arn]).encode()).decode()


def _position(token: str) -> tuple[str, str]:
    try:
        moment, arn = json.loads(base64.urlsafe_b64decode(token.encode()))
        datetime.fromisoformat(moment).astimezone(UTC)
        if b"\0" in arn.encode():
            raise ValueError
        return moment, arn
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, binascii.Error):
        raise InvalidInput(f'nextToken "{token[:80]}" is none of ours; begin again without it') from None
