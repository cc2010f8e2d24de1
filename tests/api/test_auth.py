"""Who asks: what botocore signs is taken, and nothing that was changed afterwards; bearer keys and sessions."""

import hashlib
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from limbeck.api.auth import admit, signed_for
from limbeck.api.body import ChunkedBody
from limbeck.api.sessions import open_session
from limbeck.errors import AccessDenied, Conflict, InvalidInput, LimbeckError
from limbeck.storage.keys import AccessKey, Keys
from limbeck.storage.workspace import write_json
from limbeck.wire.exchange import Request

SEGMENT = st.text("abcXYZ019-._~", min_size=1, max_size=8) | st.just(
    "arn%3Aaws%3Abedrock%3A%3Afoundation-model%2Fa.b-v1%3A0"
)
PATH = st.lists(SEGMENT, max_size=4).map(lambda parts: "/" + "/".join(parts)).filter(lambda path: "/." not in path)
QUERY = st.lists(st.tuples(SEGMENT, SEGMENT), max_size=3, unique_by=lambda pair: pair[0]).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
)
SIGNERS = {
    ("bedrock", False): SigV4Auth,
    ("s3", False): S3SigV4Auth,
    ("sts", True): SigV4QueryAuth,
    ("s3", True): S3SigV4QueryAuth,
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    made = Keys(tmp_path_factory.mktemp("keys") / "keys.json")
    made.add("ada")
    made.add("bob")
    return made


def credentials(keys, user="ada"):
    (key,) = [one for one in keys.all() if one.user == user and isinstance(one, AccessKey)]
    return Credentials(key.id, key.secret)


def signed(
    keys,
    method="GET",
    path="/custom-models",
    query="maxResults=5",
    body=b"",
    service="bedrock",
    extra=(),
    presigned=False,
    by=None,
):
    url = f"http://127.0.0.1:8462{path}{'?' if query else ''}{query}"
    # botocore takes the body of what it presigns for a form; there is none to such an address.
    request = AWSRequest(
        method, url=url, data=b"" if presigned else body, headers={"host": "127.0.0.1:8462", **dict(extra)}
    )
    more = {"expires": 60} if presigned else {}
    SIGNERS[service, presigned](by or credentials(keys), service, "us-east-1", **more).add_auth(request)
    headers = {name.lower(): value for name, value in request.headers.items()}
    _, _, query = request.url.partition("?")
    return Request(method, path, query, headers, body, "request-1")


def ask(keys, request, service="bedrock", **more):
    """Who signed it, head and body."""
    visitor = admit(request, (service,), keys, **more)
    visitor.check(hashlib.sha256(request.body).hexdigest())
    return visitor.caller


@settings(max_examples=200, deadline=None)
@given(PATH, QUERY, st.binary(max_size=40), st.sampled_from(sorted(SIGNERS)))
@pytest.mark.row(12)
def test_whatever_botocore_signs_is_taken(keys, path, query, body, how):
    service, presigned = how
    made = signed(keys, "POST", path, query, body, service, presigned=presigned)
    assert signed_for(made) == service
    made = replace(made, body=b"") if how == ("sts", True) else made
    assert ask(keys, made, service) == "ada"


def mutated(data, text):
    """``text`` with one character changed, added or taken away."""
    place = data.draw(st.integers(0, len(text)), "place")
    new = data.draw(st.sampled_from(["", *"aZ09%/=&;., -"]), "new")
    gone = data.draw(st.integers(0, 1), "gone")
    return text[:place] + new + text[place + gone :]


@settings(max_examples=300, deadline=None)
@given(st.data(), PATH, QUERY, st.binary(min_size=1, max_size=40), st.sampled_from(sorted(SIGNERS)))
@pytest.mark.row(12)
def test_a_request_changed_in_one_place_is_never_taken(keys, data, path, query, body, how):
    service, presigned = how
    made = signed(keys, "PUT", path, query, body, service, [("x-amz-acl", "private")], presigned)
    made = replace(made, body=b"") if presigned else made
    part = data.draw(st.sampled_from(["method", "raw_path", "raw_query", "header", "body"]))
    if part == "body":
        assume(not presigned)  # such an address does not bind what is put there
        changed = replace(made, body=made.body + b"x")
    elif part == "header":
        name = data.draw(st.sampled_from(sorted(made.headers)))
        value = mutated(data, made.headers[name])
        assume(value.split() != made.headers[name].split())
        # How many spaces stand between the parts of the header, or none, is not signed.
        assume(name != "authorization" or value.replace(" ", "") != made.headers[name].replace(" ", ""))
        changed = replace(made, headers={**made.headers, name: value})
    else:
        value = mutated(data, getattr(made, part))
        assume(value != getattr(made, part))
        # The order of a query's parts and what stands between two "&" are not signed: they mean the same.
        assume(part != "raw_query" or sorted(filter(None, value.split("&"))) != sorted(made.raw_query.split("&")))
        # A name without a value is a name with an empty one.
        assume(part != "raw_query" or "=" in "".join(value.split("&")))
        changed = replace(made, **{part: value})
    with pytest.raises(AccessDenied):
        ask(keys, changed, service)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "DELETE"}, "not the one this key makes"),
        ({"raw_path": "/custom-models/desk"}, "not the one this key makes"),
        ({"raw_query": "maxResults=6"}, "not the one this key makes"),
        ({"body": b"other"}, "not the one this key makes"),
        ({"headers": {"host": "elsewhere"}}, "not the one this key makes"),
        ({"headers": {"x-amz-extra": "1"}}, "must be signed and are not: x-amz-extra"),
        ({"headers": {"authorization": "Basic x"}}, "not signed"),
        ({"headers": {"authorization": ""}}, "not signed"),
        ({"headers": {"x-amz-date": "20200101T000000Z"}}, "of another day"),
        ({"headers": {"x-amz-date": "yesterday"}}, "X-Amz-Date is missing or not a time"),
        ({"headers": {"x-amz-content-sha256": "0" * 64}}, "must be signed"),
        ({"raw_query": "X-Amz-Signature=0"}, "signed twice"),
    ],
)
def test_a_refusal_says_what_was_expected(keys, change, said):
    made = signed(keys, body=b"{}", method="POST")
    changed = replace(made, **{**change, "headers": {**made.headers, **change.get("headers", {})}})
    with pytest.raises(AccessDenied, match=said):
        ask(keys, changed)


def test_a_signature_ages(keys):
    made = signed(keys)
    for minutes, taken in ((4, True), (-4, True), (6, False), (-6, False)):
        moment = datetime.now(UTC) + timedelta(minutes=minutes)
        if taken:
            assert ask(keys, made, now=moment) == "ada"
        else:
            with pytest.raises(AccessDenied, match="from this machine's clock"):
                ask(keys, made, now=moment)


def test_a_presigned_address_is_good_for_as_long_as_it_says(keys):
    made = signed(keys, service="s3", presigned=True)
    now = datetime.now(UTC)
    assert ask(keys, made, "s3", now=now + timedelta(seconds=50)) == "ada"
    with pytest.raises(AccessDenied, match="was good for 0:01:00"):
        ask(keys, made, "s3", now=now + timedelta(seconds=70))
    with pytest.raises(AccessDenied, match="from this machine's clock"):
        ask(keys, made, "s3", now=now - timedelta(minutes=6))
    for seconds in ("0", "604801", "-1", "x", ""):
        changed = replace(made, raw_query=made.raw_query.replace("X-Amz-Expires=60", f"X-Amz-Expires={seconds}"))
        with pytest.raises(AccessDenied, match="expected 1 to 604800 seconds"):
            ask(keys, changed, "s3")


def test_a_signature_for_another_service_is_refused(keys):
    with pytest.raises(AccessDenied, match="expected DATE/REGION/bedrock/aws4_request"):
        ask(keys, signed(keys, service="s3"))


def test_a_body_is_the_promised_one_and_a_wrong_promise_is_refused_before_the_body_is_read(keys):
    made = signed(keys, "PUT", body=b"{}", service="s3")
    visitor = admit(replace(made, body=b""), ("s3",), keys)
    with pytest.raises(AccessDenied, match="body is not the one"):
        visitor.check(hashlib.sha256(b"other").hexdigest())
    for promise, said in (
        ("0" * 64, "not the one this key makes"),
        ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "not taken here"),
    ):
        with pytest.raises(AccessDenied, match=said):
            admit(replace(made, headers={**made.headers, "x-amz-content-sha256": promise}), ("s3",), keys)
    bedrock = signed(keys, "POST", body=b"{}", extra=[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")])
    with pytest.raises(AccessDenied, match="not taken here"):
        ask(keys, bedrock)


# The example of AWS's "Transferring Payload in Multiple Chunks": its key, its bytes and its signatures.
EXAMPLE = {
    "content-encoding": "aws-chunked",
    "content-length": "66824",
    "host": "s3.amazonaws.com",
    "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "x-amz-date": "20130524T000000Z",
    "x-amz-decoded-content-length": "66560",
    "x-amz-storage-class": "REDUCED_REDUNDANCY",
}
SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
CHUNKS = [
    (65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
    (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
    (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
]


def example(tmp_path):
    """AWS's example, admitted, and its body."""
    row = {"secret": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "user": "ada", "created": ""}
    write_json(tmp_path / "keys.json", {"AKIAIOSFODNN7EXAMPLE": row})
    credential = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"
    sign = f"AWS4-HMAC-SHA256 Credential={credential},SignedHeaders={';'.join(EXAMPLE)},Signature={SEED}"
    headers = {**EXAMPLE, "authorization": sign}
    request = Request("PUT", "/examplebucket/chunkObject.txt", "", headers, b"", "request-1")
    visitor = admit(request, ("s3",), Keys(tmp_path / "keys.json"), now=datetime(2013, 5, 24, tzinfo=UTC))
    body = b"".join(b"%x;chunk-signature=%s\r\n%s\r\n" % (size, sign.encode(), b"a" * size) for size, sign in CHUNKS)
    return visitor, body


@pytest.mark.parametrize("piece", [1_000_000, 65536, 77])
def test_a_body_signed_chunk_by_chunk_is_taken_as_awss_example_has_it(tmp_path, piece):
    visitor, sent = example(tmp_path)
    body = ChunkedBody(io.BytesIO(), 100_000, 66560, visitor.seal)
    for start in range(0, len(sent), piece):
        body.feed(sent[start : start + piece])
    assert body.end() == {}
    assert body.file.read() == b"a" * 66560


@pytest.mark.parametrize(
    "change",
    [
        lambda sent: sent.replace(b"aaa", b"aba", 1),
        lambda sent: sent.replace(b"ad80c", b"ad80d"),
        lambda sent: sent.replace(
            b";chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497", b""
        ),
        lambda sent: sent[-len(b"0;chunk-signature=\r\n\r\n") - 64 :],
        lambda sent: sent[: -len(b"0;chunk-signature=\r\n\r\n") - 64],
        lambda sent: sent[:-2],
        lambda sent: sent[:-2] + b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n",
        lambda sent: sent.replace(b"10000;", b"fffffffff;", 1),
        lambda sent: sent.replace(b"10000;", b"ffff;", 1),
        lambda sent: b"not chunked at all\r\n" + sent,
        lambda sent: b"1" * 2000,
        lambda sent: sent + b"more",
    ],
)
def test_a_chunk_changed_cut_off_or_badly_framed_is_refused(tmp_path, change):
    visitor, sent = example(tmp_path)
    body = ChunkedBody(io.BytesIO(), 100_000, 66560, visitor.seal)
    with pytest.raises(LimbeckError):
        body.feed(change(sent))
        body.end()


def test_only_checksums_are_taken_from_behind_a_body():
    body = ChunkedBody(io.BytesIO(), 100, 5, None)
    body.feed(b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\nx-amz-copy-source: other/key\r\n\r\n")
    assert body.end() == {"x-amz-checksum-crc32": "NhCmhg=="}
    assert body.file.read() == b"hello"


@pytest.mark.row(12)
def test_a_bearer_key_is_taken_where_nobody_can_listen_and_for_what_takes_one(keys):
    made, token = keys.add_bearer("cleo")
    request = Request("GET", "/custom-models", "", {"authorization": f"Bearer {token}"}, b"", "request-1")
    for services in (("bedrock",), ()):
        assert admit(request, services, keys).caller == "cleo"
    for services, private, said in ((("s3",), True, "not taken for s3"), (("bedrock",), False, "over plain http")):
        with pytest.raises(AccessDenied, match=said):
            admit(request, services, keys, private)
    with pytest.raises(AccessDenied, match="no such bearer key"):
        admit(replace(request, headers={"authorization": f"Bearer {token[:-1]}"}), ("bedrock",), keys)
    with pytest.raises(AccessDenied, match="expected the header Authorization: Bearer KEY"):
        admit(signed(keys), (), keys)
    keys.remove(made.id)
    with pytest.raises(AccessDenied, match="no such bearer key"):
        admit(request, ("bedrock",), keys)


def test_a_session_signs_as_its_role_until_it_ends_or_its_key_goes(tmp_path):
    keys = Keys(tmp_path / "keys.json")
    own = keys.add("ada")
    until = datetime.now(UTC) + timedelta(seconds=60)
    session = open_session(own, "desk", "monday", until)
    by = Credentials(session.key.id, session.key.secret, session.token)
    made = signed(keys, by=by)
    assert ask(keys, made) == "desk/monday"
    assert ask(keys, signed(keys, service="s3", presigned=True, by=by), "s3") == "desk/monday"
    with pytest.raises(AccessDenied, match="the session ended"):
        ask(keys, made, now=until + timedelta(seconds=1))
    for token in ("", "x", "a.b.c", session.token[:-1], f"{own.id}..", session.token + "é"):
        with pytest.raises(AccessDenied):
            ask(keys, signed(keys, by=Credentials(session.key.id, session.key.secret, token)))
    with pytest.raises(AccessDenied, match="not the one this key makes"):
        ask(keys, signed(keys, by=Credentials(session.key.id, own.secret, session.token)))
    assert session.key.secret not in repr(session) and session.token not in repr(session)
    keys.remove(own.id)
    with pytest.raises(AccessDenied, match="its key is gone"):
        ask(keys, made)


def test_keys_are_two_of_a_kind_a_user_private_and_gone_when_removed(tmp_path):
    path = tmp_path / "keys.json"
    keys, other = Keys(path), Keys(path)
    first, second = keys.add("ada"), keys.add("ada")
    bearer, token = keys.add_bearer("ada")
    assert {key.id for key in other.all()} == {first.id, second.id, bearer.id}
    assert path.stat().st_mode & 0o077 == 0
    assert first.secret not in repr(first)
    assert token not in path.read_text()
    assert other.find(bearer.id) is None
    with pytest.raises(Conflict, match="has two keys"):
        keys.add("ada")
    keys.remove(first.id)
    assert other.find(first.id) is None
    with pytest.raises(InvalidInput, match="no key"):
        keys.remove(first.id)
    for user in ("", "a/b", "x" * 65, "a b"):
        with pytest.raises(InvalidInput, match="expected a name"):
            keys.add(user)
