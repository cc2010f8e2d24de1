"""Where invocation logs lie: the gzipped files under a folder or an address, and the large bodies beside them.

A bucket of our own is a folder, so its objects are read where they are. Those of an S3 endpoint are brought, a batch
at a time, into a scratch folder that is emptied again: DuckDB could read them itself only through an extension that it
downloads, and nothing is downloaded here.
"""

from __future__ import annotations

import gzip
import json
import shutil
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from limbeck.errors import InvalidInput, UnknownObject
from limbeck.storage.objects import Objects, parse_uri

__all__ = ["LogFile", "LogFiles", "salvage"]

BATCH_BYTES = 64 << 20
"""Compressed bytes read, or brought, at a time."""

BATCH_FILES = 512

LANES = 8
"""Objects brought at once."""

MOST_BODY_BYTES = 100_000_000
"""A larger body that lies aside is refused unread."""


@dataclass(frozen=True)
class LogFile:
    """One file of records."""

    name: str
    """As it is told: its key, or its path under the folder."""
    size: int
    path: Path | None
    """Where it can be read; None where it must be brought first."""


class LogFiles:
    """The files of a log, in the order of their names. ``uri`` is ``s3://BUCKET/PREFIX`` or a folder."""

    def __init__(self, uri: str, objects: Objects | None) -> None:
        self.uri, self._objects = uri, objects
        self._bucket = parse_uri(uri)[0] if uri.startswith("s3://") else None
        self._folder = Path(uri)
        self.files = self._found()
        if not self.files:
            raise InvalidInput(f"{uri}: no invocation log; expected objects that end in .json.gz outside data/")

    def _found(self) -> list[LogFile]:
        if self._bucket is None:
            if not self._folder.is_dir():
                raise InvalidInput(
                    f"{self.uri}: no such folder; expected one that holds AWSLogs, or s3://BUCKET/PREFIX"
                )
            paths = [(path.relative_to(self._folder).as_posix(), path) for path in self._folder.rglob("*.json.gz")]
            return [LogFile(name, path.stat().st_size, path) for name, path in sorted(paths) if _is_log(name)]
        if self._objects is None:
            raise InvalidInput(f"{self.uri}: no store of objects; expected a folder")
        objects = self._objects
        return [
            LogFile(found.key, found.size, objects.local(found.bucket, found.key))
            for found in objects.find(self.uri)
            if _is_log(found.key)
        ]

    def batches(self) -> Iterator[list[int]]:
        """The places of the files, some at a time."""
        batch: list[int] = []
        weight = 0
        for place, file in enumerate(self.files):
            if batch and (weight + file.size > BATCH_BYTES or len(batch) >= BATCH_FILES):
                yield batch
                batch, weight = [], 0
            batch.append(place)
            weight += file.size
        if batch:
            yield batch

    @contextmanager
    def at_hand(self, places: Sequence[int], scratch: Path) -> Iterator[dict[str, int]]:
        """Paths at which these files can be read while the context lasts, with the place of each."""
        brought = scratch / "brought"
        far = [place for place in places if self.files[place].path is None]
        try:
            if far:
                brought.mkdir(parents=True, exist_ok=True)
                with ThreadPoolExecutor(LANES) as lanes:
                    list(lanes.map(lambda place: self._bring(place, brought), far))
            yield {str(self.files[place].path or brought / f"{place}.json.gz"): place for place in places}
        finally:
            if far:
                shutil.rmtree(brought, ignore_errors=True)

    def _bring(self, place: int, folder: Path) -> None:
        assert self._bucket is not None and self._objects is not None, "only objects are brought"
        with (folder / f"{place}.json.gz").open("wb") as file:
            file.writelines(self._objects.read(self._bucket, self.files[place].name))

    def body(self, address: str) -> Any:
        """A body that lies aside. Raises `InvalidInput` if it is not there, not JSON, or not beside this log.

        A record names its own bodies, and may say anything: only what lies under a ``data/`` of the same bucket, or
        of the same folder, is read.
        """
        bucket, key = parse_uri(address)
        if "data" not in PurePosixPath(key).parts[:-1] or self._bucket not in (None, bucket):
            raise InvalidInput(f"{address} does not lie beside the log")
        try:
            if self._bucket is None:
                raw = self._beside(key).read_bytes()
            else:
                assert self._objects is not None, "checked when the files were listed"
                raw = b"".join(self._objects.read(bucket, key))
            reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
            text = reader.decompress(raw, MOST_BODY_BYTES) if raw[:2] == b"\x1f\x8b" else raw
            if len(text) >= MOST_BODY_BYTES:
                raise InvalidInput(f"{address} holds over {MOST_BODY_BYTES:,} bytes")
            return json.loads(text)
        except (UnknownObject, FileNotFoundError):
            raise InvalidInput(f"{address} is not there") from None
        except (OSError, ValueError, EOFError, zlib.error, RecursionError):
            raise InvalidInput(f"{address} is damaged") from None

    def _beside(self, key: str) -> Path:
        """The file of a copied log that was the object ``key``: below the folder by the longest end of the key."""
        parts = PurePosixPath(key.lstrip("/")).parts
        if ".." in parts:
            raise InvalidInput(f"{key} does not lie beside the log")
        for start in range(len(parts)):
            path = self._folder.joinpath(*parts[start:])
            if "data" in parts[start:-1] and path.is_file():
                return path
        raise FileNotFoundError(key)


def _is_log(name: str) -> bool:
    return name.endswith(".json.gz") and "data" not in PurePosixPath(name).parts[:-1]


def salvage(path: Path, to: Path, most: int) -> bool:
    """Copy the lines of a gzipped file that can still be read, uncompressed, to ``to``; whether all of them could.

    A line longer than ``most`` bytes becomes ``null``. Raises `InvalidInput` for a file that may not be read: what is
    in it is not lost.
    """
    with to.open("wb") as kept:
        try:
            with gzip.open(path, "rb") as file:
                while line := file.readline(most + 1):
                    if len(line) <= most:
                        kept.write(line)
                        continue
                    kept.write(b"null\n")
                    while line and not line.endswith(b"\n"):
                        line = file.readline(most)
            return path.stat().st_size > 0  # gzip takes nothing for a file of nothing
        except PermissionError as error:
            raise InvalidInput(f"{path}: {error.strerror}; expected a file of the log that can be read") from None
        except (OSError, EOFError, zlib.error):
            return False
