"""What a request says: which object, with what body, under which conditions."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Mapping
from email.utils import format_datetime
from io import BytesIO
from typing import IO
from urllib.parse import unquote

from limbeck.api import checksums
from limbeck.api.s3.answers import Fault
from limbeck.storage.objects import Found
from limbeck.wire.exchange import Request

__all__ = ["address", "body", "check_version", "document", "kept", "operation", "reading", "span"]

DOCUMENT_BYTES = 4_000_000
"""The largest XML a client may send: a thousand of the longest keys, escaped."""

PARAMETERS = {
    *("prefix", "delimiter", "marker", "max-keys", "encoding-type", "list-type", "start-after", "continuation-token"),
    *("fetch-owner", "key-marker", "version-id-marker", "versionId", "partNumber", "x-id"),
}
"""Names of a query that say how; any other says what is done, and chooses the operation."""

KEPT = ("content-type", "content-encoding", "content-disposition", "content-language", "cache-control", "expires")
"""Headers of a put that are told again with a get, as are those of `x-amz-meta-`."""


def address(request: Request) -> tuple[str, str]:
    """Bucket and key, from the path, or the bucket from a host like ``bucket.localhost``."""
    try:
        path = unquote(request.raw_path.removeprefix("/"), errors="strict")
    except UnicodeDecodeError:
        raise Fault("InvalidURI", 400, "the address is not UTF-8") from None
    host = request.headers.get("host", "").partition(":")[0]
    if host.endswith(".localhost"):
        return host.removesuffix(".localhost"), path
    bucket, _, key = path.partition("/")
    return bucket, key


def operation(request: Request) -> str:
    """What is done, as the names of the query say; empty for what is commonest with a method."""
    names = (name for name in request.query if name not in PARAMETERS and not name.lower().startswith("x-amz-"))
    return ",".join(sorted(names))


def body(request: Request) -> IO[bytes]:
    """The body, from its beginning."""
    file = request.file or BytesIO(request.body)
    file.seek(0)
    return file


def document(request: Request) -> bytes:
    """The body, where it is a document to be held in memory, checked."""
    file = body(request)
    checksums.check(request.headers, file)
    file.seek(0)
    found = file.read(DOCUMENT_BYTES + 1)
    if len(found) > DOCUMENT_BYTES:
        raise Fault("EntityTooLarge", 400, f"the document is over {DOCUMENT_BYTES:,} bytes")
    return found


def kept(headers: Mapping[str, str]) -> dict[str, str]:
    """What of a put's headers is kept with the object."""
    found = {name: text for name, text in headers.items() if name in KEPT or name.startswith("x-amz-meta-")}
    coding = [one.strip() for one in found.pop("content-encoding", "").split(",")]
    coding = [one for one in coding if one not in ("", "aws-chunked")]
    return {**found, "content-encoding": ",".join(coding)} if coding else found


def check_version(request: Request) -> None:
    """Raise `Fault` where another version is asked for than the one there is."""
    version = request.query.get("versionId", "null")
    if version != "null":
        raise Fault("NoSuchVersion", 404, f'no version "{version[:60]}"; there is one, null')


def reading(found: Found, headers: Mapping[str, str]) -> tuple[int, int, int, dict[str, str]]:
    """Status, start, end and headers of a get. Raises `Fault` where the client's conditions do not hold."""
    about = {
        "content-type": mimetypes.guess_type(found.key)[0] or "binary/octet-stream",
        **found.headers,
        "etag": f'"{found.etag}"',
        "last-modified": format_datetime(found.modified, usegmt=True),
        "accept-ranges": "bytes",
    }
    tags = (f'"{found.etag}"', found.etag, "*")
    if headers.get("if-match", "*") not in tags:
        raise Fault("PreconditionFailed", 412, f'object "{found.key}" has changed: its tag is "{found.etag}"')
    if headers.get("if-none-match") in tags:
        return 304, 0, 0, about
    status, start, end = 200, 0, found.size
    if "range" in headers:
        status, (start, end) = 206, span(headers["range"], found.size)
        about["content-range"] = f"bytes {start}-{end - 1}/{found.size}"
    about["content-length"] = str(end - start)
    return status, start, end, about


def span(text: str, size: int) -> tuple[int, int]:
    """Start, and one behind the end (RFC 9110, section 14.1.2; a single range)."""
    found = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", text.strip())
    if found is None or found.groups() == ("", ""):
        raise Fault("InvalidRange", 416, f'range "{text[:80]}"; expected bytes=FIRST-LAST')
    first, last = found.groups()
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1 if last else size, size)
    if start >= end:
        raise Fault("InvalidRange", 416, f'range "{text[:80]}" of an object of {size} bytes')
    return start, end
