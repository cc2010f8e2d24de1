"""Buckets of an S3-compatible server, by obstore: the same `Objects` where the files are somebody else's.

A server that is away or refuses our key is a `StorageFailed` that names the endpoint, never the secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from limbeck.errors import Conflict, StorageFailed, UnknownObject
from limbeck.settings import S3Endpoint
from limbeck.storage.objects.base import CHUNK, Found, Objects, check_bucket_name, check_key, is_fit

__all__ = ["Endpoint"]

RETRIES = 3
RETRY_TIME = timedelta(seconds=10)
"""How long a server that is away is asked again: long enough for a restart of a proxy, short enough to be told."""

_REFUSALS = (PermissionDeniedError, UnauthenticatedError)


class Endpoint(Objects):
    """The buckets of one server."""

    def __init__(self, server: S3Endpoint) -> None:
        self._server = server
        self._stores: dict[str, S3Store] = {}

    def put(self, bucket: str, key: str, data: bytes | Iterable[bytes], *, new: bool = False) -> Found:
        """See `Objects.put`. ``new`` is as good as the server's If-None-Match, which not every server heeds."""
        store = self._store(bucket, key)
        if new and self.exists(bucket, key):
            raise Conflict(f'object "{key}" is there already')
        with self._asking(bucket, key):
            obstore.put(
                store, key, data, mode="create" if new else "overwrite", use_multipart=not isinstance(data, bytes)
            )
        return self.head(bucket, key)

    def head(self, bucket: str, key: str) -> Found:
        """See `Objects.head`."""
        store = self._store(bucket, key)
        with self._asking(bucket, key):
            return _found(bucket, obstore.head(store, key))

    def read(self, bucket: str, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See `Objects.read`."""
        size = self.head(bucket, key).size
        end = size if end is None else min(end, size)

        def found() -> Iterator[bytes]:
            if start < end:
                with self._asking(bucket, key):
                    got = obstore.get(self._store(bucket, key), key, options={"range": (start, end)})
                    for piece in got.stream(min_chunk_size=CHUNK):
                        yield bytes(piece)

        return found()

    def list(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[Found]:
        """See `Objects.list`."""
        store = self._store(bucket)
        folder = prefix.rpartition("/")[0]

        def found() -> Iterator[Found]:
            if folder and not all(map(is_fit, folder.split("/"))):
                return
            with self._asking(bucket):
                for page in obstore.list(store, folder or None, offset=after or None):
                    for meta in page:
                        if meta["path"].startswith(prefix) and meta["path"] > after:
                            yield _found(bucket, meta)

        return found()

    def remove(self, bucket: str, key: str) -> None:
        """See `Objects.remove`."""
        store = self._store(bucket, key)
        try:
            with self._asking(bucket, key):
                obstore.delete(store, key)
        except UnknownObject:
            return

    def _store(self, bucket: str, key: str | None = None) -> S3Store:
        check_bucket_name(bucket)
        if key is not None:
            check_key(key)
        if bucket not in self._stores:
            self._stores[bucket] = S3Store(
                bucket,
                endpoint=self._server.url,
                access_key_id=self._server.access_key_id,
                secret_access_key=self._server.secret_access_key,
                region=self._server.region,
                virtual_hosted_style_request=False,
                client_options={"allow_http": self._server.url.startswith("http://")},
                retry_config={"max_retries": RETRIES, "retry_timeout": RETRY_TIME},
            )
        return self._stores[bucket]

    @contextmanager
    def _asking(self, bucket: str, key: str = "") -> Iterator[None]:
        """Tell the server's refusals in our words; its own may be long and hold what it was sent."""
        place = f"{self._server.url}/{bucket}/{key}"
        try:
            yield
        except (FileNotFoundError, NotFoundError):
            if key:
                raise UnknownObject(f'no object "{key}" in bucket "{bucket}"', "NoSuchKey") from None
            raise UnknownObject(f'no bucket "{bucket}"', "NoSuchBucket") from None
        except (AlreadyExistsError, FileExistsError):
            raise Conflict(f'object "{key}" is there already') from None
        except BaseError as error:
            # A listing's refusal comes as a GenericError; only its text says which.
            said = str(error)
            if "NoSuchBucket" in said:
                raise UnknownObject(f'no bucket "{bucket}"', "NoSuchBucket") from None
            if isinstance(error, _REFUSALS) or "403 Forbidden" in said or "401 Unauthorized" in said:
                raise StorageFailed(f"{place}: the server refuses our key; see LIMBECK_S3_ACCESS_KEY_ID") from None
            kind = type(error).__name__
            raise StorageFailed(f"{place}: {kind}; is the server there? see LIMBECK_S3_ENDPOINT") from None


def _found(bucket: str, meta: obstore.ObjectMeta) -> Found:
    etag = str(meta["e_tag"] or "").strip('"')
    return Found(bucket, meta["path"], meta["size"], etag, meta["last_modified"])
