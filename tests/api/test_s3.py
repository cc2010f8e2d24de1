"""S3 as its users meet it: plain boto3 and aws-cli against `limbeck serve`, with keys that are checked."""

import hashlib
import io
import json
import urllib.error
import urllib.request
import zlib
from base64 import b64encode
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st
from tests.api.server import Server

from limbeck.api.checksums import Crc

MEGA = 1 << 20


@pytest.fixture(scope="module")
def server(home, key):
    made = Server(home)
    yield made
    _, said = made.stop()
    assert said.strip().count("\n") == 0, said  # it says where it serves, and nothing else


@pytest.fixture
def s3(server, key):
    return server.client(key.id, key.secret, "s3")


@pytest.fixture
def bucket(s3, server, key):
    """A bucket that is emptied as the notebooks do it."""
    s3.create_bucket(Bucket="desk")
    yield "desk"
    found = server.client(key.id, key.secret, "s3", make=boto3.resource).Bucket("desk")
    found.object_versions.delete()
    found.objects.all().delete()
    found.delete()
    assert s3.list_buckets()["Buckets"] == []


@contextmanager
def refused(code, status):
    """A block that S3 answers with that fault."""
    with pytest.raises(ClientError) as caught:
        yield
    answer = caught.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)


@pytest.mark.row(72)
def test_an_object_is_put_had_headed_and_deleted_with_all_that_was_said_of_it(s3, bucket):
    put = s3.put_object(Bucket=bucket, Key="a b/ü+.jsonl", Body=b"hello", ContentType="text/x", Metadata={"by": "ada"})
    assert put["ETag"] == '"5d41402abc4b2a76b9719d911017c592"'
    assert put["ChecksumCRC32"] == b64encode(zlib.crc32(b"hello").to_bytes(4, "big")).decode()
    got = s3.get_object(Bucket=bucket, Key="a b/ü+.jsonl")
    assert got["Body"].read() == b"hello"
    assert (got["ContentType"], got["Metadata"], got["ETag"]) == ("text/x", {"by": "ada"}, put["ETag"])
    head = s3.head_object(Bucket=bucket, Key="a b/ü+.jsonl")
    assert (head["ContentLength"], head["LastModified"]) == (5, got["LastModified"])
    s3.delete_object(Bucket=bucket, Key="a b/ü+.jsonl")
    s3.delete_object(Bucket=bucket, Key="a b/ü+.jsonl")
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="a b/ü+.jsonl")
    with refused("404", 404):
        s3.head_object(Bucket=bucket, Key="a b/ü+.jsonl")


def test_ranges_are_those_of_http(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    for asked, found in (
        ("bytes=2-4", b"234"),
        ("bytes=7-", b"789"),
        ("bytes=-3", b"789"),
        ("bytes=0-99", b"0123456789"),
    ):
        got = s3.get_object(Bucket=bucket, Key="k", Range=asked)
        assert (got["Body"].read(), got["ResponseMetadata"]["HTTPStatusCode"]) == (found, 206)
    for asked in ("bytes=10-", "bytes=4-2", "bytes=-0", "lines=1-2", "bytes=1-2,4-5"):
        with refused("InvalidRange", 416):
            s3.get_object(Bucket=bucket, Key="k", Range=asked)


def test_conditions_are_heeded_on_the_way_in_and_out(s3, bucket):
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*")
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch=first)["ETag"]
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=b"3", IfMatch=first)
    assert s3.get_object(Bucket=bucket, Key="k", IfMatch=second)["Body"].read() == b"2"
    with refused("PreconditionFailed", 412):
        s3.get_object(Bucket=bucket, Key="k", IfMatch=first)
    with refused("304", 304):
        s3.get_object(Bucket=bucket, Key="k", IfNoneMatch=second)


def test_every_change_has_its_conditions_and_leaves_what_was_there_where_they_do_not_hold(s3, bucket):
    tag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    source, wrong = f"{bucket}/k", '"0123"'
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"2")["ETag"]
    joined = {"UploadId": upload, "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": part}]}}
    past = datetime.now(UTC) - timedelta(days=1)
    for ask in (
        lambda: s3.delete_object(Bucket=bucket, Key="k", IfMatch=wrong),
        lambda: s3.copy_object(Bucket=bucket, Key="k", CopySource=source, IfNoneMatch="*"),
        lambda: s3.copy_object(Bucket=bucket, Key="k", CopySource=source, IfMatch=wrong),
        lambda: s3.copy_object(Bucket=bucket, Key="k", CopySource=source, CopySourceIfMatch=wrong),
        lambda: s3.copy_object(Bucket=bucket, Key="k", CopySource=source, CopySourceIfNoneMatch=tag),
        lambda: s3.copy_object(Bucket=bucket, Key="k", CopySource=source, CopySourceIfUnmodifiedSince=past),
        lambda: s3.complete_multipart_upload(Bucket=bucket, Key="k", IfNoneMatch="*", **joined),
        lambda: s3.complete_multipart_upload(Bucket=bucket, Key="k", IfMatch=wrong, **joined),
        lambda: s3.get_object(Bucket=bucket, Key="k", IfUnmodifiedSince=past),
    ):
        with refused("PreconditionFailed", 412):
            ask()
    asked = [{"Key": "k", "ETag": wrong}, {"Key": "none", "ETag": wrong}]
    done = s3.delete_objects(Bucket=bucket, Delete={"Objects": asked})
    assert [one["Code"] for one in done["Errors"]] == ["PreconditionFailed", "NoSuchKey"] and "Deleted" not in done
    assert s3.get_object(Bucket=bucket, Key="k", IfMatch=f"{wrong}, {tag}")["Body"].read() == b"1"
    assert s3.get_object(Bucket=bucket, Key="k", IfModifiedSince=past)["Body"].read() == b"1"
    with refused("304", 304):
        s3.head_object(Bucket=bucket, Key="k", IfModifiedSince=datetime.now(UTC) + timedelta(seconds=1))
    s3.copy_object(Bucket=bucket, Key="k2", CopySource=source, CopySourceIfMatch=tag, IfNoneMatch="*")
    s3.complete_multipart_upload(Bucket=bucket, Key="k", IfMatch=tag, **joined)
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k2", "ETag": tag}]})
    s3.delete_object(Bucket=bucket, Key="k", IfMatch="*")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_folder_is_no_object_and_no_fault(s3, bucket):
    s3.put_object(Bucket=bucket, Key="in/k", Body=b"1")
    with refused("404", 404):
        s3.head_object(Bucket=bucket, Key="in/")
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="in/")
    s3.delete_object(Bucket=bucket, Key="in/")
    assert "Errors" not in s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "in/"}]})
    assert s3.head_object(Bucket=bucket, Key="in/k")["ContentLength"] == 1


def test_twenty_megabytes_travel_in_parts_both_ways(s3, bucket, tmp_path):
    data = bytes(range(256)) * (20 * MEGA // 256) + b"end"
    (tmp_path / "up").write_bytes(data)
    s3.upload_file(str(tmp_path / "up"), bucket, "big.bin", ExtraArgs={"ContentType": "text/y"})
    head = s3.head_object(Bucket=bucket, Key="big.bin")
    assert (head["ContentLength"], head["ContentType"]) == (len(data), "text/y")
    assert head["ETag"].endswith('-3"')
    s3.download_file(bucket, "big.bin", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == data
    s3.copy({"Bucket": bucket, "Key": "big.bin"}, bucket, "copy.bin", Config=TransferConfig(multipart_threshold=MEGA))
    got = io.BytesIO()
    s3.download_fileobj(bucket, "copy.bin", got)
    assert got.getvalue() == data


def test_an_upload_in_parts_is_of_the_parts_that_are_named(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    part = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    tags = [s3.upload_part(**part, PartNumber=number, Body=body)["ETag"] for number, body in ((1, b"one"), (2, b"two"))]
    for number, tag in ((3, tags[0]), (1, tags[1])):
        with refused("InvalidPart", 400):
            s3.complete_multipart_upload(**part, MultipartUpload={"Parts": [{"PartNumber": number, "ETag": tag}]})
    made = s3.complete_multipart_upload(**part, MultipartUpload={"Parts": [{"PartNumber": 2, "ETag": tags[1]}]})
    assert made["ETag"] == f'"{hashlib.md5(hashlib.md5(b"two").digest()).hexdigest()}-1"'
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"two"
    for ask in (s3.abort_multipart_upload, lambda **part: s3.upload_part(**part, PartNumber=1, Body=b"")):
        with refused("NoSuchUpload", 404):
            ask(**part)


def test_listings_are_paged_grouped_and_in_order(s3, bucket):
    keys = ["a/1", "a/2", "b", "c/d/1", "c/d/2", "c-", "ä &<x>"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for operation, token in (
        ("list_objects_v2", "Contents"),
        ("list_objects", "Contents"),
        ("list_object_versions", "Versions"),
    ):
        for size in (1, 3, 1000):
            pages = s3.get_paginator(operation).paginate(Bucket=bucket, PaginationConfig={"PageSize": size})
            assert [row["Key"] for page in pages for row in page.get(token, [])] == sorted(keys)
            grouped = list(
                s3.get_paginator(operation).paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": size})
            )
            assert [row["Prefix"] for page in grouped for row in page.get("CommonPrefixes", [])] == ["a/", "c/"]
            assert [row["Key"] for page in grouped for row in page.get(token, [])] == ["b", "c-", "ä &<x>"]
    inside = s3.list_objects_v2(Bucket=bucket, Prefix="c/", Delimiter="/", FetchOwner=True)
    assert inside["CommonPrefixes"] == [{"Prefix": "c/d/"}]
    assert "Contents" not in inside
    inside = s3.list_objects_v2(Bucket=bucket, Prefix="a/", Delimiter="/", StartAfter="a/")
    assert [row["Key"] for row in inside["Contents"]] == ["a/1", "a/2"]
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket, Prefix="a/" * 2100)
    found = s3.list_objects_v2(Bucket=bucket, StartAfter="b")
    assert [row["Key"] for row in found["Contents"]] == ["c-", "c/d/1", "c/d/2", "ä &<x>"]
    assert found["Contents"][0]["ETag"] == f'"{hashlib.md5(b"c-").hexdigest()}"'
    assert s3.list_objects_v2(Bucket=bucket, MaxKeys=0)["KeyCount"] == 0
    with refused("InvalidArgument", 400):
        s3.list_objects_v2(Bucket=bucket, ContinuationToken="invented!")


def test_versions_are_one_called_null_and_many_are_deleted_at_once(s3, bucket):
    for number in range(3):
        s3.put_object(Bucket=bucket, Key=f"k{number}", Body=b"")
    versions = s3.list_object_versions(Bucket=bucket)["Versions"]
    assert [(one["Key"], one["VersionId"], one["IsLatest"]) for one in versions] == [
        (f"k{n}", "null", True) for n in range(3)
    ]
    s3.delete_object(Bucket=bucket, Key="k0", VersionId="null")
    with refused("NoSuchVersion", 404):
        s3.delete_object(Bucket=bucket, Key="k1", VersionId="other")
    asked = [{"Key": "k1", "VersionId": "null"}, {"Key": "none"}, {"Key": "a//b"}]
    done = s3.delete_objects(Bucket=bucket, Delete={"Objects": asked})
    assert [one["Key"] for one in done["Deleted"]] == ["k1", "none"]
    assert [(one["Key"], one["Code"]) for one in done["Errors"]] == [("a//b", "InvalidArgument")]
    assert "Deleted" not in s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k2"}], "Quiet": True})
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)


def test_a_copy_keeps_or_replaces_what_was_said_of_its_source(s3, bucket):
    s3.put_object(Bucket=bucket, Key="a b", Body=b"1", Metadata={"by": "ada"})
    s3.copy_object(Bucket=bucket, Key="kept", CopySource={"Bucket": bucket, "Key": "a b"})
    s3.copy_object(
        Bucket=bucket, Key="new", CopySource=f"{bucket}/a b", MetadataDirective="REPLACE", Metadata={"by": "bob"}
    )
    assert [s3.head_object(Bucket=bucket, Key=key)["Metadata"]["by"] for key in ("kept", "new")] == ["ada", "bob"]
    with refused("NoSuchKey", 404):
        s3.copy_object(Bucket=bucket, Key="none", CopySource=f"{bucket}/none")


def test_buckets_are_made_once_found_and_removed_when_empty(s3, bucket):
    s3.create_bucket(Bucket=bucket)  # as a notebook does that is run twice
    with refused("InvalidBucketName", 400):
        s3.create_bucket(Bucket="UPPER")
    assert s3.head_bucket(Bucket=bucket)["BucketRegion"] == "us-east-1"
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    for ask in (s3.head_bucket, s3.delete_bucket, s3.list_objects_v2):
        with pytest.raises(ClientError) as caught:
            ask(Bucket="nobody")
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    with refused("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=bucket)


def test_a_bucket_may_be_called_like_an_address_of_the_service(s3, bucket, server):
    for name in ("metrics", "health"):
        s3.create_bucket(Bucket=name)
        s3.put_object(Bucket=name, Key="k", Body=b"")
        assert s3.head_bucket(Bucket=name)["BucketRegion"] == "us-east-1"
        assert [one["Key"] for one in s3.list_objects(Bucket=name)["Contents"]] == ["k"]
        assert server.ask("GET", f"/{name}")[0] == 200
        s3.delete_object(Bucket=name, Key="k")
        s3.delete_bucket(Bucket=name)


def test_buckets_are_paged_and_chosen(s3, bucket):
    for name in ("desk-1", "desk-2", "hall"):
        s3.create_bucket(Bucket=name)
    pages = s3.get_paginator("list_buckets").paginate(Prefix="desk", PaginationConfig={"PageSize": 2})
    assert [[one["Name"] for one in page["Buckets"]] for page in pages] == [["desk", "desk-1"], ["desk-2"]]
    assert s3.list_buckets(BucketRegion="eu-west-1").get("Buckets", []) == []
    assert len(s3.list_buckets(BucketRegion="us-east-1", MaxBuckets=10)["Buckets"]) == 4
    for name in ("desk-1", "desk-2", "hall"):
        s3.delete_bucket(Bucket=name)


def test_settings_of_a_bucket_are_given_back_as_they_were_put(s3, bucket):
    policy = json.dumps({"Statement": [{"Effect": "Allow"}]})
    blocked = {"BlockPublicAcls": True, "BlockPublicPolicy": False}
    tags = [{"Key": "team", "Value": "desk"}]
    with refused("NoSuchBucketPolicy", 404):
        s3.get_bucket_policy(Bucket=bucket)
    s3.put_bucket_policy(Bucket=bucket, Policy=policy)
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=blocked)
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
    assert s3.get_bucket_policy(Bucket=bucket)["Policy"] == policy
    assert s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"] == blocked
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == tags
    s3.delete_bucket_tagging(Bucket=bucket)
    with refused("NoSuchTagSet", 404):
        s3.get_bucket_tagging(Bucket=bucket)


def test_what_is_not_done_here_says_so(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    for ask in (
        lambda: s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}),
        lambda: s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": []}),
        lambda: s3.get_object(Bucket=bucket, Key="k", PartNumber=1),
        lambda: s3.list_multipart_uploads(Bucket=bucket),
        lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"1", WriteOffsetBytes=1),
        lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch='"0123"'),
        lambda: s3.delete_object(Bucket=bucket, Key="k", IfMatchSize=1),
        lambda: s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k", "Size": 1}]}),
    ):
        with refused("NotImplemented", 501):
            ask()


def test_what_no_file_and_no_xml_can_hold_is_a_fault_of_the_request(s3, bucket, server, key):
    with refused("NoSuchUpload", 404):
        s3.upload_part(Bucket=bucket, Key="k", UploadId="a" * 300, PartNumber=1, Body=b"1")
    asked = AWSRequest("POST", f"{server.url}/{bucket}?delete=", data=b"<?xml version='1.0' encoding='foo'?><Delete/>")
    S3SigV4Auth(Credentials(key.id, key.secret), "s3", "us-east-1").add_auth(asked)
    status, _, said = server.ask("POST", f"/{bucket}?delete=", asked.data, dict(asked.headers))
    assert (status, b"is not XML" in said) == (400, True)
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="none")
    with refused("InvalidArgument", 400):
        s3.get_object(Bucket=bucket, Key="a\x01b")
    asked = AWSRequest("GET", f"{server.url}/{bucket}?prefix=a%01b")
    S3SigV4Auth(Credentials(key.id, key.secret), "s3", "us-east-1").add_auth(asked)
    status, _, said = server.ask("GET", f"/{bucket}?prefix=a%01b", headers=dict(asked.headers))
    assert (status, ElementTree.fromstring(said)[1].text) == (200, "a\ufffdb")


def test_a_checksum_that_is_not_the_bodys_is_refused_and_nothing_is_stored(s3, bucket):
    wrong = b64encode(b"1234").decode()
    for sums in (
        {"ChecksumCRC32": wrong},
        {"ChecksumCRC32C": wrong},
        {"ChecksumCRC64NVME": b64encode(bytes(8)).decode()},
        {"ChecksumSHA256": b64encode(bytes(32)).decode()},
        {"ContentMD5": b64encode(bytes(16)).decode()},
    ):
        with refused("BadDigest", 400):
            s3.put_object(Bucket=bucket, Key="k", Body=b"hello", **sums)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    crc = Crc(0x9A6C9329AC4BC9B5, 64)
    crc.update(b"hello")
    said = b64encode(crc.digest()).decode()
    assert s3.put_object(Bucket=bucket, Key="k", Body=b"hello", ChecksumCRC64NVME=said)["ChecksumCRC64NVME"] == said


@tried(max_examples=30, deadline=None)
@given(st.binary(max_size=40_000), st.integers(0, 40_000))
def test_our_crcs_are_zlibs_however_the_bytes_come(data, cut):
    crc = Crc(0xEDB88320, 32)
    crc.update(data[:cut])
    crc.update(data[cut:])
    assert crc.digest() == zlib.crc32(data).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("polynomial", "bits", "check"),
    [(0x82F63B78, 32, "e3069283"), (0x9A6C9329AC4BC9B5, 64, "ae8b14860a799888")],
)
def test_our_crcs_have_the_catalogs_check_values(polynomial, bits, check):
    crc = Crc(polynomial, bits)
    crc.update(b"123456789")
    assert crc.digest().hex() == check


def test_presigned_addresses_put_and_get_without_a_key_until_they_are_changed(bucket, server, key):
    s3 = server.client(key.id, key.secret, "s3", signature_version="s3v4")
    put = s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "a b"}, ExpiresIn=60)
    with urllib.request.urlopen(urllib.request.Request(put, b"hello", method="PUT")) as answer:
        assert answer.status == 200
    get = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "a b"}, ExpiresIn=60)
    with urllib.request.urlopen(get) as answer:
        assert answer.read() == b"hello"
    for changed in (get.replace("a%20b", "a%20c"), get.replace("Expires=60", "Expires=600"), put):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(changed)
        assert caught.value.code == 403
        assert b"<Code>SignatureDoesNotMatch</Code>" in caught.value.read()
        caught.value.close()


def test_a_presigned_address_says_under_which_name_and_type_an_object_is_saved(bucket, s3, server, key):
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", ContentType="text/csv")
    said = {"ResponseContentDisposition": 'attachment; filename="a.csv"', "ResponseContentType": "text/plain"}
    signing = server.client(key.id, key.secret, "s3", signature_version="s3v4")
    with urllib.request.urlopen(
        signing.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k", **said})
    ) as answer:
        assert (answer.headers["content-disposition"], answer.headers["content-type"]) == tuple(said.values())
    with refused("InvalidArgument", 400):
        s3.get_object(Bucket=bucket, Key="k", ResponseContentDisposition="attachment; filename=三.csv")


def test_an_address_presigned_as_ten_years_ago_is_refused_with_the_way_out(bucket, s3):
    old = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(old)
    assert b'signature_version="s3v4"' in caught.value.read()
    caught.value.close()


def test_a_bucket_can_be_named_by_the_host(server, key, bucket, s3):
    s3.put_object(Bucket=bucket, Key="a/b", Body=b"hello")
    host = f"desk.localhost:{server.port}"
    request = AWSRequest("GET", f"http://{host}/a/b", headers={"host": host})
    S3SigV4Auth(Credentials(key.id, key.secret), "s3", "us-east-1").add_auth(request)
    status, _, body = server.ask("GET", "/a/b", headers=dict(request.headers.items()))
    assert (status, body) == (200, b"hello")


@pytest.mark.parametrize(
    ("wrong", "code"),
    [({"secret": "wrong"}, "SignatureDoesNotMatch"), ({"key_id": "AKIANOBODY"}, "InvalidAccessKeyId")],
)
def test_a_wrong_key_is_refused_in_s3s_words(server, key, wrong, code):
    client = server.client(**{"key_id": key.id, "secret": key.secret, **wrong}, service="s3")
    with refused(code, 403):
        client.list_buckets()
    with refused(code, 403):
        client.put_object(Bucket="desk", Key="k", Body=bytes(MEGA))


def test_a_body_changed_on_the_way_is_refused_and_not_stored(server, key, bucket):
    client = server.client(key.id, key.secret, "s3")

    def change(request, **_):
        request.body = b"hellO"

    client.meta.events.register("before-send.s3.PutObject", change)
    with refused("SignatureDoesNotMatch", 403):
        client.put_object(Bucket=bucket, Key="k", Body=b"hello")
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)


PATHS = [
    "/desk/../keys.json",
    "/desk/%2e%2e/%2e%2e/keys.json",
    "/desk/..%2fkeys.json",
    "/desk//etc/passwd",
    "/desk/a%00b",
    "/desk/%ff",
    "/../keys.json",
    "/.about.sqlite",
    "/desk/%5c..%5c..%5ckeys.json",
    "/desk/link",
    "/desk/folder/keys.json",
]


def test_no_path_leads_out_of_a_bucket(home, bucket):
    (home / "buckets" / "desk" / "link").symlink_to(home / "keys.json")
    (home / "buckets" / "desk" / "folder").symlink_to(home)
    server = Server(home, "--no-auth")  # so that a path can be sent as no client of AWS would
    try:
        before = (home / "keys.json").read_bytes()
        for path in PATHS:
            for method, body in (("GET", None), ("PUT", b"{}"), ("DELETE", None)):
                sign = {"authorization": "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request"}
                status, _, said = server.ask(method, path, body, sign)
                assert status in (400, 404, 501) or (path.count("%5c") and status in (200, 204, 404)), (method, path)
                assert b"secret" not in said and b"Traceback" not in said
        assert (home / "keys.json").read_bytes() == before
        assert "keys.json" not in [
            path.name
            for path in (home / "buckets").rglob("keys.json")
            if not path.is_symlink() and "folder" not in path.parts
        ]
    finally:
        _, said = server.stop()
        (home / "buckets" / "desk" / "link").unlink()
        (home / "buckets" / "desk" / "folder").unlink()
    assert "Traceback" not in said


@pytest.mark.row(13)
def test_aws_cli_copies_lists_syncs_and_removes(server, key, bucket, tmp_path):
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    for name in ("one", "deep/two"):
        (tmp_path / "tree" / name).write_bytes(name.encode() * 1000)
    own = {"key_id": key.id, "secret": key.secret}
    for arguments in (
        ("s3", "sync", tmp_path / "tree", "s3://desk/tree"),
        ("s3", "cp", "s3://desk/tree/one", tmp_path / "back"),
        ("s3", "rm", "s3://desk/tree/one"),
    ):
        done = server.aws(*arguments, **own)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "back").read_bytes() == b"one" * 1000
    listed = server.aws("s3", "ls", "s3://desk", "--recursive", **own).stdout
    assert [line.split()[2:] for line in listed.splitlines()] == [["8000", "tree/deep/two"]]
    found = json.loads(server.aws("s3api", "head-object", "--bucket", "desk", "--key", "tree/deep/two", **own).stdout)
    assert found["ContentLength"] == 8000


def test_where_an_endpoint_is_configured_clients_are_sent_there(tmp_path):
    environment = {
        "LIMBECK_S3_ENDPOINT": "http://127.0.0.1:9",
        "LIMBECK_S3_ACCESS_KEY_ID": "k",
        "LIMBECK_S3_SECRET_ACCESS_KEY": "hush",
    }
    server = Server(tmp_path, "--no-auth", **environment)
    try:
        with pytest.raises(ClientError, match=r"not served here but by http://127.0.0.1:9; ask there"):
            server.client(service="s3").list_buckets()
    finally:
        _, said = server.stop()
    assert "hush" not in said
