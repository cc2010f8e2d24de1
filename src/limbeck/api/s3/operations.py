"""S3's operations over the folders of `Buckets`."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool

from limbeck.api import checksums, xml
from limbeck.api.faults import excuse
from limbeck.api.s3 import asking
from limbeck.api.s3.answers import Fault, Pieces, absent, answer, iso
from limbeck.api.s3.listing import PAGE, Page, count, hide, unhide
from limbeck.api.xml import element
from limbeck.errors import AccessDenied, Conflict, InvalidInput, LimbeckError, UnknownObject
from limbeck.storage.objects import Buckets, Found, Uploads
from limbeck.storage.objects.base import pieces
from limbeck.wire.exchange import Request, Response

__all__ = ["S3"]

log = logging.getLogger(__name__)

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

BUCKETS = 10_000
"""Buckets on a page at most: S3's own number."""

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
        if isinstance(error, Fault):
            code, status = error.code, error.status
        elif isinstance(error, AccessDenied):
            code, status = REFUSALS.get(error.wire_name, "AccessDenied"), error.status
        elif isinstance(error, InvalidInput):
            code, status = "BadDigest" if isinstance(error, checksums.WrongChecksum) else "InvalidArgument", 400
        elif isinstance(error, LimbeckError):
            code, status = getattr(error, "code", code), error.status
        said = str(error)
        if status >= 500 and not isinstance(error, Fault):
            log.error("request %s failed", request_id, exc_info=error)
            said = excuse(error, request_id)
        parts = (element("Code", code), element("Message", said), element("RequestId", request_id))
        return Response(status, xml.document(element("Error", *parts)), {"content-type": "application/xml"})

    def _do(self, request: Request) -> Response:
        if self._elsewhere:
            raise Fault("NotImplemented", 501, f"buckets are not served here but by {self._elsewhere}; ask there")
        asking.check_done(request)
        bucket, key = asking.address(request)
        what = asking.operation(request)
        if not bucket:
            if (request.method, what) != ("GET", ""):
                raise absent(request, what)
            return self._list_buckets(request)
        if not key:
            if what in ABSENT:
                return self._setting(bucket, what, request)
            operation = BUCKET_OPERATIONS.get((request.method, what))
            if operation is None:
                raise absent(request, what)
            return operation(self, bucket, request)
        found = OBJECT_OPERATIONS.get((request.method, what))
        if found is None:
            raise absent(request, what)
        return found(self, bucket, key, request)

    def _list_buckets(self, request: Request) -> Response:
        query = request.query
        prefix, size = query.get("prefix", ""), count(query, "max-buckets", BUCKETS)
        after = unhide(query["continuation-token"]) if query.get("continuation-token") else ""
        here = query.get("bucket-region", self._region) == self._region
        found = [one for one in self._buckets.buckets() if here and one[0].startswith(prefix) and one[0] > after]
        rows = (
            element("Bucket", element("Name", name), element("CreationDate", iso(made))) for name, made in found[:size]
        )
        return answer(
            "ListAllMyBucketsResult",
            element("Owner", element("ID", "limbeck")),
            element("Buckets", *rows),
            element("Prefix", prefix) if prefix else None,
            element("ContinuationToken", hide(found[size - 1][0])) if 0 < size < len(found) else None,
        )

    def _create_bucket(self, bucket: str, request: Request) -> Response:
        if self._buckets.has(bucket):
            if self._region == "us-east-1":
                return Response(200, b"", {"location": f"/{bucket}"})  # as S3 has it there, and nowhere else
            raise Fault("BucketAlreadyOwnedByYou", 409, f'bucket "{bucket}" is there already, and yours')
        try:
            self._buckets.make_bucket(bucket)
        except InvalidInput as error:
            raise Fault("InvalidBucketName", 400, str(error)) from None
        return Response(200, b"", {"location": f"/{bucket}"})

    def _head_bucket(self, bucket: str, request: Request) -> Response:
        self._buckets.check_bucket(bucket)
        return Response(200, b"", {"x-amz-bucket-region": self._region})

    def _delete_bucket(self, bucket: str, request: Request) -> Response:
        try:
            self._buckets.remove_bucket(bucket)
        except Conflict as error:
            raise Fault("BucketNotEmpty", 409, str(error)) from None
        return Response(204, b"")

    def _get_bucket_location(self, bucket: str, request: Request) -> Response:
        self._buckets.check_bucket(bucket)
        return answer("LocationConstraint", "" if self._region == "us-east-1" else self._region)

    def _get_bucket_versioning(self, bucket: str, request: Request) -> Response:
        self._buckets.check_bucket(bucket)
        return answer("VersioningConfiguration")

    def _setting(self, bucket: str, name: str, request: Request) -> Response:
        if request.method == "PUT":
            self._buckets.set(bucket, name, asking.document(request))
            return Response(204 if name == "policy" else 200, b"")
        if request.method == "DELETE":
            self._buckets.set(bucket, name, None)
            return Response(204, b"")
        found = self._buckets.setting(bucket, name)
        if found is None:
            raise Fault(ABSENT[name], 404, f'nobody has put {name} for bucket "{bucket}"')
        kind = "application/json" if name == "policy" else "application/xml"
        return Response(200, found, {"content-type": kind})

    def _list_objects(self, bucket: str, request: Request) -> Response:
        query = request.query
        second = query.get("list-type") == "2"
        after = query.get("start-after", "") if second else query.get("marker", "")
        if second and query.get("continuation-token"):
            after = unhide(query["continuation-token"])
        page = Page(self._buckets, bucket, query, after)
        parts = [element("KeyCount", str(len(page.shown)))] if second else []
        if page.truncated:
            last = page.shown[-1][0]
            parts.append(
                element("NextContinuationToken", hide(last)) if second else element("NextMarker", page.say(last))
            )
        return answer("ListBucketResult", *page.head(), *parts, *page.rows("Contents"))

    def _list_object_versions(self, bucket: str, request: Request) -> Response:
        page = Page(self._buckets, bucket, request.query, request.query.get("key-marker", ""))
        parts = []
        if page.truncated:
            parts = [element("NextKeyMarker", page.say(page.shown[-1][0])), element("NextVersionIdMarker", "null")]
        version = (element("VersionId", "null"), element("IsLatest", "true"))
        return answer("ListVersionsResult", *page.head(), *parts, *page.rows("Version", *version))

    def _delete_objects(self, bucket: str, request: Request) -> Response:
        asked = xml.read(asking.document(request))
        quiet = asked.findtext("Quiet") == "true"
        objects = list(asked.iter("Object"))
        if any(one.find(name) is not None for one in objects for name in ("LastModifiedTime", "Size")):
            raise absent(request, "LastModifiedTime and Size")
        keys = [(one.findtext("Key") or "", one.findtext("VersionId"), one.findtext("ETag")) for one in objects]
        if not 1 <= len(keys) <= PAGE:
            raise Fault("MalformedXML", 400, f"{len(keys)} keys to delete; expected 1 to {PAGE}")
        self._buckets.check_bucket(bucket)
        rows = []
        for key, version, tag in keys:
            named = [element("Key", key), element("VersionId", version) if version else None]
            try:
                if version in (None, "null"):
                    self._remove(bucket, key, tag and tag.strip('"'))
                if not quiet:
                    rows.append(element("Deleted", *named))
            except (Fault, InvalidInput, UnknownObject) as error:
                code = getattr(error, "code", "InvalidArgument")
                rows.append(element("Error", *named, element("Code", code), element("Message", str(error))))
        return answer("DeleteResult", *rows)

    def _get_object(self, bucket: str, key: str, request: Request) -> Response:
        asking.check_version(request)
        if "partNumber" in request.query:
            raise absent(request, "partNumber")
        found, file = self._open(bucket, key)
        try:
            status, start, end, about = asking.reading(found, request)
        except BaseException:
            file.close()
            raise
        if request.method == "HEAD" or status == 304:
            file.close()
            return Response(status, b"", about)
        file.seek(start)
        return Response(status, b"", about, Pieces(file, end - start))

    def _put_object(self, bucket: str, key: str, request: Request) -> Response:
        if "x-amz-copy-source" in request.headers:
            return self._copy_object(bucket, key, request)
        said = checksums.check(request.headers, asking.body(request))
        data, headers = pieces(asking.body(request)), asking.kept(request.headers)
        with _on_condition():
            made = self._buckets.put(bucket, key, data, **asking.writing(request.headers), headers=headers)
        return Response(200, b"", {"etag": f'"{made.etag}"', **said})

    def _copy_object(self, bucket: str, key: str, request: Request) -> Response:
        source, file = self._source(request)
        replaced = request.headers.get("x-amz-metadata-directive") == "REPLACE"
        headers = asking.kept(request.headers) if replaced else source.headers
        with file, _on_condition():
            made = self._buckets.put(bucket, key, pieces(file), **asking.writing(request.headers), headers=headers)
        return answer(
            "CopyObjectResult", element("LastModified", iso(made.modified)), element("ETag", f'"{made.etag}"')
        )

    def _delete_object(self, bucket: str, key: str, request: Request) -> Response:
        asking.check_version(request)
        self._remove(bucket, key, asking.tag(request.headers))
        return Response(204, b"")

    def _create_multipart_upload(self, bucket: str, key: str, request: Request) -> Response:
        upload = self._uploads.begin(bucket, key, asking.kept(request.headers))
        named = (element("Bucket", bucket), element("Key", key), element("UploadId", upload))
        return answer("InitiateMultipartUploadResult", *named)

    def _upload_part(self, bucket: str, key: str, request: Request) -> Response:
        query = request.query
        number = int(query["partNumber"]) if re.fullmatch("[0-9]{1,5}", query.get("partNumber", "")) else 0
        if "x-amz-copy-source" not in request.headers:
            said = checksums.check(request.headers, asking.body(request))
            etag = self._uploads.put_part(query["uploadId"], bucket, key, number, pieces(asking.body(request)))
            return Response(200, b"", {"etag": f'"{etag}"', **said})
        source, file = self._source(request)
        with file:
            start, end = asking.span(
                request.headers.get("x-amz-copy-source-range", f"bytes=0-{source.size}"), source.size
            )
            file.seek(start)
            etag = self._uploads.put_part(query["uploadId"], bucket, key, number, pieces(file, end - start))
        return answer("CopyPartResult", element("LastModified", iso(source.modified)), element("ETag", f'"{etag}"'))

    def _complete_multipart_upload(self, bucket: str, key: str, request: Request) -> Response:
        parts = []
        for part in xml.read(asking.document(request)).iter("Part"):
            number, etag = part.findtext("PartNumber") or "", (part.findtext("ETag") or "").strip('"')
            if not re.fullmatch("[0-9]{1,5}", number) or not re.fullmatch("[0-9a-f]{32}", etag):
                raise Fault("InvalidPart", 400, f'part "{number[:20]}" with tag "{etag[:40]}" was not sent')
            parts.append((int(number), etag))
        try:
            with _on_condition():
                upload = request.query["uploadId"]
                made = self._uploads.end(upload, bucket, key, parts, **asking.writing(request.headers))
        except InvalidInput as error:
            raise Fault("InvalidPart", 400, str(error)) from None
        named = (element("Bucket", bucket), element("Key", key), element("ETag", f'"{made.etag}"'))
        return answer("CompleteMultipartUploadResult", *named)

    def _abort_multipart_upload(self, bucket: str, key: str, request: Request) -> Response:
        self._uploads.drop(request.query["uploadId"], bucket, key)
        return Response(204, b"")

    def _source(self, request: Request) -> tuple[Found, IO[bytes]]:
        """The object a copy is made of, and its file."""
        said, _, version = request.headers["x-amz-copy-source"].partition("?")
        if version not in ("", "versionId=null"):
            raise Fault("NoSuchVersion", 404, f"no {version[:60]}; there is one version, null")
        bucket, _, key = unquote(said).removeprefix("/").partition("/")
        found, file = self._open(bucket, key)
        try:
            if not asking.has_changed(found, request.headers, "x-amz-copy-source-"):
                raise Fault("PreconditionFailed", 412, f'object "{key}" is the one the condition excludes')
        except BaseException:
            file.close()
            raise
        return found, file

    def _open(self, bucket: str, key: str) -> tuple[Found, IO[bytes]]:
        """An object and its file. Raises `UnknownObject`, also for a folder's key, which no object has here."""
        if key.endswith("/"):
            self._buckets.check_bucket(bucket)
            raise UnknownObject(
                f'no object "{key[:200]}" in bucket "{bucket}"; here none has a key that ends in a slash'
            )
        return self._buckets.open(bucket, key)

    def _remove(self, bucket: str, key: str, tag: str | None) -> None:
        """Remove an object, if it has that tag where one is named; one that is not there is no fault."""
        if key.endswith("/") and tag is None:
            self._buckets.check_bucket(bucket)
            return
        with _on_condition():
            self._buckets.remove(bucket, key, instead_of=tag)


@contextmanager
def _on_condition() -> Iterator[None]:
    """Tell a change whose condition does not hold in S3's words."""
    try:
        yield
    except Conflict as error:
        raise Fault("PreconditionFailed", 412, str(error)) from None


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
