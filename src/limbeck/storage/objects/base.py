"""What every store of objects does, and which keys and addresses it takes.

A key must be a path a file system can have: no empty, `.` or `..` segment, no control characters. The same keys are
taken wherever the objects lie, so that what works at home works at an S3 endpoint.
"""

from __future__ import annotations

import os
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO

from limbeck.errors import InvalidInput, UnknownObject
from limbeck.storage.workspace import MANIFEST

__all__ = ["Found", "Objects", "check_bucket_name", "check_key", "is_fit", "parse_uri", "pieces"]

CHUNK = 1 << 20
"""Bytes read from a file at a time."""

KEY_BYTES = 1024
"""The longest key S3 takes."""

SEGMENT_BYTES = 255
"""The longest name a file system takes."""

_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")
_UNFIT = re.compile("[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Control characters, half surrogates and what XML cannot say."""


@dataclass(frozen=True)
class Found:
    """An object, without its bytes."""

    bucket: str
    key: str
    size: int
    etag: str
    """Changes with the content. The MD5 of it where it was put whole, with a dash in it otherwise."""
    modified: datetime
    headers: Mapping[str, str] = field(default_factory=dict)
    """What its client wants told with it: ``content-type``, ``x-amz-meta-…``."""

    @property
    def uri(self) -> str:
        """Its address."""
        return f"s3://{self.bucket}/{self.key}"

    def below(self, uri: str) -> str:
        """Its key below the folder in which ``uri`` is: names alone may be the same."""
        return self.key[parse_uri(uri)[1].rfind("/") + 1 :]


class Objects(ABC):
    """Objects in buckets. Every method raises `InvalidInput` for a key or bucket name that cannot be."""

    @abstractmethod
    def put(self, bucket: str, key: str, data: bytes | Iterable[bytes], *, new: bool = False) -> Found:
        """Store an object whole, or leave what was there. ``new``: raise `Conflict` if it is there already."""

    @abstractmethod
    def head(self, bucket: str, key: str) -> Found:
        """An object's size, tag and time. Raises `UnknownObject`."""

    @abstractmethod
    def read(self, bucket: str, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes of an object from ``start`` to before ``end``, in pieces. Raises `UnknownObject` at once."""

    @abstractmethod
    def list(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[Found]:
        """The objects whose keys begin with ``prefix`` and come after ``after``, in order of their keys' bytes.

        Raises `UnknownObject` at once where there is no such bucket.
        """

    @abstractmethod
    def remove(self, bucket: str, key: str) -> None:
        """Remove an object; one that is not there is no fault, as S3 has it."""

    def local(self, bucket: str, key: str) -> Path | None:
        """The file an object is, for reading in place; None where it is none."""
        return None

    def exists(self, bucket: str, key: str) -> bool:
        """Whether there is such an object."""
        try:
            self.head(bucket, key)
        except UnknownObject:
            return False
        return True

    def find(self, uri: str) -> Iterator[Found]:
        """The objects whose addresses begin with ``uri``."""
        return self.list(*parse_uri(uri))

    def within(self, uri: str) -> Iterator[Found]:
        """The object at ``uri``, or those in that folder; none of a neighbor whose name only begins so."""
        folder = uri.rstrip("/")
        return (one for one in self.find(uri) if one.uri == folder or one.uri.startswith(f"{folder}/"))

    def rows_within(self, uri: str) -> Sequence[Found]:
        """The objects of rows at ``uri`` or below it. Raises `InvalidInput` where there is none."""
        files = tuple(one for one in self.within(uri) if one.key.endswith((".jsonl", ".json")))
        if not files:
            raise InvalidInput(f"{uri}: no .jsonl object is there; expected one, or a folder of them")
        return files

    def fetch(self, uri: str, destination: Path) -> Path:
        """Copy the object at ``uri`` to the file ``destination``, whole or not at all; gives ``destination``."""
        found = self.read(*parse_uri(uri))
        destination.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=destination.parent, prefix=".fetched-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines(found)
                file.flush()
                os.fsync(file.fileno())
            return Path(name).replace(destination)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def publish(self, path: Path, uri: str) -> Found:
        """Copy the file at ``path`` to the object at ``uri``."""
        with path.open("rb") as file:
            return self.put(*parse_uri(uri), pieces(file))

    def publish_tree(self, folder: Path, uri: str) -> None:
        """Copy the files under ``folder`` to objects under ``uri``, its manifest last: once it is there, all is.

        As in a manifest, files whose names begin with a dot stay out; so do symbolic links.
        """
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        for path in sorted(files, key=lambda path: (path == folder / MANIFEST, path)):
            if not path.name.startswith("."):
                self.publish(path, f"{uri.rstrip('/')}/{path.relative_to(folder).as_posix()}")


def parse_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``; the key may be empty or end in a slash, where a prefix is meant."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket:
        raise InvalidInput(f'"{uri[:200]}" is no address of an object; expected s3://BUCKET/KEY')
    check_bucket_name(bucket)
    return bucket, key


def check_bucket_name(bucket: str) -> None:
    """Raise `InvalidInput` unless a bucket may be called so."""
    if not _BUCKET.fullmatch(bucket):
        raise InvalidInput(
            f'bucket "{bucket[:100]}"; expected 3 to 63 of a-z, 0-9, "-" and single ".", a letter or digit at both ends'
        )


def check_key(key: str) -> None:
    """Raise `InvalidInput` unless an object may be called so."""
    if not key:
        raise InvalidInput("no key after the bucket's name; expected s3://BUCKET/KEY, an object in it")
    if key.endswith("/"):
        raise InvalidInput(f"key {key[:200]!r} is a folder's; expected an object's")
    if len(key.encode(errors="replace")) > KEY_BYTES or not all(map(is_fit, key.split("/"))):
        raise InvalidInput(
            f"key {key[:200]!r}; expected at most {KEY_BYTES} bytes without control characters, no empty, . or .."
            f" between its slashes, at most {SEGMENT_BYTES} bytes between two"
        )


def is_fit(segment: str) -> bool:
    """Whether ``segment`` can stand between two slashes of a key."""
    return segment not in ("", ".", "..") and not _UNFIT.search(segment) and len(segment.encode()) <= SEGMENT_BYTES


def pieces(file: IO[bytes], size: int | None = None) -> Iterator[bytes]:
    """What is left of ``file``, or its next ``size`` bytes, a chunk at a time."""
    left = size
    while chunk := file.read(CHUNK if left is None else min(CHUNK, left)):
        yield chunk
        left = None if left is None else left - len(chunk)
