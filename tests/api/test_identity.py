"""STS and IAM as a notebook meets them: plain boto3 against `limbeck serve`, with keys that are checked."""

import json
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError
from tests.api.server import Server

TRUST = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole"}]})
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "arn:aws:s3:::desk/*"}]})


@pytest.fixture(scope="module")
def server(home, key):
    made = Server(home, LIMBECK_ACCOUNT="123456789012")
    yield made
    _, said = made.stop()
    assert said.strip().count("\n") == 0, said  # it says where it serves, and nothing else


@pytest.fixture
def iam(server, key, home):
    yield server.client(key.id, key.secret, "iam")
    (home / "identity.json").unlink(missing_ok=True)


@pytest.fixture
def sts(server, key):
    return server.client(key.id, key.secret, "sts")


@contextmanager
def refused(code, status):
    """A block that is answered with that fault."""
    with pytest.raises(ClientError) as caught:
        yield
    answer = caught.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)


def test_a_caller_is_told_who_it_is(sts):
    found = sts.get_caller_identity()
    assert (found["Account"], found["Arn"]) == ("123456789012", "arn:aws:iam::123456789012:user/ada")
    address = sts.generate_presigned_url("get_caller_identity", HttpMethod="GET")
    with urllib.request.urlopen(address) as answer:
        assert b"user/ada" in answer.read()


@pytest.mark.row(72)
def test_the_notebooks_set_up_and_clean_up_their_role(iam):
    made = iam.create_role(
        RoleName="desk", AssumeRolePolicyDocument=TRUST, Description="ä <&>", Tags=[{"Key": "a", "Value": "b"}]
    )["Role"]
    assert made["Arn"] == "arn:aws:iam::123456789012:role/desk"
    policy = iam.create_policy(PolicyName="desk-s3", PolicyDocument=POLICY)["Policy"]
    assert policy["Arn"] == "arn:aws:iam::123456789012:policy/desk-s3"
    iam.attach_role_policy(RoleName="desk", PolicyArn=policy["Arn"])
    iam.attach_role_policy(RoleName="desk", PolicyArn="arn:aws:iam::aws:policy/AmazonS3FullAccess")
    iam.put_role_policy(RoleName="desk", PolicyName="more", PolicyDocument=POLICY)
    found = iam.get_role(RoleName="desk")["Role"]
    assert found == made
    assert (found["AssumeRolePolicyDocument"], found["Description"]) == (json.loads(TRUST), "ä <&>")
    assert abs(found["CreateDate"] - datetime.now(UTC)) < timedelta(minutes=1)
    assert iam.get_policy(PolicyArn=policy["Arn"])["Policy"]["AttachmentCount"] == 1
    assert [one["RoleName"] for one in iam.list_roles()["Roles"]] == ["desk"]
    attached = iam.list_attached_role_policies(RoleName="desk")["AttachedPolicies"]
    assert [one["PolicyName"] for one in attached] == ["desk-s3", "AmazonS3FullAccess"]
    assert iam.get_role_policy(RoleName="desk", PolicyName="more")["PolicyDocument"] == json.loads(POLICY)
    for ask in (lambda: iam.delete_role(RoleName="desk"), lambda: iam.delete_policy(PolicyArn=policy["Arn"])):
        with refused("DeleteConflict", 409):
            ask()
    for one in attached:
        iam.detach_role_policy(RoleName="desk", PolicyArn=one["PolicyArn"])
    assert iam.list_role_policies(RoleName="desk")["PolicyNames"] == ["more"]
    iam.delete_role_policy(RoleName="desk", PolicyName="more")
    iam.delete_policy(PolicyArn=policy["Arn"])
    iam.delete_role(RoleName="desk")
    assert iam.list_roles()["Roles"] == []


def test_what_is_there_cannot_be_made_and_what_is_not_cannot_be_had(iam):
    iam.create_role(RoleName="desk", AssumeRolePolicyDocument=TRUST)
    iam.create_policy(PolicyName="p", PolicyDocument=POLICY)
    with pytest.raises(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName="desk", AssumeRolePolicyDocument=TRUST)
    with pytest.raises(iam.exceptions.EntityAlreadyExistsException):
        iam.create_policy(PolicyName="p", PolicyDocument=POLICY)
    none = "arn:aws:iam::123456789012:policy/none"
    for ask in (
        lambda: iam.get_role(RoleName="none"),
        lambda: iam.delete_role(RoleName="none"),
        lambda: iam.get_policy(PolicyArn=none),
        lambda: iam.delete_policy(PolicyArn=none),
        lambda: iam.attach_role_policy(RoleName="desk", PolicyArn=none),
        lambda: iam.detach_role_policy(RoleName="desk", PolicyArn=none),
        lambda: iam.get_role_policy(RoleName="desk", PolicyName="none"),
    ):
        with pytest.raises(iam.exceptions.NoSuchEntityException):
            ask()
    for document in ("not json", "[]", "{}", "[" * 5000):
        with pytest.raises(iam.exceptions.MalformedPolicyDocumentException):
            iam.create_role(RoleName="other", AssumeRolePolicyDocument=document)


def test_faults_of_a_request_are_told_in_the_protocols_words(server, iam):
    with refused("ValidationError", 400):
        iam.create_role(RoleName="no spaces", AssumeRolePolicyDocument=TRUST)
    with refused("InvalidAction", 400):
        iam.list_users()
    with refused("SignatureDoesNotMatch", 403):
        server.client(iam._request_signer._credentials.access_key, "wrong", "iam").list_roles()
    with refused("InvalidClientTokenId", 403):
        server.client("AKIANOBODY", "wrong", "sts").get_caller_identity()


def test_a_role_is_taken_for_a_while_and_signs_for_every_service(server, sts, iam):
    with refused("AccessDenied", 403):
        sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/none", RoleSessionName="monday")
    role = iam.create_role(RoleName="desk", AssumeRolePolicyDocument=TRUST)["Role"]
    taken = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="monday", DurationSeconds=900)
    arn = "arn:aws:sts::123456789012:assumed-role/desk/monday"
    assert taken["AssumedRoleUser"]["Arn"] == arn
    assert timedelta(minutes=14) < taken["Credentials"]["Expiration"] - datetime.now(UTC) <= timedelta(minutes=15)
    said = taken["Credentials"]
    by = {"key_id": said["AccessKeyId"], "secret": said["SecretAccessKey"], "token": said["SessionToken"]}
    as_role = server.client(**by, service="sts")
    assert as_role.get_caller_identity()["Arn"] == arn
    assert server.client(**by, service="s3").list_buckets()["Buckets"] == []
    assert server.client(**by).list_custom_models()["modelSummaries"] == []
    with refused("AccessDenied", 403):
        as_role.assume_role(RoleArn=role["Arn"], RoleSessionName="tuesday")
    with pytest.raises(ClientError, match="is a session's, and no session token came; send AWS_SESSION_TOKEN"):
        server.client(by["key_id"], by["secret"], "sts").get_caller_identity()
