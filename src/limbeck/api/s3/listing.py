"""A page of a listing of keys, and the marks by which a client asks for the next."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from limbeck.api.s3.answers import iso
from limbeck.api.xml import Element, element
from limbeck.errors import InvalidInput
from limbeck.storage.objects import Buckets, Found

__all__ = ["PAGE", "Page", "count", "hide", "unhide"]

PAGE = 1000
"""Keys on a page of a listing or in one DeleteObjects, at most: S3's own number."""

LAST = "\U0010ffff"
"""Behind a prefix, sorts after every key with that prefix."""


class Page:
    """A page of a listing: keys, and in place of keys with the delimiter behind the prefix what they share, once."""

    def __init__(self, buckets: Buckets, bucket: str, query: Mapping[str, str], after: str) -> None:
        self._bucket, self._query = bucket, query
        self._prefix, self._delimiter = query.get("prefix", ""), query.get("delimiter", "")
        self._size = count(query, "max-keys", PAGE)
        if self._delimiter and after.endswith(self._delimiter) and len(after) > len(self._prefix):
            after += LAST
        found = self._groups(buckets.list(bucket, self._prefix, after))
        self.shown = [one for _, one in zip(range(self._size), found, strict=False)]
        self.truncated = self._size > 0 and next(found, None) is not None

    def say(self, text: str) -> str:
        """A key or prefix as the client wants it written."""
        return quote(text, safe="/") if self._query.get("encoding-type") == "url" else text

    def head(self) -> list[Element | None]:
        """What was asked, and whether there is more."""
        url = self._query.get("encoding-type") == "url"
        return [
            element("Name", self._bucket),
            element("Prefix", self.say(self._prefix)),
            element("Delimiter", self.say(self._delimiter)) if self._delimiter else None,
            element("MaxKeys", str(self._size)),
            element("EncodingType", "url") if url else None,
            element("IsTruncated", str(self.truncated).lower()),
        ]

    def rows(self, name: str, *more: Element) -> Iterator[Element]:
        """An element called ``name`` for each object, one for each shared prefix."""
        for key, found in self.shown:
            if found is None:
                yield element("CommonPrefixes", element("Prefix", self.say(key)))
            else:
                yield element(
                    name,
                    element("Key", self.say(key)),
                    *more,
                    element("LastModified", iso(found.modified)),
                    element("ETag", f'"{found.etag}"'),
                    element("Size", str(found.size)),
                    element("StorageClass", "STANDARD"),
                )

    def _groups(self, found: Iterator[Found]) -> Iterator[tuple[str, Found | None]]:
        last = None
        for one in found:
            rest = one.key[len(self._prefix) :]
            head, cut, _ = rest.partition(self._delimiter) if self._delimiter else (rest, "", "")
            if not cut:
                yield one.key, one
            elif (common := f"{self._prefix}{head}{cut}") != last:
                last = common
                yield common, None


def count(query: Mapping[str, str], name: str, most: int) -> int:
    """How many a page is to hold, ``most`` at most. Raises `InvalidInput` for what is no number."""
    asked = query.get(name, str(most))
    if not re.fullmatch("[0-9]{1,9}", asked):
        raise InvalidInput(f'{name} "{asked[:40]}"; expected a whole number from 0')
    return min(int(asked), most)


def hide(key: str) -> str:
    """A continuation token after ``key``."""
    return base64.urlsafe_b64encode(key.encode()).decode()


def unhide(token: str) -> str:
    """The key of a continuation token. Raises `InvalidInput` for one that is none of ours."""
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        raise InvalidInput("continuation-token is none of ours") from None
