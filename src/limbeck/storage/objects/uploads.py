"""Uploads in parts: each part a file of its upload's folder until the last call joins them to one object."""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from limbeck.errors import InvalidInput, UnknownObject
from limbeck.storage.objects.base import Found, pieces
from limbeck.storage.objects.buckets import Buckets
from limbeck.storage.workspace import read_json, write_json

__all__ = ["Uploads"]

ID_BYTES = 16
_ID = re.compile(f"[0-9a-f]{{{2 * ID_BYTES}}}")

PARTS = 10_000
"""The parts an upload may have: S3's own number."""

ABANDONED_SECONDS = 7 * 24 * 3600
"""An upload nobody touched for so long is forgotten: it would never be ended."""


class Uploads:
    """Uploads into ``buckets``, kept beside them."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._root = buckets.root / ".uploads"

    def begin(self, bucket: str, key: str, headers: Mapping[str, str] | None = None) -> str:
        """Begin an upload; gives its id."""
        self._buckets.path(bucket, key)
        self._forget_abandoned()
        upload = secrets.token_hex(ID_BYTES)
        about = {"bucket": bucket, "key": key, "headers": dict(headers or {})}
        write_json(self._root / upload / "upload.json", about)
        return upload

    def put_part(self, upload: str, bucket: str, key: str, number: int, data: Iterable[bytes]) -> str:
        """Store one part and give its tag; a part sent again replaces the earlier one."""
        if not 1 <= number <= PARTS:
            raise InvalidInput(f"part number {number}; expected 1 to {PARTS}")
        folder = self._folder(upload, bucket, key)
        md5 = hashlib.md5(usedforsecurity=False)
        with self._buckets.writing() as name:
            with name.open("wb") as file:
                for piece in data:
                    file.write(piece)
                    md5.update(piece)
            before = list(folder.glob(f"{number:05}.*"))
            made = name.replace(folder / f"{number:05}.{md5.hexdigest()}")
        for path in before:
            if path != made:
                path.unlink(missing_ok=True)
        return md5.hexdigest()

    def end(
        self,
        upload: str,
        bucket: str,
        key: str,
        parts: Sequence[tuple[int, str]],
        *,
        new: bool = False,
        instead_of: str | None = None,
    ) -> Found:
        """Join ``parts`` (numbers and tags, in order) to the object; the conditions are those of `Buckets.put`."""
        folder = self._folder(upload, bucket, key)
        numbers = [number for number, _ in parts]
        if not numbers or numbers != sorted(set(numbers)):
            raise InvalidInput("the parts of an upload must be named, each once, in ascending order")
        paths = [folder / f"{number:05}.{etag}" for number, etag in parts]
        sent = set(folder.glob("?????.*"))
        missing = [str(number) for number, path in zip(numbers, paths, strict=True) if path not in sent]
        if missing:
            raise InvalidInput(f"parts that were not sent, or with another tag: {', '.join(missing)}")
        digests = b"".join(bytes.fromhex(etag) for _, etag in parts)
        etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
        headers = read_json(folder / "upload.json")["headers"]
        made = self._buckets.put(
            bucket, key, _joined(paths), new=new, instead_of=instead_of, etag=etag, headers=headers
        )
        shutil.rmtree(folder)
        return made

    def drop(self, upload: str, bucket: str, key: str) -> None:
        """Forget an upload and its parts."""
        shutil.rmtree(self._folder(upload, bucket, key))

    def _folder(self, upload: str, bucket: str, key: str) -> Path:
        folder = self._root / upload
        if _ID.fullmatch(upload) and (folder / "upload.json").is_file():
            about = read_json(folder / "upload.json")
            if (about["bucket"], about["key"]) == (bucket, key):
                return folder
        raise UnknownObject(f'no upload of that id to "{key}"; it was ended or dropped', "NoSuchUpload")

    def _forget_abandoned(self) -> None:
        oldest = time.time() - ABANDONED_SECONDS
        for path in (*self._root.glob("*"), *(self._buckets.root / ".incoming").glob("*")):
            with suppress(FileNotFoundError):  # ended, or put in its place, meanwhile
                if path.stat().st_mtime >= oldest:
                    continue
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()


def _joined(paths: Sequence[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            yield from pieces(file)
