"""A small S3, so that a notebook's `boto3.client("s3")` puts and gets work against the same endpoint.

Buckets (make, list, head, remove), objects (put, get with ranges, head, copy, delete, delete many, both listings) and
uploads in parts. Bucket policies are taken and have no effect: who may call is the access keys' matter. What is not
here answers NotImplemented.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import mimetypes
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from email.utils import format_datetime
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from limbeck.api.exchange import Request, Response
from limbeck.errors import Conflict, InvalidInput, LimbeckError
from limbeck.storage.objects import Found, Objects

__all__ = ["S3", "Request"]

PAGE = 1000
"""Keys on a page of a listing, at most: S3's own number."""

IGNORED = ("policy", "publicAccessBlock", "ownershipControls", "tagging", "encryption", "versioning", "cors", "acl")
"""Settings of a bucket that a client may put and that change nothing here."""


class S3:
    """The operations, over one folder of buckets."""

    def __init__(self, objects: Objects, region: str) -> None:
        self._objects, self._region = objects, region

    def answer(self, request: Request, request_id: str) -> Response:
        """Do what ``request`` asks. Faults come back in S3's XML."""
        bucket, key = _address(request)
        try:
            if not bucket:
                return self._buckets()
            return self._bucket(bucket, request) if not key else self._object(bucket, key, request)
        except _Fault as fault:
            return _error(fault.code, fault.status, str(fault), request_id)
        except LimbeckError as error:
            code = getattr(error, "code", {Conflict: "BucketNotEmpty"}.get(type(error), "InvalidArgument"))
            status = 409 if isinstance(error, Conflict) else error.status
            return _error(code, status, str(error), request_id)

    def _buckets(self) -> Response:
        rows = (
            f"<Bucket><Name>{name}</Name><CreationDate>{_iso(made)}</CreationDate></Bucket>"
            for name, made in self._objects.buckets()
        )
        owner = "<Owner><ID>limbeck</ID><DisplayName>limbeck</DisplayName></Owner>"
        return _xml("ListAllMyBucketsResult", f"{owner}<Buckets>{''.join(rows)}</Buckets>")

    def _bucket(self, bucket: str, request: Request) -> Response:
        query = request.query
        if request.method == "POST" and "delete" in query:
            return self._remove_many(bucket, request.body)
        setting = next((name for name in IGNORED if name in query), None)
        if setting and request.method in ("PUT", "DELETE"):
            self._objects.check_bucket(bucket)
            return Response(204, b"", {})
        if request.method == "PUT" and not query:
            self._objects.make_bucket(bucket)
            return Response(200, b"", {"location": f"/{bucket}"})
        if request.method == "HEAD":
            self._objects.check_bucket(bucket)
            return Response(200, b"", {"x-amz-bucket-region": self._region})
        if request.method == "DELETE" and not query:
            self._objects.remove_bucket(bucket)
            return Response(204, b"", {})
        if request.method == "GET" and "location" in query:
            self._objects.check_bucket(bucket)
            return _xml("LocationConstraint", "" if self._region == "us-east-1" else self._region)
        if request.method == "GET" and not setting and "uploads" not in query:
            return self._list(bucket, query)
        raise _absent(request)

    def _object(self, bucket: str, key: str, request: Request) -> Response:
        method, query = request.method, request.query
        if method in ("GET", "HEAD") and not {"uploadId", "acl", "tagging"} & set(query):
            return self._get(bucket, key, request.headers, method == "HEAD")
        if method == "PUT" and "uploadId" in query:
            _check_sums(request)
            number = query.get("partNumber", "")
            self._objects.put_part(query["uploadId"], int(number) if number.isdecimal() else 0, request.body)
            return Response(200, b"", {"etag": f'"{hashlib.sha256(request.body).hexdigest()[:32]}"'})
        if method == "PUT" and "x-amz-copy-source" in request.headers:
            return self._copy(bucket, key, request.headers["x-amz-copy-source"])
        if method == "PUT" and not query.keys() - {"x-id"}:
            _check_sums(request)
            new = request.headers.get("if-none-match") == "*"
            try:
                made = self._objects.put(bucket, key, request.body, new)
            except Conflict as error:
                raise _Fault("PreconditionFailed", 412, str(error)) from None
            return Response(200, b"", {"etag": f'"{made.etag}"'})
        if method == "DELETE" and "uploadId" in query:
            self._objects.drop_upload(query["uploadId"])
            return Response(204, b"", {})
        if method == "DELETE" and not query.keys() - {"x-id"}:
            self._objects.remove(bucket, key)
            return Response(204, b"", {})
        if method == "POST" and "uploads" in query:
            upload = self._objects.begin_upload(bucket, key)
            named = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{upload}</UploadId>"
            return _xml("InitiateMultipartUploadResult", named)
        if method == "POST" and "uploadId" in query:
            numbers = [int(text) for text in _texts(request.body, "PartNumber") if text.isdecimal()]
            made = self._objects.end_upload(query["uploadId"], bucket, key, numbers)
            named = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><ETag>&quot;{made.etag}&quot;</ETag>"
            return _xml("CompleteMultipartUploadResult", named)
        raise _absent(request)

    def _get(self, bucket: str, key: str, headers: Mapping[str, str], head: bool) -> Response:
        found = self._objects.head(bucket, key)
        about = {
            "etag": f'"{found.etag}"',
            "last-modified": format_datetime(found.modified, usegmt=True),
            "content-type": mimetypes.guess_type(key)[0] or "binary/octet-stream",
            "accept-ranges": "bytes",
        }
        if headers.get("if-none-match") in (f'"{found.etag}"', "*"):
            return Response(304, b"", about)
        if headers.get("if-match") not in (None, f'"{found.etag}"', "*"):
            raise _Fault("PreconditionFailed", 412, f'object "{key}" has changed: its tag is "{found.etag}"')
        start, end = 0, found.size
        status = 200
        if "range" in headers:
            start, end = _range(headers["range"], found.size)
            about["content-range"] = f"bytes {start}-{end - 1}/{found.size}"
            status = 206
        about["content-length"] = str(end - start)
        return Response(status, b"", about, iter(()) if head else self._objects.read(bucket, key, start, end))

    def _copy(self, bucket: str, key: str, source: str) -> Response:
        from_bucket, _, from_key = unquote(source.split("?")[0]).lstrip("/").partition("/")
        size = self._objects.head(from_bucket, from_key).size
        made = self._objects.put(bucket, key, self._objects.read(from_bucket, from_key, 0, size))
        dated = f"<LastModified>{_iso(made.modified)}</LastModified><ETag>&quot;{made.etag}&quot;</ETag>"
        return _xml("CopyObjectResult", dated)

    def _remove_many(self, bucket: str, body: bytes) -> Response:
        rows = []
        for key in _texts(body, "Key"):
            try:
                self._objects.remove(bucket, key)
                rows.append(f"<Deleted><Key>{escape(key)}</Key></Deleted>")
            except InvalidInput as error:
                said = f"<Code>InvalidArgument</Code><Message>{escape(str(error))}</Message>"
                rows.append(f"<Error><Key>{escape(key)}</Key>{said}</Error>")
        return _xml("DeleteResult", "".join(rows))

    def _list(self, bucket: str, query: Mapping[str, str]) -> Response:
        second = query.get("list-type") == "2"
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("start-after", "") if second else query.get("marker", "")
        if query.get("continuation-token"):
            after = _unhide(query["continuation-token"])
        asked = query.get("max-keys", str(PAGE))
        if not asked.isdecimal():
            raise InvalidInput(f'max-keys "{asked[:40]}"; expected a whole number from 0')
        size = min(int(asked), PAGE)
        groups = _groups(self._objects.list(bucket, prefix), prefix, delimiter)
        after_bytes = after.encode()
        later = [(name, one) for name, one in groups if name.encode() > after_bytes]
        shown, truncated = later[:size], len(later) > size and size > 0
        write: Callable[[str], str] = escape
        parts = [f"<Name>{bucket}</Name><MaxKeys>{size}</MaxKeys><IsTruncated>{str(truncated).lower()}</IsTruncated>"]
        if query.get("encoding-type") == "url":
            write = _quoted
            parts.append("<EncodingType>url</EncodingType>")
        parts.append(f"<Prefix>{write(prefix)}</Prefix>")
        if delimiter:
            parts.append(f"<Delimiter>{write(delimiter)}</Delimiter>")
        if second:
            parts.append(f"<KeyCount>{len(shown)}</KeyCount>")
            if truncated:
                token = base64.urlsafe_b64encode(shown[-1][0].encode()).decode()
                parts.append(f"<NextContinuationToken>{token}</NextContinuationToken>")
        elif truncated:
            parts.append(f"<NextMarker>{write(shown[-1][0])}</NextMarker>")
        for name, one in shown:
            if one is None:
                parts.append(f"<CommonPrefixes><Prefix>{write(name)}</Prefix></CommonPrefixes>")
            else:
                dated = f"<LastModified>{_iso(one.modified)}</LastModified><ETag>&quot;{one.etag}&quot;</ETag>"
                sized = f"<Size>{one.size}</Size><StorageClass>STANDARD</StorageClass>"
                parts.append(f"<Contents><Key>{write(name)}</Key>{dated}{sized}</Contents>")
        return _xml("ListBucketResult", "".join(parts))


class _Fault(Exception):
    """A fault under a name of S3's own."""

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(message)
        self.code, self.status = code, status


def _absent(request: Request) -> _Fault:
    asked = ", ".join(sorted(request.query))[:100]
    return _Fault("NotImplemented", 501, f"{request.method} with [{asked}] is not done here")


def _address(request: Request) -> tuple[str, str]:
    """Bucket and key, from the path, or the bucket from a host like ``bucket.localhost``."""
    path = unquote(request.raw_path.removeprefix("/"))
    host = request.headers.get("host", "").partition(":")[0]
    if host.endswith(".localhost"):
        return host.removesuffix(".localhost"), path
    bucket, _, key = path.partition("/")
    return bucket, key


def _groups(found: Iterable[Found], prefix: str, delimiter: str) -> Iterator[tuple[str, Found | None]]:
    """Keys, and in place of keys with ``delimiter`` behind ``prefix`` what they have in common, once."""
    last = None
    for one in found:
        head, cut, _ = one.key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        if not cut:
            yield one.key, one
        elif (common := f"{prefix}{head}{cut}") != last:
            last = common
            yield common, None


def _range(text: str, size: int) -> tuple[int, int]:
    """Start, and one behind the end (RFC 9110, section 14.1.2; a single range)."""
    found = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", text.strip())
    if found is None or found.groups() == ("", ""):
        raise _Fault("InvalidRange", 416, f'range "{text[:80]}"; expected bytes=FIRST-LAST')
    first, last = found.groups()
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1 if last else size, size)
    if start >= end:
        raise _Fault("InvalidRange", 416, f'range "{text[:80]}" of an object of {size} bytes')
    return start, end


def _check_sums(request: Request) -> None:
    """Every checksum the client sent that we can compute must be the body's."""
    sums: Mapping[str, Callable[[bytes], bytes]] = {
        "x-amz-checksum-crc32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
        "x-amz-checksum-sha256": lambda body: hashlib.sha256(body).digest(),
        "content-md5": lambda body: hashlib.md5(body, usedforsecurity=False).digest(),
    }
    for name, compute in sums.items():
        said = request.headers.get(name)
        if said is not None and said != base64.b64encode(compute(request.body)).decode():
            raise _Fault("BadDigest", 400, f"{name} is not that of the body that arrived; send it again")


def _texts(body: bytes, tag: str) -> Sequence[str]:
    """The texts of all elements ``tag``, whatever their namespace."""
    try:
        return [one.text or "" for one in fromstring(body).iter() if one.tag.rpartition("}")[2] == tag]
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise _Fault("MalformedXML", 400, f"the request's body is not XML: {error}") from None


def _unhide(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token.encode()).decode()
    except (ValueError, binascii.Error):
        raise InvalidInput("continuation-token is none of ours") from None


def _quoted(text: str) -> str:
    return quote(text, safe="/")


def _iso(moment: object) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.000Z}"


def _xml(tag: str, inside: str) -> Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<{tag} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inside}</{tag}>'
    return Response(200, body.encode(), {"content-type": "application/xml"})


def _error(code: str, status: int, message: str, request_id: str) -> Response:
    said = f"<Code>{code}</Code><Message>{escape(message)}</Message><RequestId>{request_id}</RequestId>"
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{said}</Error>'
    return Response(status, body.encode(), {"content-type": "application/xml"})
