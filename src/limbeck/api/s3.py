"""A small S3, so that a notebook's `boto3.client("s3")` and `aws s3 cp` work against the same endpoint.

Buckets (make, list, head, remove), objects (put, get with ranges, head, copy, delete, delete many), the three listings
and uploads in parts. There is one version of an object, called `null`. A bucket's settings (policy, tags, public
access) are kept and given back, and have no effect: who may call is the access keys' matter. What is not here answers
NotImplemented. Where Limbeck keeps its objects at an S3 endpoint, clients are sent there.
"""

from __future__ import annotations

import base64
import binascii
import logging
import mimetypes
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from email.utils import format_datetime
from io import BytesIO
from typing import IO
from urllib.parse import quote, unquote

from starlette.concurrency import run_in_threadpool

from limbeck.api import checksums, xml
from limbeck.api.xml import Element, element
from limbeck.errors import AccessDenied, Conflict, InvalidInput, LimbeckError
from limbeck.storage.objects import Buckets, Found, Uploads
from limbeck.storage.objects.base import pieces
from limbeck.wire.exchange import Request, Response

__all__ = ["S3"]

log = logging.getLogger(__name__)

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

PAGE = 1000
"""Keys on a page of a listing or in one DeleteObjects, at most: S3's own number."""

DOCUMENT_BYTES = 4_000_000
"""The largest XML a client may send: a thousand of the longest keys, escaped."""

LAST = "\U0010ffff"
"""Behind a prefix, sorts after every key with that prefix."""

PARAMETERS = {
    *("prefix", "delimiter", "marker", "max-keys", "encoding-type", "list-type", "start-after", "continuation-token"),
    *("fetch-owner", "key-marker", "version-id-marker", "versionId", "partNumber", "x-id"),
}
"""Names of a query that say how; any other says what is done, and chooses the operation."""

ABSENT = {
    "cors": "NoSuchCORSConfiguration",
    "encryption": "ServerSideEncryptionConfigurationNotFoundError",
    "lifecycle": "NoSuchLifecycleConfiguration",
    "ownershipControls": "OwnershipControlsNotFoundError",
    "policy": "NoSuchBucketPolicy",
    "publicAccessBlock": "NoSuchPublicAccessBlockConfiguration",
    "tagging": "NoSuchTagSet",
}
"""A bucket's settings, and S3's name for the fault that there is none."""

KEPT = ("content-type", "content-encoding", "content-disposition", "content-language", "cache-control", "expires")
"""Headers of a put that are told again with a get, as are those of `x-amz-meta-`."""

REFUSALS = {
    "AccessDeniedException": "AccessDenied",
    "ExpiredTokenException": "ExpiredToken",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "UnrecognizedClientException": "InvalidAccessKeyId",
}
"""S3's names for what `auth` refuses."""


class S3:
    """The operations, over the folders of ``buckets``; ``elsewhere`` is the endpoint that is used in their place."""

    services = ("s3",)
    body_bytes = 5_000_000_000
    """What S3 takes in one put, or one part."""

    def __init__(self, buckets: Buckets, region: str, elsewhere: str | None = None) -> None:
        self._buckets, self._region, self._elsewhere = buckets, region, elsewhere
        self._uploads = Uploads(buckets)

    def has(self, method: str, raw_path: str) -> bool:
        """See `Face.has`: what begins with a bucket's name."""
        return not self._elsewhere and self._buckets.has(raw_path.removeprefix("/").partition("/")[0])

    async def answer(self, request: Request) -> Response:
        """See `Face.answer`."""
        return await run_in_threadpool(self._do, request)

    def fault(self, error: Exception, request_id: str) -> Response:
        """See `Face.fault`."""
        code, status = "InternalError", 500
        if isinstance(error, _Fault):
            code, status = error.code, error.status
        elif isinstance(error, AccessDenied):
            code, status = REFUSALS.get(error.wire_name, "AccessDenied"), error.status
        elif isinstance(error, InvalidInput):
            code, status = "BadDigest" if isinstance(error, checksums.WrongChecksum) else "InvalidArgument", 400
        elif isinstance(error, LimbeckError):
            code, status = getattr(error, "code", code), error.status
        said = str(error)
        if status >= 500 and not isinstance(error, _Fault):
            log.error("request %s failed", request_id, exc_info=error)
            said = f"a fault of ours, not of your request; the server's log has it under {request_id}"
        parts = (element("Code", code), element("Message", said), element("RequestId", request_id))
        return Response(status, xml.document(element("Error", *parts)), {"content-type": "application/xml"})

    def _do(self, request: Request) -> Response:
        if self._elsewhere:
            raise _Fault("NotImplemented", 501, f"buckets are not served here but by {self._elsewhere}; ask there")
        bucket, key = _address(request)
        done = [name for name in request.query if name not in PARAMETERS and not name.lower().startswith("x-amz-")]
        what = ",".join(sorted(done))
        if not bucket:
            if (request.method, what) != ("GET", ""):
                raise _absent(request, what)
            return self._list_buckets()
        if not key:
            if what in ABSENT:
                return self._setting(bucket, what, request)
            operation = BUCKET_OPERATIONS.get((request.method, what))
            if operation is None:
                raise _absent(request, what)
            return operation(self, bucket, request)
        found = OBJECT_OPERATIONS.get((request.method, what))
        if found is None:
            raise _absent(request, what)
        return found(self, bucket, key, request)

    def _list_buckets(self) -> Response:
        rows = (
            element("Bucket", element("Name", name), element("CreationDate", _iso(made)))
            for name, made in self._buckets.buckets()
        )
        owner = element("Owner", element("ID", "limbeck"))
        return _xml("ListAllMyBucketsResult", owner, element("Buckets", *rows))

    def _create_bucket(self, bucket: str, request: Request) -> Response:
        if self._buckets.has(bucket):
            raise _Fault("BucketAlreadyOwnedByYou", 409, f'bucket "{bucket}" is there already, and yours')
        try:
            self._buckets.make_bucket(bucket)
        except InvalidInput as error:
            raise _Fault("InvalidBucketName", 400, str(error)) from None
        return Response(200, b"", {"location": f"/{bucket}"})

    def _head_bucket(self, bucket: str, request: Request) -> Response:
        self._buckets.check_bucket(bucket)
        return Response(200, b"", {"x-amz-bucket-region": self._region})

    def _delete_bucket(self, bucket: str, request: Request) -> Response:
        try:
            self._buckets.remove_bucket(bucket)
        except Conflict as error:
            raise _Fault("BucketNotEmpty", 409, str(error)) from None
        return Response(204, b"")

    def _get_bucket_location(self, bucket: str, request: Request) -> Response:
        self._buckets.check_bucket(bucket)
        return _xml("LocationConstraint", "" if self._region == "us-east-1" else self._region)

    def _get_bucket_versioning(self, bucket: str, request: Request) -> Response:
        self._buckets.check_bucket(bucket)
        return _xml("VersioningConfiguration")

    def _setting(self, bucket: str, name: str, request: Request) -> Response:
        if request.method == "PUT":
            self._buckets.set(bucket, name, _document(request))
            return Response(204 if name == "policy" else 200, b"")
        if request.method == "DELETE":
            self._buckets.set(bucket, name, None)
            return Response(204, b"")
        found = self._buckets.setting(bucket, name)
        if found is None:
            raise _Fault(ABSENT[name], 404, f'nobody has put {name} for bucket "{bucket}"')
        kind = "application/json" if name == "policy" else "application/xml"
        return Response(200, found, {"content-type": kind})

    def _list_objects(self, bucket: str, request: Request) -> Response:
        query = request.query
        second = query.get("list-type") == "2"
        after = query.get("start-after", "") if second else query.get("marker", "")
        if second and query.get("continuation-token"):
            after = _unhide(query["continuation-token"])
        page = _Page(self._buckets, bucket, query, after)
        parts = [element("KeyCount", str(len(page.shown)))] if second else []
        if page.truncated:
            last = page.shown[-1][0]
            parts.append(
                element("NextContinuationToken", _hide(last)) if second else element("NextMarker", page.say(last))
            )
        return _xml("ListBucketResult", *page.head(), *parts, *page.rows("Contents"))

    def _list_object_versions(self, bucket: str, request: Request) -> Response:
        page = _Page(self._buckets, bucket, request.query, request.query.get("key-marker", ""))
        parts = []
        if page.truncated:
            parts = [element("NextKeyMarker", page.say(page.shown[-1][0])), element("NextVersionIdMarker", "null")]
        version = (element("VersionId", "null"), element("IsLatest", "true"))
        return _xml("ListVersionsResult", *page.head(), *parts, *page.rows("Version", *version))

    def _delete_objects(self, bucket: str, request: Request) -> Response:
        asked = xml.read(_document(request))
        quiet = asked.findtext("Quiet") == "true"
        keys = [(one.findtext("Key") or "", one.findtext("VersionId")) for one in asked.iter("Object")]
        if not 1 <= len(keys) <= PAGE:
            raise _Fault("MalformedXML", 400, f"{len(keys)} keys to delete; expected 1 to {PAGE}")
        self._buckets.check_bucket(bucket)
        rows = []
        for key, version in keys:
            named = [element("Key", key), element("VersionId", version) if version else None]
            try:
                if version in (None, "null"):
                    self._buckets.remove(bucket, key)
                if not quiet:
                    rows.append(element("Deleted", *named))
            except InvalidInput as error:
                rows.append(
                    element("Error", *named, element("Code", "InvalidArgument"), element("Message", str(error)))
                )
        return _xml("DeleteResult", *rows)

    def _get_object(self, bucket: str, key: str, request: Request) -> Response:
        _check_version(request)
        if "partNumber" in request.query:
            raise _absent(request, "partNumber")
        found, file = self._buckets.open(bucket, key)
        try:
            status, start, end, about = _reading(found, request.headers)
        except BaseException:
            file.close()
            raise
        if request.method == "HEAD" or status == 304:
            file.close()
            return Response(status, b"", about)
        file.seek(start)
        return Response(status, b"", about, _Pieces(file, end - start))

    def _put_object(self, bucket: str, key: str, request: Request) -> Response:
        if "x-amz-copy-source" in request.headers:
            return self._copy_object(bucket, key, request)
        said = checksums.check(request.headers, _file(request))
        new = request.headers.get("if-none-match") == "*"
        instead_of = request.headers.get("if-match", "").strip('"') or None
        try:
            made = self._buckets.put(
                bucket, key, pieces(_file(request)), new=new, instead_of=instead_of, headers=_kept(request.headers)
            )
        except Conflict as error:
            raise _Fault("PreconditionFailed", 412, str(error)) from None
        return Response(200, b"", {"etag": f'"{made.etag}"', **said})

    def _copy_object(self, bucket: str, key: str, request: Request) -> Response:
        source, file = self._source(request)
        replaced = request.headers.get("x-amz-metadata-directive") == "REPLACE"
        headers = _kept(request.headers) if replaced else source.headers
        with file:
            made = self._buckets.put(bucket, key, pieces(file), headers=headers)
        return _xml("CopyObjectResult", element("LastModified", _iso(made.modified)), element("ETag", f'"{made.etag}"'))

    def _delete_object(self, bucket: str, key: str, request: Request) -> Response:
        _check_version(request)
        self._buckets.remove(bucket, key)
        return Response(204, b"")

    def _create_multipart_upload(self, bucket: str, key: str, request: Request) -> Response:
        upload = self._uploads.begin(bucket, key, _kept(request.headers))
        named = (element("Bucket", bucket), element("Key", key), element("UploadId", upload))
        return _xml("InitiateMultipartUploadResult", *named)

    def _upload_part(self, bucket: str, key: str, request: Request) -> Response:
        query = request.query
        number = int(query["partNumber"]) if re.fullmatch("[0-9]{1,5}", query.get("partNumber", "")) else 0
        if "x-amz-copy-source" not in request.headers:
            said = checksums.check(request.headers, _file(request))
            etag = self._uploads.put_part(query["uploadId"], bucket, key, number, pieces(_file(request)))
            return Response(200, b"", {"etag": f'"{etag}"', **said})
        source, file = self._source(request)
        with file:
            start, end = _range(request.headers.get("x-amz-copy-source-range", f"bytes=0-{source.size}"), source.size)
            file.seek(start)
            etag = self._uploads.put_part(query["uploadId"], bucket, key, number, pieces(file, end - start))
        return _xml("CopyPartResult", element("LastModified", _iso(source.modified)), element("ETag", f'"{etag}"'))

    def _complete_multipart_upload(self, bucket: str, key: str, request: Request) -> Response:
        parts = []
        for part in xml.read(_document(request)).iter("Part"):
            number, etag = part.findtext("PartNumber") or "", (part.findtext("ETag") or "").strip('"')
            if not re.fullmatch("[0-9]{1,5}", number) or not re.fullmatch("[0-9a-f]{32}", etag):
                raise _Fault("InvalidPart", 400, f'part "{number[:20]}" with tag "{etag[:40]}" was not sent')
            parts.append((int(number), etag))
        try:
            made = self._uploads.end(request.query["uploadId"], bucket, key, parts)
        except InvalidInput as error:
            raise _Fault("InvalidPart", 400, str(error)) from None
        named = (element("Bucket", bucket), element("Key", key), element("ETag", f'"{made.etag}"'))
        return _xml("CompleteMultipartUploadResult", *named)

    def _abort_multipart_upload(self, bucket: str, key: str, request: Request) -> Response:
        self._uploads.drop(request.query["uploadId"], bucket, key)
        return Response(204, b"")

    def _source(self, request: Request) -> tuple[Found, IO[bytes]]:
        """The object a copy is made of, and its file."""
        said, _, version = request.headers["x-amz-copy-source"].partition("?")
        if version not in ("", "versionId=null"):
            raise _Fault("NoSuchVersion", 404, f"no {version[:60]}; there is one version, null")
        bucket, _, key = unquote(said).removeprefix("/").partition("/")
        return self._buckets.open(bucket, key)


BUCKET_OPERATIONS: Mapping[tuple[str, str], Callable[[S3, str, Request], Response]] = {
    ("PUT", ""): S3._create_bucket,
    ("HEAD", ""): S3._head_bucket,
    ("DELETE", ""): S3._delete_bucket,
    ("GET", ""): S3._list_objects,
    ("GET", "versions"): S3._list_object_versions,
    ("GET", "location"): S3._get_bucket_location,
    ("GET", "versioning"): S3._get_bucket_versioning,
    ("POST", "delete"): S3._delete_objects,
}
"""By method and by what the query says is done."""

OBJECT_OPERATIONS: Mapping[tuple[str, str], Callable[[S3, str, str, Request], Response]] = {
    ("GET", ""): S3._get_object,
    ("HEAD", ""): S3._get_object,
    ("PUT", ""): S3._put_object,
    ("DELETE", ""): S3._delete_object,
    ("POST", "uploads"): S3._create_multipart_upload,
    ("PUT", "uploadId"): S3._upload_part,
    ("POST", "uploadId"): S3._complete_multipart_upload,
    ("DELETE", "uploadId"): S3._abort_multipart_upload,
}


class _Fault(Exception):
    """A fault under a name of S3's own."""

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(message)
        self.code, self.status = code, status


class _Page:
    """A page of a listing: keys, and in place of keys with the delimiter behind the prefix what they share, once."""

    def __init__(self, buckets: Buckets, bucket: str, query: Mapping[str, str], after: str) -> None:
        self._bucket, self._query = bucket, query
        self._prefix, self._delimiter = query.get("prefix", ""), query.get("delimiter", "")
        asked = query.get("max-keys", str(PAGE))
        if not re.fullmatch("[0-9]{1,9}", asked):
            raise InvalidInput(f'max-keys "{asked[:40]}"; expected a whole number from 0')
        self._size = min(int(asked), PAGE)
        if self._delimiter and after.endswith(self._delimiter):
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
                    element("LastModified", _iso(found.modified)),
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


class _Pieces:
    """The next ``size`` bytes of an open file, in pieces; closed when they are read or nobody wants them."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._pieces = file, pieces(file, size)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _absent(request: Request, what: str) -> _Fault:
    return _Fault("NotImplemented", 501, f'{request.method} of "{what[:100]}" is not done here')


def _address(request: Request) -> tuple[str, str]:
    """Bucket and key, from the path, or the bucket from a host like ``bucket.localhost``."""
    try:
        path = unquote(request.raw_path.removeprefix("/"), errors="strict")
    except UnicodeDecodeError:
        raise _Fault("InvalidURI", 400, "the address is not UTF-8") from None
    host = request.headers.get("host", "").partition(":")[0]
    if host.endswith(".localhost"):
        return host.removesuffix(".localhost"), path
    bucket, _, key = path.partition("/")
    return bucket, key


def _file(request: Request) -> IO[bytes]:
    """The body, from its beginning."""
    file = request.file or BytesIO(request.body)
    file.seek(0)
    return file


def _document(request: Request) -> bytes:
    """The body, where it is a document to be held in memory, checked."""
    file = _file(request)
    checksums.check(request.headers, file)
    file.seek(0)
    body = file.read(DOCUMENT_BYTES + 1)
    if len(body) > DOCUMENT_BYTES:
        raise _Fault("EntityTooLarge", 400, f"the document is over {DOCUMENT_BYTES:,} bytes")
    return body


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    kept = {name: text for name, text in headers.items() if name in KEPT or name.startswith("x-amz-meta-")}
    coding = [one.strip() for one in kept.pop("content-encoding", "").split(",")]
    coding = [one for one in coding if one not in ("", "aws-chunked")]
    return {**kept, "content-encoding": ",".join(coding)} if coding else kept


def _check_version(request: Request) -> None:
    version = request.query.get("versionId", "null")
    if version != "null":
        raise _Fault("NoSuchVersion", 404, f'no version "{version[:60]}"; there is one, null')


def _reading(found: Found, headers: Mapping[str, str]) -> tuple[int, int, int, dict[str, str]]:
    """Status, start, end and headers of a get. Raises `_Fault` where the client's conditions do not hold."""
    about = {
        "content-type": mimetypes.guess_type(found.key)[0] or "binary/octet-stream",
        **found.headers,
        "etag": f'"{found.etag}"',
        "last-modified": format_datetime(found.modified, usegmt=True),
        "accept-ranges": "bytes",
    }
    tags = (f'"{found.etag}"', found.etag, "*")
    if headers.get("if-match", "*") not in tags:
        raise _Fault("PreconditionFailed", 412, f'object "{found.key}" has changed: its tag is "{found.etag}"')
    if headers.get("if-none-match") in tags:
        return 304, 0, 0, about
    status, start, end = 200, 0, found.size
    if "range" in headers:
        status, (start, end) = 206, _range(headers["range"], found.size)
        about["content-range"] = f"bytes {start}-{end - 1}/{found.size}"
    about["content-length"] = str(end - start)
    return status, start, end, about


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


def _hide(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _unhide(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        raise InvalidInput("continuation-token is none of ours") from None


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.000Z}"


def _xml(name: str, *inside: Element | str | None) -> Response:
    body = xml.document(element(name, *inside, xmlns=NAMESPACE))
    return Response(200, body, {"content-type": "application/xml"})
