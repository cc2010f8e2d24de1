"""Signature Version 4: what botocore signs is taken, and nothing else."""

from datetime import UTC, datetime, timedelta

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.api.auth import verify
from limbeck.errors import AccessDenied, Conflict, InvalidInput
from limbeck.storage.keys import Keys

SEGMENT = st.text("abcXYZ019-._~", min_size=1, max_size=8) | st.just(
    "arn%3Aaws%3Abedrock%3A%3Afoundation-model%2Fa.b-v1%3A0"
)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    made = Keys(tmp_path_factory.mktemp("keys") / "keys.json")
    made.add("ada")
    return made


def signed(keys, method="GET", path="/custom-models", query="maxResults=5", body=b"", service="bedrock", extra=()):
    (key,) = [one for one in keys.all() if one.user == "ada"]
    url = f"http://127.0.0.1:8462{path}{'?' if query else ''}{query}"
    request = AWSRequest(method, url=url, data=body, headers={"host": "127.0.0.1:8462", **dict(extra)})
    SigV4Auth(Credentials(key.id, key.secret), service, "us-east-1").add_auth(request)
    headers = {name.lower(): value for name, value in request.headers.items()}
    return {"method": method, "raw_path": path, "query": query, "headers": headers, "body": body}


@settings(max_examples=150, deadline=None)
@given(
    path=st.lists(SEGMENT, max_size=4).map(lambda parts: "/" + "/".join(parts)).filter(lambda path: "/." not in path),
    query=st.lists(st.tuples(SEGMENT, SEGMENT), max_size=3, unique_by=lambda pair: pair[0]),
    body=st.binary(max_size=40),
)
def test_whatever_botocore_signs_is_taken(keys, path, query, body):
    made = signed(keys, "POST", path, "&".join(f"{name}={value}" for name, value in query), body)
    assert verify(**made, service="bedrock", keys=keys).user == "ada"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "DELETE"}, "not the one this key makes"),
        ({"raw_path": "/custom-models/desk"}, "not the one this key makes"),
        ({"query": "maxResults=6"}, "not the one this key makes"),
        ({"body": b"other"}, "not the one this key makes"),
        ({"headers": {"host": "elsewhere"}}, "not the one this key makes"),
        ({"headers": {"x-amz-extra": "1"}}, "must be signed and are not: x-amz-extra"),
        ({"headers": {"authorization": "Bearer x"}}, "not signed"),
        ({"headers": {"authorization": ""}}, "not signed"),
        ({"headers": {"x-amz-date": "20200101T000000Z"}}, "of another day"),
        ({"headers": {"x-amz-date": "yesterday"}}, "X-Amz-Date is missing or not of the form"),
        ({"headers": {"x-amz-content-sha256": "0" * 64}}, "must be signed"),
    ],
)
def test_whatever_is_changed_afterwards_is_refused(keys, change, said):
    made = signed(keys, body=b"{}", method="POST")
    headers = {**made["headers"], **change.get("headers", {})}
    with pytest.raises(AccessDenied, match=said):
        verify(**{**made, **change, "headers": headers}, service="bedrock", keys=keys)


def test_a_signature_ages(keys):
    made = signed(keys)
    for moment in (datetime.now(UTC) + timedelta(minutes=6), datetime.now(UTC) - timedelta(minutes=6)):
        with pytest.raises(AccessDenied, match="from this machine's clock"):
            verify(**made, service="bedrock", keys=keys, now=moment)


def test_a_signature_for_another_service_is_refused(keys):
    with pytest.raises(AccessDenied, match="expected DATE/REGION/bedrock/aws4_request"):
        verify(**signed(keys, service="s3"), service="bedrock", keys=keys)


def test_a_signed_body_hash_must_be_the_bodys(keys):
    made = signed(keys, "POST", body=b"{}", extra=[("x-amz-content-sha256", "0" * 64)])
    with pytest.raises(AccessDenied, match="body is not the one"):
        verify(**made, service="bedrock", keys=keys)


def test_keys_are_two_a_user_private_and_gone_when_removed(tmp_path):
    path = tmp_path / "keys.json"
    keys, other = Keys(path), Keys(path)
    first, second = keys.add("ada"), keys.add("ada")
    assert {key.id for key in other.all()} == {first.id, second.id}
    assert path.stat().st_mode & 0o077 == 0
    assert first.secret not in repr(first)
    with pytest.raises(Conflict, match="has two keys"):
        keys.add("ada")
    keys.remove(first.id)
    assert other.find(first.id) is None
    with pytest.raises(InvalidInput, match="no key"):
        keys.remove(first.id)
    with pytest.raises(InvalidInput, match="expected a name"):
        keys.add("")
