"""A small table in one JSON file: read anew when the file changes, changed under a lock, written whole, 0600."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from limbeck.storage.workspace import read_json, write_json

__all__ = ["Table"]


class Table:
    """Rows by name. What other processes write is seen by the next call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._rows: dict[str, Any] = {}

    def rows(self) -> dict[str, Any]:
        """The rows as they are now; not to be changed."""
        try:
            facts = self._path.stat()
            seen = facts.st_ino, facts.st_mtime_ns
        except FileNotFoundError:
            seen = None
        if seen != self._seen:
            self._rows = read_json(self._path) if seen else {}
            self._seen = seen
        return self._rows

    @contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """The rows, to be changed; written when the block ends well. One process at a time."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_name(f".{self._path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            rows = read_json(self._path) if self._path.exists() else {}
            yield rows
            write_json(self._path, rows, private=True)
