"""Buckets of our own: a folder a bucket, an object a file in it, for everybody to see.

What a file system does not keep of an object (its MD5, its content type) is a row of `.about.sqlite` beside the
buckets, valid while the file has the size and time it had: a file that was put there by hand is an object too, whose
tag is made of its time. A change is made under that database's write lock, so that processes see each other's whole.
Nothing is read or written through a symbolic link.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from limbeck.errors import Conflict, InvalidInput, UnknownObject
from limbeck.storage.objects.base import KEY_BYTES, Found, Objects, check_bucket_name, check_key, is_fit, pieces

__all__ = ["Buckets"]

_SCHEMA = """
create table if not exists objects (
    bucket        text not null,
    key           text not null,
    size          integer not null,
    changed       integer not null,
    etag          text not null,
    headers       text not null,
    primary key (bucket, key)
) without rowid;
create table if not exists settings (
    bucket        text not null,
    name          text not null,
    body          blob not null,
    primary key (bucket, name)
) without rowid;
"""


class Buckets(Objects):
    """The buckets under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def buckets(self) -> list[tuple[str, datetime]]:
        """Every bucket by name, with the time its folder last changed."""
        folders = self.root.iterdir() if self.root.exists() else ()
        return sorted(
            (path.name, datetime.fromtimestamp(path.stat().st_ctime, UTC)) for path in folders if self.has(path.name)
        )

    def has(self, bucket: str) -> bool:
        """Whether there is such a bucket."""
        try:
            check_bucket_name(bucket)
        except InvalidInput:
            return False
        path = self.root / bucket
        return path.is_dir() and not path.is_symlink()

    def make_bucket(self, bucket: str) -> None:
        """Make a bucket; one that is there is left as it is."""
        check_bucket_name(bucket)
        self._check_links(bucket)
        (self.root / bucket).mkdir(parents=True, exist_ok=True)

    def check_bucket(self, bucket: str) -> None:
        """Raise `UnknownObject` if there is no such bucket."""
        if not self.has(bucket):
            raise UnknownObject(f'no bucket "{bucket[:100]}"', "NoSuchBucket")

    def remove_bucket(self, bucket: str) -> None:
        """Remove an empty bucket. Raises `Conflict` if objects are in it."""
        with self._changing() as database:
            if next(self.list(bucket), None) is not None:
                raise Conflict(f'bucket "{bucket}" is not empty')
            shutil.rmtree(self.root / bucket)
            database.execute("delete from objects where bucket = ?", (bucket,))
            database.execute("delete from settings where bucket = ?", (bucket,))

    def setting(self, bucket: str, name: str) -> bytes | None:
        """What was last set under ``name`` for a bucket. Settings are kept and have no effect."""
        self.check_bucket(bucket)
        with closing(self._database()) as database:
            row = database.execute("select body from settings where bucket = ? and name = ?", (bucket, name)).fetchone()
        return None if row is None else bytes(row[0])

    def set(self, bucket: str, name: str, body: bytes | None) -> None:
        """Keep ``body`` under ``name`` for a bucket; None forgets what was kept."""
        self.check_bucket(bucket)
        with self._changing() as database:
            database.execute("delete from settings where bucket = ? and name = ?", (bucket, name))
            if body is not None:
                database.execute("insert into settings values (?, ?, ?)", (bucket, name, body))

    def put(
        self,
        bucket: str,
        key: str,
        data: bytes | Iterable[bytes],
        *,
        new: bool = False,
        instead_of: str | None = None,
        etag: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Found:
        """See `Objects.put`. ``instead_of``: raise `Conflict` unless the object there has this tag; ``etag``: its tag,
        where it is not the MD5 of the bytes.
        """
        self.path(bucket, key)
        with self.writing() as name:
            md5 = hashlib.md5(usedforsecurity=False)
            with name.open("wb") as file:
                for piece in (data,) if isinstance(data, bytes) else data:
                    file.write(piece)
                    md5.update(piece)
                file.flush()
                os.fsync(file.fileno())
            with self._changing() as database:
                path = self.path(bucket, key)
                if new and path.exists():
                    raise Conflict(f'object "{key}" is there already')
                self._check_tag(bucket, key, instead_of)
                _move(name, path, key)
                facts = path.stat()
                about = (facts.st_size, facts.st_mtime_ns, etag or md5.hexdigest(), json.dumps(dict(headers or {})))
                database.execute("insert or replace into objects values (?, ?, ?, ?, ?, ?)", (bucket, key, *about))
                return _found(database, bucket, key, facts)

    def head(self, bucket: str, key: str) -> Found:
        """See `Objects.head`."""
        found, file = self.open(bucket, key)
        file.close()
        return found

    def open(self, bucket: str, key: str) -> tuple[Found, IO[bytes]]:
        """An object and its file, open to be read: the two stay one, whatever is put in its place meanwhile."""
        path = self.path(bucket, key)
        try:
            file = path.open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise UnknownObject(f'no object "{key}" in bucket "{bucket}"', "NoSuchKey") from None
        with closing(self._database()) as database:
            return _found(database, bucket, key, os.fstat(file.fileno())), file

    def read(self, bucket: str, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See `Objects.read`."""
        _, file = self.open(bucket, key)

        def found() -> Iterator[bytes]:
            with file:
                file.seek(start)
                yield from pieces(file, None if end is None else max(end - start, 0))

        return found()

    def list(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[Found]:
        """See `Objects.list`."""
        self.check_bucket(bucket)

        def found() -> Iterator[Found]:
            above = prefix[: prefix.rfind("/") + 1]
            folder = self.root / bucket / above
            if len(prefix.encode()) > KEY_BYTES:  # which no key begins with
                return
            if not all(map(is_fit, above.split("/")[:-1])) or not folder.is_dir():
                return
            self._check_links(bucket, *above.split("/"))
            with closing(self._database()) as database:
                for key, entry in _walk(folder, above, prefix, after):
                    try:
                        yield _found(database, bucket, key, entry.stat())
                    except FileNotFoundError:  # removed since the folder was read
                        continue

        return found()

    def remove(self, bucket: str, key: str, *, instead_of: str | None = None) -> None:
        """See `Objects.remove`. Folders left empty go too, so that their names can be keys.

        ``instead_of``: raise `Conflict` unless the object there has this tag.
        """
        with self._changing() as database:
            path = self.path(bucket, key)
            self._check_tag(bucket, key, instead_of)
            if not path.is_file():
                return
            path.unlink()
            database.execute("delete from objects where bucket = ? and key = ?", (bucket, key))
            for folder in path.parents:
                if folder == self.root / bucket or any(folder.iterdir()):
                    return
                folder.rmdir()

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """A file to write to, in the buckets' file system; removed with the block if it is still there."""
        folder = self.root / ".incoming"
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder)
        os.close(handle)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def local(self, bucket: str, key: str) -> Path:
        """See `Objects.local`."""
        return self.path(bucket, key)

    def path(self, bucket: str, key: str) -> Path:
        """The file an object is, or would be. Raises `UnknownObject` where there is no such bucket."""
        self.check_bucket(bucket)
        check_key(key)
        self._check_links(bucket, *key.split("/"))
        return self.root / bucket / key

    def _check_tag(self, bucket: str, key: str, wanted: str | None) -> None:
        """Raise `Conflict` for an object that has not the tag ``wanted``; ``*`` is any, None asks for nothing."""
        if wanted is not None and wanted not in ("*", self.head(bucket, key).etag):
            raise Conflict(f'object "{key}" is not the one with tag "{wanted}"')

    def _check_links(self, *parts: str) -> None:
        path = self.root
        for part in parts:
            path /= part
            if path.is_symlink():
                raise InvalidInput(f"{'/'.join(parts)}: a symbolic link is on the way, which is not followed")

    def _database(self) -> sqlite3.Connection:
        self.root.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(
            self.root / ".about.sqlite", timeout=60.0, isolation_level=None, check_same_thread=False
        )
        database.execute("pragma synchronous = normal")
        database.executescript(_SCHEMA)
        return database

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with closing(self._database()) as database:
            database.execute("begin immediate")
            try:
                yield database
            except BaseException:
                database.execute("rollback")
                raise
            database.execute("commit")


def _found(database: sqlite3.Connection, bucket: str, key: str, facts: os.stat_result) -> Found:
    row = database.execute(
        "select etag, headers from objects where bucket = ? and key = ? and size = ? and changed = ?",
        (bucket, key, facts.st_size, facts.st_mtime_ns),
    ).fetchone()
    etag, headers = row or (f"{facts.st_mtime_ns:032x}-1", "{}")
    return Found(bucket, key, facts.st_size, etag, datetime.fromtimestamp(facts.st_mtime, UTC), json.loads(headers))


def _move(source: Path, path: Path, key: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        source.replace(path)
    except (FileExistsError, IsADirectoryError, NotADirectoryError):
        raise InvalidInput(
            f'key "{key}": a folder cannot also be a file here; another key ends or goes on at one of its slashes'
        ) from None


def _walk(folder: Path, above: str, prefix: str, after: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The files under ``folder`` with their keys, which begin with ``above``, in order; see `Objects.list`.

    A folder is sorted as its name with the slash, which is the order of the keys in it; folders that cannot hold
    a key that is wanted are not entered.
    """
    try:
        with os.scandir(folder) as entries:
            named = [
                (f"{above}{entry.name}{'/' if entry.is_dir(follow_symlinks=False) else ''}", entry)
                for entry in entries
                if is_fit(entry.name) and not entry.is_symlink()
            ]
    except FileNotFoundError:  # its last object was removed meanwhile
        return
    for name, entry in sorted(named, key=lambda pair: pair[0]):
        if not name.endswith("/"):
            if name.startswith(prefix) and name > after:
                yield name, entry
        elif (name.startswith(prefix) or prefix.startswith(name)) and (name > after or after.startswith(name)):
            yield from _walk(Path(entry.path), name, prefix, after)
