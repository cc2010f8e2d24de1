"""Objects in buckets: what `s3://bucket/key` means here. A bucket is a folder of the home, an object a file in it.

The files are obstore's to read and write (whole or not at all); this adds buckets, the keys that are taken, sorted
listings and uploads in parts. A key must be a path a file system can have: no empty, `.` or `..` segment, and none
of it through a symbolic link.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore

from limbeck.errors import Conflict, InvalidInput, UnknownObject

__all__ = ["Found", "Objects"]

CHUNK = 1 << 20
"""Bytes read from a file at a time."""

KEY_BYTES = 1024
"""The longest key S3 takes."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_UPLOAD = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Found:
    """An object, without its bytes."""

    key: str
    size: int
    etag: str
    modified: datetime


class Objects:
    """The buckets under one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def buckets(self) -> list[tuple[str, datetime]]:
        """Every bucket with the time it was made, by name."""
        if not self._root.exists():
            return []
        folders = (path for path in self._root.iterdir() if _BUCKET.fullmatch(path.name) and path.is_dir())
        return sorted((path.name, datetime.fromtimestamp(path.stat().st_ctime, UTC)) for path in folders)

    def make_bucket(self, bucket: str) -> None:
        """Make a bucket; one that is there is left as it is."""
        if not _BUCKET.fullmatch(bucket) or ".." in bucket:
            raise InvalidInput(
                f'bucket "{bucket[:100]}"; expected 3 to 63 of a-z, 0-9, "-" and ".", a letter or digit at both ends'
            )
        self._check_links(bucket)
        (self._root / bucket).mkdir(parents=True, exist_ok=True)

    def check_bucket(self, bucket: str) -> None:
        """Raise `UnknownObject` if there is no such bucket."""
        if not _BUCKET.fullmatch(bucket) or ".." in bucket or not (self._root / bucket).is_dir():
            raise UnknownObject(f'no bucket "{bucket[:100]}"', "NoSuchBucket")
        self._check_links(bucket)

    def remove_bucket(self, bucket: str) -> None:
        """Remove an empty bucket. Raises `Conflict` if objects are in it."""
        if next(iter(self.list(bucket)), None) is not None:
            raise Conflict(f'bucket "{bucket}" is not empty')
        shutil.rmtree(self._root / bucket)

    def put(self, bucket: str, key: str, data: bytes | Iterator[bytes], new: bool = False) -> Found:
        """Store an object whole, or leave what was there. ``new``: raise `Conflict` if it is there already."""
        store = self._store(bucket, key)
        try:
            obstore.put(store, key, data, mode="create" if new else "overwrite")
        except AlreadyExistsError:
            raise Conflict(f'object "{key}" is there already') from None
        except BaseError as error:
            clash = (self._root / bucket / key).is_dir() or any(
                (self._root / bucket / parent).is_file() for parent in list(Path(key).parents)[:-1]
            )
            if not clash:
                raise
            said = (
                f'key "{key}": a folder cannot also be a file here; another key ends or goes on at one of its slashes'
            )
            raise InvalidInput(said) from error
        return self.head(bucket, key)

    def head(self, bucket: str, key: str) -> Found:
        """An object's size, tag and time. Raises `UnknownObject`."""
        store = self._store(bucket, key)
        try:
            meta = obstore.head(store, key)
        except (FileNotFoundError, NotADirectoryError, BaseError):
            raise UnknownObject(f'no object "{key}" in bucket "{bucket}"', "NoSuchKey") from None
        return _found(meta)

    def read(self, bucket: str, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes of an object from ``start`` to before ``end``, in chunks."""
        end = self.head(bucket, key).size if end is None else end
        store = self._store(bucket, key)
        for position in range(start, end, CHUNK):
            yield bytes(obstore.get_range(store, key, start=position, end=min(position + CHUNK, end)))

    def list(self, bucket: str, prefix: str = "") -> Iterator[Found]:
        """The objects whose keys begin with ``prefix``, sorted by the bytes of their keys."""
        self.check_bucket(bucket)
        folder = prefix.rpartition("/")[0]
        if folder and any(part in ("", ".", "..") for part in folder.split("/")):
            return iter(())
        store = LocalStore(self._root / bucket)
        found = [_found(meta) for page in obstore.list(store, folder or None) for meta in page]
        chosen = (one for one in found if one.key.startswith(prefix))
        return iter(sorted(chosen, key=lambda one: one.key.encode()))

    def remove(self, bucket: str, key: str) -> None:
        """Remove an object; one that is not there is no fault, as S3 has it."""
        store = self._store(bucket, key)
        try:
            obstore.delete(store, key)
        except FileNotFoundError:
            return

    def begin_upload(self, bucket: str, key: str) -> str:
        """Begin an upload in parts; gives its id."""
        self._store(bucket, key)
        upload = secrets.token_hex(16)
        (self._root / ".uploads" / upload).mkdir(parents=True)
        return upload

    def put_part(self, upload: str, number: int, data: bytes) -> None:
        """Store one part; a part sent again replaces the earlier one."""
        if not 1 <= number <= 10_000:
            raise InvalidInput(f"part number {number}; expected 1 to 10000")
        obstore.put(LocalStore(self._upload(upload)), f"{number:05}", data)

    def end_upload(self, upload: str, bucket: str, key: str, numbers: Sequence[int]) -> Found:
        """Join the parts ``numbers``, in their order, to the object."""
        folder = self._upload(upload)
        paths = [folder / f"{number:05}" for number in numbers]
        missing = [str(number) for number, path in zip(numbers, paths, strict=True) if not path.exists()]
        if missing or not numbers or list(numbers) != sorted(set(numbers)):
            raise InvalidInput(f"parts missing: {', '.join(missing) or 'all'}; expected parts sent, in ascending order")
        made = self.put(bucket, key, _chunks(paths))
        shutil.rmtree(folder)
        return made

    def drop_upload(self, upload: str) -> None:
        """Forget an upload and its parts."""
        shutil.rmtree(self._upload(upload))

    def _upload(self, upload: str) -> Path:
        folder = self._root / ".uploads" / upload
        if not _UPLOAD.fullmatch(upload) or not folder.is_dir():
            raise UnknownObject("no upload of that id; it was ended or dropped", "NoSuchUpload")
        return folder

    def _store(self, bucket: str, key: str) -> LocalStore:
        """The bucket's store, after a look at ``key``."""
        self.check_bucket(bucket)
        segments = key.split("/")
        unfit = any(part in ("", ".", "..") or len(part.encode()) > 255 for part in segments)
        if unfit or len(key.encode()) > KEY_BYTES or not key.isprintable():
            raise InvalidInput(
                f'key "{key[:200]}"; expected at most {KEY_BYTES} bytes of printable text,'
                " no empty, . or .. between its slashes, at most 255 bytes between two"
            )
        self._check_links(bucket, *segments)
        return LocalStore(self._root / bucket)

    def _check_links(self, *parts: str) -> None:
        path = self._root
        for part in parts:
            path /= part
            if path.is_symlink():
                raise InvalidInput(f"{'/'.join(parts)}: a symbolic link is on the way, which is not followed")


def _found(meta: obstore.ObjectMeta) -> Found:
    return Found(meta["path"], meta["size"], str(meta["e_tag"] or "").strip('"'), meta["last_modified"])


def _chunks(paths: Sequence[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
