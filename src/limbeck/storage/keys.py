"""Who may call the service: access keys and bearer keys, in a file only its owner reads.

A key is shown once, when it is made. An access key's secret is kept in clear, since verifying AWS's signature needs
it; of a bearer key, which is 32 random bytes, the SHA-256 is kept.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from limbeck.errors import Conflict, InvalidInput
from limbeck.storage.table import Table

__all__ = ["AccessKey", "BearerKey", "Keys"]

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

KEYS_A_USER = 2
"""Of each kind, as AWS has it: one in use, one to change to."""

_USER = re.compile(r"[A-Za-z0-9_+=,.@-]{1,64}")


@dataclass(frozen=True)
class AccessKey:
    """A pair as boto3 takes it, and whose it is."""

    id: str
    secret: str = field(repr=False)
    user: str
    created: str


@dataclass(frozen=True)
class BearerKey:
    """A key that is sent as it is, and whose it is."""

    id: str
    sha256: str
    user: str
    created: str


class Keys:
    """The keys in one file; a removed key stops working at once."""

    def __init__(self, path: Path) -> None:
        self._table = Table(path)

    def all(self) -> list[AccessKey | BearerKey]:
        """Every key, by user."""
        found = (_key(key_id, row) for key_id, row in self._table.rows().items())
        return sorted(found, key=lambda key: (key.user, key.created))

    def find(self, key_id: str) -> AccessKey | None:
        """The access key of that id, or None."""
        row = self._table.rows().get(key_id)
        found = None if row is None else _key(key_id, row)
        return found if isinstance(found, AccessKey) else None

    def find_bearer(self, token: str) -> BearerKey | None:
        """The bearer key that is ``token``, or None."""
        sha256 = _sha256(token)  # of no use to who measures how long the comparisons take
        found = (key for key in self.all() if isinstance(key, BearerKey))
        return next((key for key in found if key.sha256 == sha256), None)

    def add(self, user: str) -> AccessKey:
        """Make an access key for ``user``. Raises `Conflict` if there are two already."""
        made = AccessKey(f"AKIA{_random_id()}", secrets.token_urlsafe(30), user, _now())
        self._add(made, {"secret": made.secret})
        return made

    def add_bearer(self, user: str) -> tuple[BearerKey, str]:
        """Make a bearer key for ``user``, and give it with the token. Raises `Conflict` if there are two already."""
        token = f"limbeck-{secrets.token_urlsafe(32)}"
        made = BearerKey(f"BRER{_random_id()}", _sha256(token), user, _now())
        self._add(made, {"sha256": made.sha256})
        return made, token

    def remove(self, key_id: str) -> None:
        """Forget a key. Raises `InvalidInput` if there is none of that id."""
        with self._table.changing() as rows:
            if rows.pop(key_id, None) is None:
                raise InvalidInput(f'no key "{key_id}"; `limbeck keys list` says which there are')

    def _add(self, made: AccessKey | BearerKey, kept: dict[str, str]) -> None:
        if not _USER.fullmatch(made.user):
            raise InvalidInput(f"user {made.user[:64]!r}; expected a name of 1 to 64 of A-Z a-z 0-9 _ + = , . @ -")
        with self._table.changing() as rows:
            of_user = [row for row in rows.values() if row["user"] == made.user and kept.keys() <= row.keys()]
            if len(of_user) >= KEYS_A_USER:
                raise Conflict(f'"{made.user}" has two keys; `limbeck keys remove ID` makes room')
            rows[made.id] = {**kept, "user": made.user, "created": made.created}


def _key(key_id: str, row: dict[str, str]) -> AccessKey | BearerKey:
    return BearerKey(key_id, **row) if "sha256" in row else AccessKey(key_id, **row)


def _random_id() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(16))


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
