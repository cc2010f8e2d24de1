"""The port itself: which face a request reaches, what is refused before and while its body comes, TLS, the log."""

import asyncio
import errno
import logging
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
import trustme
from botocore.exceptions import ClientError
from sqlalchemy.exc import OperationalError
from tests.api.server import Server

from limbeck.api import app as application
from limbeck.api.app import App
from limbeck.api.faults import unforeseen
from limbeck.api.identity import Identity
from limbeck.api.logs import STRUCK, Redacted
from limbeck.api.openai import OpenAI
from limbeck.api.s3 import S3
from limbeck.api.tls import Certificate, own_certificate
from limbeck.settings import Settings
from limbeck.storage.keys import Keys
from limbeck.storage.objects import Buckets
from limbeck.wire.exchange import Response

SIGNED = (
    "AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/{}/aws4_request, SignedHeaders=host, Signature=" + "0" * 64
)


class Scripted:
    """A face that answers with its name, or with a stream, and keeps what it was asked."""

    def __init__(self, name, services=(), places=(), body_bytes=1000, stream=None):
        self.name, self.services, self.places, self.body_bytes, self.stream = name, services, places, body_bytes, stream
        self.asked = []

    def has(self, method, raw_path):
        return (method, raw_path) in self.places

    async def answer(self, request):
        self.asked.append(request)
        if request.file:
            return Response(200, request.file.read())
        return Response(200, self.name.encode(), stream=self.stream and self.stream())

    def fault(self, error, request_id):
        return unforeseen(error, request_id)


def call(app, method="GET", path="/", headers=(), body=(b"",), client=("127.0.0.1", 1), scheme="http", leave=None):
    """What ``app`` sends for one request whose body comes in pieces; a number among them is a pause in seconds."""

    async def one():
        pieces, sent = list(body), []

        async def receive():
            while pieces and isinstance(pieces[0], float):
                await asyncio.sleep(pieces.pop(0))
            if pieces:
                piece = pieces.pop(0)
                return {"type": "http.request", "body": piece, "more_body": bool(pieces)}
            await (asyncio.Event().wait() if leave is None else asyncio.sleep(leave))
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        raw = [(name.encode(), value.encode()) for name, value in dict(headers).items()]
        path_only, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "raw_path": path_only.encode(),
            "query_string": query.encode(),
            "headers": raw,
            "client": client,
            "scheme": scheme,
        }
        await app(scope, receive, send)
        return sent

    return asyncio.run(one())


def answered(sent):
    """Status and body."""
    return sent[0]["status"], b"".join(message["body"] for message in sent[1:])


@pytest.fixture
def faces():
    return [
        Scripted("bedrock", ("bedrock",), [("GET", "/custom-models")]),
        Scripted("openai", (), [("POST", "/v1/chat/completions")]),
        Scripted("identity", ("sts", "iam"), [("POST", "/")]),
        Scripted("s3", ("s3",), [("GET", "/desk/key")]),
    ]


@pytest.mark.parametrize(
    ("headers", "heard"),
    [
        ({}, True),
        ({"host": "localhost:8462"}, True),
        ({"host": "127.0.0.1:8462", "origin": "http://localhost:3000", "sec-fetch-site": "same-site"}, True),
        ({"host": "[::1]:8462"}, True),
        ({"host": "desk.localhost:8462"}, True),
        ({"host": "evil.example:8462"}, False),
        ({"host": "localhost.evil.example"}, False),
        ({"host": "10.0.0.7:8462"}, False),
        ({"host": "localhost:8462", "origin": "https://evil.example"}, False),
        ({"host": "localhost:8462", "origin": "null"}, False),
        ({"host": "localhost:8462", "sec-fetch-site": "cross-site"}, False),
    ],
)
def test_without_keys_no_page_from_elsewhere_is_heard(tmp_path, headers, heard):
    face = Scripted("first")
    for method, path in (("POST", "/desk?delete"), ("GET", "/metrics")):
        sent = call(App([face], None, tmp_path), method, path, headers)
        assert sent[0]["status"] == (200 if heard else 403)
    assert len(face.asked) == heard


@pytest.mark.parametrize(
    ("method", "path", "sign", "face"),
    [
        ("GET", "/anything", SIGNED.format("s3"), "s3"),
        ("POST", "/", SIGNED.format("sts"), "identity"),
        ("POST", "/", SIGNED.format("iam"), "identity"),
        ("GET", "/desk/key", SIGNED.format("bedrock"), "bedrock"),
        ("GET", "/desk?X-Amz-Credential=AKIA%2F20260101%2Fus-east-1%2Fs3%2Faws4_request", "", "s3"),
        ("GET", "/custom-models", "", "bedrock"),
        ("POST", "/v1/chat/completions", "Bearer x", "openai"),
        ("POST", "/", "", "identity"),
        ("GET", "/desk/key", "", "s3"),
        ("GET", "/nothing", "", "bedrock"),
        ("GET", "/anything", SIGNED.format("kms"), "bedrock"),
    ],
)
def test_a_request_reaches_the_face_it_is_signed_for_or_that_has_its_address(faces, tmp_path, method, path, sign, face):
    headers = {"host": "localhost", "authorization": sign} if sign else {"host": "localhost"}
    assert answered(call(App(faces, None, tmp_path), method, path, headers)) == (200, face.encode())


def test_a_large_body_comes_as_a_file_and_a_small_one_in_memory(tmp_path):
    large, small = Scripted("s3", ("s3",), body_bytes=5_000_000_000), Scripted("bedrock")
    app = App([small, large], None, tmp_path / "spool")
    body = [b"a" * 900_000, b"b" * 900_000]
    assert answered(call(app, "PUT", "/k", {"authorization": SIGNED.format("s3")}, body)) == (200, b"".join(body))
    assert large.asked[0].body == b""
    assert answered(call(app, body=[b"12", b"3"]))[0] == 200
    assert (small.asked[0].body, small.asked[0].file) == (b"123", None)
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_body_too_large_or_too_slow_or_never_whole_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(application, "BODY_SECONDS", 0.2)
    face = Scripted("bedrock")
    app = App([face], None, tmp_path)
    for headers, body, said in (
        ({}, [b"a" * 600, b"a" * 600], b"over 1,000 bytes"),
        ({"content-length": "1001"}, [], b"over 1,000 bytes"),
        ({}, [b"a", 0.1, b"a", 0.1, b"a", 0.1, b"a"], b"send it faster"),
        ({}, [b"a", 5.0, b"a"], b"send it faster"),
        ({"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}, [b""], b"x-amz-decoded-content-length"),
    ):
        began = time.monotonic()
        status, found = answered(call(app, "POST", "/", headers, body))
        assert (status, said in found) == (400, True), found
        assert time.monotonic() - began < 2
    assert face.asked == []


def test_a_request_refused_for_its_head_is_not_asked_for_its_body(tmp_path):
    keys = Keys(tmp_path / "keys.json")
    status, said = answered(
        call(App([Scripted("bedrock", ("bedrock",))], keys, tmp_path), "POST", "/", body=[60.0, b"never"])
    )
    assert (status, b"not signed" in said) == (403, True)


def test_a_header_sent_twice_is_not_the_one_that_was_signed(tmp_path, faces):
    async def one():
        raw = [(b"host", b"localhost"), (b"x-amz-acl", b"private"), (b"x-amz-acl", b"public")]
        scope = {"type": "http", "method": "GET", "raw_path": b"/", "query_string": b"", "headers": raw}

        async def receive():
            return (
                {"type": "http.request", "body": b"", "more_body": False}
                if not faces[0].asked
                else await asyncio.Event().wait()
            )

        async def send(message):
            pass

        await App(faces, None, tmp_path)(scope, receive, send)

    asyncio.run(one())
    assert faces[0].asked[0].headers["x-amz-acl"] == "private,public"


def test_a_client_that_leaves_ends_its_stream(tmp_path):
    closed, sent = [], []

    async def stream():
        try:
            for number in range(1000):
                sent.append(number)
                yield b"piece"
                await asyncio.sleep(0.01)
        finally:
            closed.append("async")

    def blocking():
        try:
            while True:
                time.sleep(0.01)
                yield b"piece"
        finally:
            closed.append("blocking")

    for made in (stream, blocking):
        call(App([Scripted("bedrock", stream=made)], None, tmp_path), leave=0.1)
    assert closed == ["async", "blocking"]
    assert 2 < len(sent) < 100


def test_who_is_cut_off_by_the_end_of_the_service_is_told_to_ask_again(tmp_path):
    class Slow(Scripted):
        async def answer(self, request):
            asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
            await asyncio.Event().wait()

    status, body = answered(call(App([Slow("bedrock")], None, tmp_path)))
    assert (status, b"the service is shutting down; ask again" in body) == (429, True)

    async def stream():
        yield b"piece"
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
        await asyncio.Event().wait()

    sent = call(App([Scripted("bedrock", stream=stream)], None, tmp_path))
    assert answered(sent) == (200, b"piece") and sent[-1]["more_body"], "what is begun stays unfinished"


def test_a_stream_is_sent_whole_to_a_client_that_stays_and_not_at_all_for_a_head(tmp_path):
    async def stream():
        for piece in (b"one ", b"two"):
            yield piece

    app = App([Scripted("bedrock", stream=stream)], None, tmp_path)
    assert b"one two" in answered(call(app))[1]
    assert answered(call(app, "HEAD")) == (200, b"")


def test_hooks_run_in_order_before_the_first_request_and_after_the_last(tmp_path):
    done = []

    def hook(name, fails=False):
        async def run():
            done.append(name)
            if fails:
                raise RuntimeError(name)

        return run

    def live(app):
        async def run():
            sent = []

            async def receive():
                return {"type": "lifespan.shutdown" if sent else "lifespan.startup"}

            async def send(message):
                sent.append(message["type"])

            await app({"type": "lifespan"}, receive, send)
            return sent

        return asyncio.run(run())

    stop = [hook("stop", fails=True), hook("and this")]
    assert live(App([], None, tmp_path, start=[hook("one"), hook("two")], stop=stop)) == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert done == ["one", "two", "stop", "and this"]
    assert live(App([], None, tmp_path, start=[hook("bad", fails=True), hook("never")])) == ["lifespan.startup.failed"]
    assert done[-1] == "bad"


def test_metrics_are_read_from_this_machine_or_with_a_bearer_key(tmp_path):
    keys = Keys(tmp_path / "keys.json")
    _, token = keys.add_bearer("prometheus")
    app = App([Scripted("bedrock")], keys, tmp_path, metrics=lambda: "up 1\n")
    away = {"client": ("192.0.2.7", 1)}
    assert answered(call(app, path="/metrics")) == (200, b"up 1\n")
    assert answered(call(app, path="/metrics", **away))[0] == 403
    with_key = {"authorization": f"Bearer {token}"}
    assert answered(call(app, path="/metrics", headers=with_key, scheme="https", **away)) == (200, b"up 1\n")
    status, said = answered(call(app, path="/metrics", headers=with_key, **away))
    assert (status, b"over plain http" in said) == (403, True)
    assert answered(call(app, path="/health", **away))[0] == 200


@pytest.fixture(scope="module")
def secure(home, key):
    made = Server(home, "--tls", authority=home / "tls" / "ca.pem")
    yield made
    _, said = made.stop()
    assert f"AWS_CA_BUNDLE={home / 'tls' / 'ca.pem'}" in said
    assert "Traceback" not in said


def test_keys_are_made_and_listed_at_the_terminal(home, key):
    def keys(*arguments):
        command = [sys.executable, "-m", "limbeck", "keys", *arguments, "--home", str(home)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    found = re.fullmatch("AWS_BEARER_TOKEN_BEDROCK=(\\S+)\n", keys("add", "bob", "--bearer"))
    listed = keys("list")
    assert re.search(r"bob +bearer +BRER", listed) and re.search(rf"ada +access +{key.id}", listed)
    assert found[1] not in listed and key.secret not in listed


def test_over_tls_a_bearer_key_works_with_boto3_and_a_wrong_one_does_not(home, secure, monkeypatch):
    made, token = Keys(home / "keys.json").add_bearer("cleo")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(secure.authority))

    def models(bearer):
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", bearer)
        client = boto3.Session().client("bedrock", endpoint_url=secure.url, region_name="us-east-1")
        return client.list_custom_models()["modelSummaries"]

    assert models(token) == []
    with pytest.raises(ClientError) as caught:
        models("limbeck-wrong")
    assert caught.value.response["Error"]["Code"] == "AccessDeniedException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    Keys(home / "keys.json").remove(made.id)
    with pytest.raises(ClientError):
        models(token)


def test_over_tls_boto3s_bodies_in_chunks_arrive_with_their_checksums(secure, key, tmp_path):
    s3 = secure.client(key.id, key.secret, "s3")
    sent = []
    s3.meta.events.register(
        "before-send.s3", lambda request, **_: sent.append(request.headers.get("x-amz-content-sha256"))
    )
    s3.create_bucket(Bucket="chunks")
    (tmp_path / "up").write_bytes(os.urandom(20_000_000))
    for algorithm in ("CRC32", "SHA256"):
        s3.upload_file(str(tmp_path / "up"), "chunks", "big", ExtraArgs={"ChecksumAlgorithm": algorithm})
        s3.download_file("chunks", "big", str(tmp_path / "down"))
        assert (tmp_path / "down").read_bytes() == (tmp_path / "up").read_bytes()
    s3.put_object(Bucket="chunks", Key="small", Body=b"hello")
    assert s3.get_object(Bucket="chunks", Key="small")["Body"].read() == b"hello"
    assert b"STREAMING-UNSIGNED-PAYLOAD-TRAILER" in sent


def test_a_client_that_leaves_lets_go_of_the_file_it_was_reading(secure, key):
    s3 = secure.client(key.id, key.secret, "s3")
    s3.create_bucket(Bucket="leaving")
    s3.put_object(Bucket="leaving", Key="big", Body=bytes(30_000_000))

    def is_open():
        opened = (path.readlink() for path in Path(f"/proc/{secure.process.pid}/fd").iterdir() if path.is_symlink())
        return any(path.parts[-2:] == ("leaving", "big") for path in opened)

    body = s3.get_object(Bucket="leaving", Key="big")["Body"]
    assert len(body.read(1000)) == 1000
    assert is_open()
    body.close()
    began = time.monotonic()
    while is_open():
        assert time.monotonic() - began < 10
        time.sleep(0.05)


def test_a_connection_cut_in_the_middle_of_a_body_leaves_no_object(secure, key, home):
    s3 = secure.client(key.id, key.secret, "s3")
    s3.create_bucket(Bucket="cut")

    def cut(request, **_):
        line = secure.line()
        line.putrequest("PUT", "/cut/k")
        for name, value in request.headers.items():
            line.putheader(name, value.decode() if isinstance(value, bytes) else value)
        line.putheader("Content-Length", "1000000")
        line.endheaders(b"some")
        line.close()
        raise OSError("cut")

    s3.meta.events.register("before-send.s3.PutObject", cut)
    with pytest.raises(OSError, match="cut"):
        s3.put_object(Bucket="cut", Key="k", Body=bytes(1_000_000))
    assert "Contents" not in s3.list_objects_v2(Bucket="cut")


def test_a_fault_of_ours_is_told_without_its_trace_and_logged_with_it(tmp_path):
    (tmp_path / "buckets" / "desk").mkdir(parents=True)
    (tmp_path / "buckets" / ".about.sqlite").write_text("not a database at all, and longer than a page's header" * 10)
    server = Server(tmp_path, "--no-auth")
    try:
        status, headers, body = server.ask("GET", "/desk/", headers={"x-amz-security-token": "hush-hush"})
        assert (status, b"a fault of ours" in body, b"sqlite" in body) == (500, True, False)
    finally:
        _, said = server.stop()
    assert headers["x-amzn-requestid"] in said
    assert "DatabaseError" in said
    assert "hush-hush" not in said


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Bearer hush-hush",
        "AWS4-HMAC-SHA256 Credential=AKIA/x, Signature=hush-hush",
        "GET /k?X-Amz-Security-Token=hush-hush&X-Amz-Signature=hush-hush&x=1",
        "{'x-amz-security-token': 'hush-hush', 'host': 'here'}",
        "AccessKey(secret='hush-hush')",
        'aws_secret_access_key="hush-hush"',
        "the known-one came",
    ],
)
def test_what_opens_a_door_is_struck_out_of_the_log(line):
    made = Redacted(["known-one"])
    found = made.format(logging.LogRecord("limbeck", logging.ERROR, "", 1, "%s", (line,), None))
    assert STRUCK in found
    assert "hush-hush" not in found and "known-one" not in found
    try:
        raise ValueError(line)
    except ValueError:
        traced = logging.LogRecord("limbeck", logging.ERROR, "", 1, "failed", (), sys.exc_info())
    assert "Traceback" in made.format(traced)
    assert "hush-hush" not in made.format(traced) and "known-one" not in made.format(traced)


def test_a_certificate_is_made_once_with_its_key_to_its_owner_alone(tmp_path):
    made = own_certificate(tmp_path / "tls", "127.0.0.1")
    assert made.faults("127.0.0.1") == made.faults("localhost") == made.faults("0.0.0.0") == []
    assert [path.name for path in sorted((tmp_path / "tls").iterdir())] == ["ca.pem", "certificate.pem", "key.pem"]
    assert made.key.stat().st_mode & 0o077 == 0
    before = made.chain.read_bytes()
    assert own_certificate(tmp_path / "tls", "elsewhere.example").chain.read_bytes() == before
    (said,) = made.faults("elsewhere.example")
    assert "is not for elsewhere.example; remove" in said


def test_what_is_wrong_with_a_certificate_is_told_by_check(tmp_path):
    authority = trustme.CA()
    old = authority.issue_cert(
        "localhost", not_before=datetime(2020, 1, 1), not_after=datetime.now(UTC) - timedelta(days=1)
    )
    other = authority.issue_cert("localhost")
    chain, key, wrong = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "wrong.pem"
    old.cert_chain_pems[0].write_to_path(str(chain))
    for path, issued in ((key, old), (wrong, other)):
        issued.private_key_pem.write_to_path(str(path))
        path.chmod(0o600)
    assert "valid from 2020-01-01" in Certificate(chain, key).faults("localhost")[0]
    assert "no certificate with its key" in Certificate(chain, wrong).faults("localhost")[0]
    assert "no such file" in Certificate(chain, tmp_path / "none").faults("localhost")[0]
    key.chmod(0o644)
    assert "can be read by others" in Certificate(chain, key).faults("localhost")[1]
    flags = ["serve", "--check", "--no-auth", "--home", str(tmp_path), "--certificate", str(chain)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    found = subprocess.run(
        [sys.executable, "-m", "limbeck", *flags, "--key", str(key), "--port", port], capture_output=True, text=True
    )
    assert (found.returncode, found.stdout.count("\n")) == (2, 2)
    found = subprocess.run([sys.executable, "-m", "limbeck", *flags], capture_output=True, text=True)
    assert (found.returncode, "go together" in found.stderr) == (2, True)


@pytest.mark.parametrize(
    "full",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OperationalError("insert", {}, sqlite3.OperationalError("database or disk is full")),
    ],
)
def test_a_full_disk_is_told_by_every_face_as_what_it_is(tmp_path, full):
    settings = Settings(tmp_path, 1)
    faces = [S3(Buckets(tmp_path / "buckets"), "us-east-1", None), Identity(settings), OpenAI(None, list)]
    for found in (unforeseen(full, "r-1"), *(face.fault(full, "r-1") for face in faces)):
        assert found.status == 500
        assert b"the service's disk is full" in found.body and b"r-1" in found.body and b"ours" not in found.body
