"""What a request says: which object, with what body, under which conditions."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from io import BytesIO
from typing import IO, TypedDict
from urllib.parse import unquote

from limbeck.api import checksums
from limbeck.api.s3.answers import Fault, absent
from limbeck.storage.objects import Found
from limbeck.wire.exchange import Request

__all__ = [
    "Condition",
    "address",
    "body",
    "check_done",
    "check_version",
    "document",
    "has_changed",
    "kept",
    "operation",
    "reading",
    "span",
    "tag",
    "writing",
]

DOCUMENT_BYTES = 4_000_000
"""The largest XML a client may send: a thousand of the longest keys, escaped."""

SAID_BY_QUERY = {
    f"response-{name}": name
    for name in (
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
    )
}
"""Names of a query that say what a get tells in place of what was kept."""

NOT_DONE = ("x-amz-write-offset-bytes", "x-amz-if-match-last-modified-time", "x-amz-if-match-size")
"""Headers that change what an operation does, and that are not heeded here."""

PARAMETERS = {
    *SAID_BY_QUERY,
    *("max-buckets", "bucket-region"),
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


class Condition(TypedDict):
    """Under which condition an object is put, as `Buckets.put` takes it."""

    new: bool
    instead_of: str | None


def writing(headers: Mapping[str, str]) -> Condition:
    """The condition of a put. Raises `Fault` for one that is not done."""
    unless = headers.get("if-none-match")
    if unless not in (None, "*"):
        raise Fault("NotImplemented", 501, f"If-None-Match: {unless[:80]} where something is put; expected *")
    return {"new": unless is not None, "instead_of": tag(headers)}


def tag(headers: Mapping[str, str]) -> str | None:
    """The one tag that an object must have to be replaced or removed, if one is named."""
    return headers.get("if-match", "").strip().strip('"') or None


def check_done(request: Request) -> None:
    """Raise `Fault` for a header that asks for what is not done here."""
    for name in NOT_DONE:
        if name in request.headers:
            raise absent(request, name)


def check_version(request: Request) -> None:
    """Raise `Fault` where another version is asked for than the one there is."""
    version = request.query.get("versionId", "null")
    if version != "null":
        raise Fault("NoSuchVersion", 404, f'no version "{version[:60]}"; there is one, null')


def reading(found: Found, request: Request) -> tuple[int, int, int, dict[str, str]]:
    """Status, start, end and headers of a get. Raises `Fault` where the client's conditions do not hold."""
    headers = request.headers
    about = {
        "content-type": mimetypes.guess_type(found.key)[0] or "binary/octet-stream",
        **found.headers,
        **_said(request.query),
        "etag": f'"{found.etag}"',
        "last-modified": format_datetime(found.modified, usegmt=True),
        "accept-ranges": "bytes",
    }
    if not has_changed(found, headers):
        return 304, 0, 0, about
    status, start, end = 200, 0, found.size
    if "range" in headers:
        status, (start, end) = 206, span(headers["range"], found.size)
        about["content-range"] = f"bytes {start}-{end - 1}/{found.size}"
    about["content-length"] = str(end - start)
    return status, start, end, about


def has_changed(found: Found, headers: Mapping[str, str], prefix: str = "") -> bool:
    """Whether an object is another than the client says it knows (RFC 9110, section 13.2.2).

    ``prefix`` begins the names of the headers where they speak of the source of a copy. Raises `Fault` where the object
    is not the one the client wants.
    """
    wanted, known = headers.get(f"{prefix}if-match"), headers.get(f"{prefix}if-none-match")
    until, since = (_moment(headers.get(f"{prefix}if-{word}-since")) for word in ("unmodified", "modified"))
    modified = found.modified.replace(microsecond=0)  # as it is told
    is_wanted = _names(wanted, found) if wanted is not None else until is None or modified <= until
    if not is_wanted:
        raise Fault("PreconditionFailed", 412, f'object "{found.key}" has changed: its tag is "{found.etag}"')
    return not _names(known, found) if known is not None else since is None or modified > since


def _said(query: Mapping[str, str]) -> dict[str, str]:
    """What a query wants told of an object. Raises `Fault` for what no header can hold."""
    found = {header: query[name] for name, header in SAID_BY_QUERY.items() if name in query}
    for header, text in found.items():
        if not re.fullmatch("[\x20-\x7e\xa0-\xff]*", text):
            raise Fault(
                "InvalidArgument", 400, f"response-{header}: {text[:80]!r}; expected what a header of HTTP can hold"
            )
    return found


def _names(tags: str, found: Found) -> bool:
    """Whether the tag of ``found`` is among those of a header."""
    return any(one.strip().removeprefix("W/").strip('"') in ("*", found.etag) for one in tags.split(","))


def _moment(text: str | None) -> datetime | None:
    """A time as HTTP has it; None for none, and for what is no time, which HTTP has nobody heed."""
    try:
        found = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


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
