"""Who may call the service: access keys, in a file only its owner reads.

A secret is shown once, when its key is made, and kept in clear: verifying AWS's signature needs it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from limbeck.errors import Conflict, InvalidInput
from limbeck.storage.workspace import read_json, write_json

__all__ = ["AccessKey", "Keys"]

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@dataclass(frozen=True)
class AccessKey:
    """A pair as boto3 takes it, and whose it is."""

    id: str
    secret: str = field(repr=False)
    user: str
    created: str


class Keys:
    """The keys in one file. Read anew when the file changes, so that a removed key stops working at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: int | None = None
        self._known: dict[str, AccessKey] = {}

    def all(self) -> list[AccessKey]:
        """Every key, by user."""
        self._refresh()
        return sorted(self._known.values(), key=lambda key: (key.user, key.created))

    def find(self, key_id: str) -> AccessKey | None:
        """The key of that id, or None."""
        self._refresh()
        return self._known.get(key_id)

    def add(self, user: str) -> AccessKey:
        """Make a key for ``user``. Raises `Conflict` if there are two already, as AWS has it."""
        if not user or len(user) > 64 or not user.isprintable():
            raise InvalidInput(f"user {user[:64]!r}; expected a name of 1 to 64 printable characters")
        if sum(key.user == user for key in self.all()) >= 2:
            raise Conflict(f'"{user}" has two keys; `limbeck keys remove ID` makes room')
        made = AccessKey(
            "AKIA" + "".join(secrets.choice(ALPHABET) for _ in range(16)),
            secrets.token_urlsafe(30),
            user,
            datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        self._write({**self._known, made.id: made})
        return made

    def remove(self, key_id: str) -> None:
        """Forget a key. Raises `InvalidInput` if there is none of that id."""
        if self.find(key_id) is None:
            raise InvalidInput(f'no key "{key_id}"; `limbeck keys list` says which there are')
        self._write({found: key for found, key in self._known.items() if found != key_id})

    def _refresh(self) -> None:
        changed = self._path.stat().st_mtime_ns if self._path.exists() else None
        if changed != self._read_at:
            rows = read_json(self._path) if changed is not None else {}
            self._known = {found: AccessKey(found, **row) for found, row in rows.items()}
            self._read_at = changed

    def _write(self, keys: dict[str, AccessKey]) -> None:
        rows = {key.id: {"secret": key.secret, "user": key.user, "created": key.created} for key in keys.values()}
        write_json(self._path, rows)  # which makes files only their owner reads
        self._read_at = None
