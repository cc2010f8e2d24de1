"""A small STS and IAM: who am I, and the roles and policies that a notebook makes before its first job.

Roles and policies are kept, so that what was made is found, cannot be made twice and is gone when deleted. They have
no effect: whoever has a key may do everything, and a job reads what the service itself can read.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote

from starlette.concurrency import run_in_threadpool

from limbeck.api import query
from limbeck.api.faults import excuse
from limbeck.api.sessions import open_session
from limbeck.arns import Arns, short_id
from limbeck.errors import AccessDenied, InvalidInput
from limbeck.settings import Settings
from limbeck.storage.keys import AccessKey, Keys
from limbeck.storage.table import Table
from limbeck.wire.exchange import Request, Response
from limbeck.wire.operations import Service

__all__ = ["Identity"]

log = logging.getLogger(__name__)

Asked = Mapping[str, Any]
Answered = dict[str, Any]

SESSION_SECONDS = 3600
"""How long a session lasts when nobody says."""

REFUSALS = {
    "AccessDeniedException": "AccessDenied",
    "ExpiredTokenException": "ExpiredToken",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "UnrecognizedClientException": "InvalidClientTokenId",
}
"""The names these services have for what `auth` refuses."""


class Identity:
    """The operations, over the roles and policies of a home."""

    services = ("sts", "iam")
    body_bytes = 1_000_000
    """Several of the largest policies, encoded."""

    def __init__(self, settings: Settings) -> None:
        self._arns = Arns(settings.region, settings.account)
        self._account = settings.account
        self._keys = Keys(settings.keys)
        self._table = Table(settings.identity)
        self._operations = {operation.name: operation for operation in Service("sts", "iam").operations.values()}

    def has(self, method: str, raw_path: str) -> bool:
        """See `Face.has`: every request of the query protocol is posted to the root."""
        return (method, raw_path) == ("POST", "/")

    async def answer(self, request: Request) -> Response:
        """See `Face.answer`."""
        return await run_in_threadpool(self._do, request)

    def fault(self, error: Exception, request_id: str) -> Response:
        """See `Face.fault`."""
        if isinstance(error, _Fault):
            return query.fault(error.code, error.status, str(error), request_id)
        if isinstance(error, AccessDenied):
            return query.fault(REFUSALS.get(error.wire_name, "AccessDenied"), error.status, str(error), request_id)
        if isinstance(error, InvalidInput):
            return query.fault("ValidationError", 400, str(error), request_id)
        log.error("request %s failed", request_id, exc_info=error)
        return query.fault("InternalFailure", 500, excuse(error, request_id), request_id)

    def _do(self, request: Request) -> Response:
        try:
            text = request.body.decode() or request.raw_query  # a presigned address has its form in the query
        except UnicodeDecodeError:
            raise InvalidInput("the request's form is not UTF-8") from None
        form = dict(parse_qsl(text, keep_blank_values=True))
        name = form.get("Action", "")
        function = OPERATIONS.get(name)
        if function is None:
            raise _Fault("InvalidAction", 400, f'"{name[:100]}": not here; expected {", ".join(sorted(OPERATIONS))}')
        operation = self._operations[name]
        asked = query.read(operation, form)
        return query.write(operation, function(self, asked, request.caller), request.id)

    def _get_caller_identity(self, asked: Asked, caller: str) -> Answered:
        arn = self._arns.caller(caller)
        return {"UserId": f"AIDA{short_id(arn).upper()}", "Account": self._account, "Arn": arn}

    def _assume_role(self, asked: Asked, caller: str) -> Answered:
        role = next((role for role in self._rows("roles").values() if role["Arn"] == asked["RoleArn"]), None)
        if role is None:
            raise AccessDenied(f"no role {asked['RoleArn']}; iam.create_role makes one")
        own = [key for key in self._keys.all() if isinstance(key, AccessKey) and key.user == caller]
        if not own and caller != "anonymous":
            raise AccessDenied("a session cannot take another role; take it with a user's access key")
        # Where any request is taken, so is a session of a key that nobody has.
        key = own[0] if own else AccessKey("AKIANOBODY", secrets.token_urlsafe(30), caller, "")
        name = asked["RoleSessionName"]
        until = datetime.now(UTC) + timedelta(seconds=asked.get("DurationSeconds", SESSION_SECONDS))
        session = open_session(key, role["RoleName"], name, until)
        return {
            "Credentials": {
                "AccessKeyId": session.key.id,
                "SecretAccessKey": session.key.secret,
                "SessionToken": session.token,
                "Expiration": until,
            },
            "AssumedRoleUser": {
                "AssumedRoleId": f"{role['RoleId']}:{name}",
                "Arn": self._arns.caller(f"{role['RoleName']}/{name}"),
            },
        }

    def _create_role(self, asked: Asked, caller: str) -> Answered:
        _check_document(asked["AssumeRolePolicyDocument"])
        name, path = asked["RoleName"], asked.get("Path", "/")
        arn = f"arn:aws:iam::{self._account}:role{path}{name}"
        role = {
            "Path": path,
            "RoleName": name,
            "RoleId": f"AROA{secrets.token_hex(8).upper()}",
            "Arn": arn,
            "CreateDate": _now(),
            "AssumeRolePolicyDocument": quote(asked["AssumeRolePolicyDocument"]),
            "Description": asked.get("Description"),
            "MaxSessionDuration": asked.get("MaxSessionDuration", SESSION_SECONDS),
            "Tags": asked.get("Tags"),
        }
        with self._table.changing() as rows:
            roles = rows.setdefault("roles", {})
            if name in roles:
                raise _Fault("EntityAlreadyExists", 409, f"role {name} exists already")
            roles[name] = {**role, "attached": {}, "inline": {}}
        return {"Role": role}

    def _get_role(self, asked: Asked, caller: str) -> Answered:
        return {"Role": _shown(_role(self._table.rows(), asked))}

    def _list_roles(self, asked: Asked, caller: str) -> Answered:
        prefix = asked.get("PathPrefix", "/")
        roles = [_shown(role) for role in self._rows("roles").values() if role["Path"].startswith(prefix)]
        return {"Roles": sorted(roles, key=lambda role: str(role["RoleName"])), "IsTruncated": False}

    def _delete_role(self, asked: Asked, caller: str) -> Answered:
        with self._table.changing() as rows:
            role = _role(rows, asked)
            if role["attached"] or role["inline"]:
                names = ", ".join([*role["attached"].values(), *role["inline"]])
                raise _Fault("DeleteConflict", 409, f"role {role['RoleName']} has policies: {names}; detach or delete")
            del rows["roles"][role["RoleName"]]
        return {}

    def _put_role_policy(self, asked: Asked, caller: str) -> Answered:
        _check_document(asked["PolicyDocument"])
        with self._table.changing() as rows:
            _role(rows, asked)["inline"][asked["PolicyName"]] = asked["PolicyDocument"]
        return {}

    def _get_role_policy(self, asked: Asked, caller: str) -> Answered:
        role, name = _role(self._table.rows(), asked), asked["PolicyName"]
        if name not in role["inline"]:
            raise _no_entity(f"role {role['RoleName']} has no policy {name}")
        return {"RoleName": role["RoleName"], "PolicyName": name, "PolicyDocument": quote(role["inline"][name])}

    def _list_role_policies(self, asked: Asked, caller: str) -> Answered:
        return {"PolicyNames": sorted(_role(self._table.rows(), asked)["inline"]), "IsTruncated": False}

    def _delete_role_policy(self, asked: Asked, caller: str) -> Answered:
        with self._table.changing() as rows:
            role = _role(rows, asked)
            if role["inline"].pop(asked["PolicyName"], None) is None:
                raise _no_entity(f"role {role['RoleName']} has no policy {asked['PolicyName']}")
        return {}

    def _create_policy(self, asked: Asked, caller: str) -> Answered:
        _check_document(asked["PolicyDocument"])
        name, path, now = asked["PolicyName"], asked.get("Path", "/"), _now()
        arn = f"arn:aws:iam::{self._account}:policy{path}{name}"
        policy = {
            "PolicyName": name,
            "PolicyId": f"ANPA{secrets.token_hex(8).upper()}",
            "Arn": arn,
            "Path": path,
            "DefaultVersionId": "v1",
            "AttachmentCount": 0,
            "IsAttachable": True,
            "Description": asked.get("Description"),
            "CreateDate": now,
            "UpdateDate": now,
            "Tags": asked.get("Tags"),
        }
        with self._table.changing() as rows:
            policies = rows.setdefault("policies", {})
            if arn in policies:
                raise _Fault("EntityAlreadyExists", 409, f"policy {name} exists already")
            policies[arn] = {**policy, "document": asked["PolicyDocument"]}
        return {"Policy": policy}

    def _get_policy(self, asked: Asked, caller: str) -> Answered:
        rows, arn = self._table.rows(), asked["PolicyArn"]
        policy = {name: value for name, value in _policy(rows, arn).items() if name != "document"}
        return {"Policy": {**policy, "AttachmentCount": len(_holders(rows, arn))}}

    def _delete_policy(self, asked: Asked, caller: str) -> Answered:
        arn = asked["PolicyArn"]
        with self._table.changing() as rows:
            _policy(rows, arn)
            holders = _holders(rows, arn)
            if holders:
                raise _Fault("DeleteConflict", 409, f"policy {arn} is attached to {', '.join(holders)}; detach it")
            del rows["policies"][arn]
        return {}

    def _attach_role_policy(self, asked: Asked, caller: str) -> Answered:
        arn = asked["PolicyArn"]
        with self._table.changing() as rows:
            role = _role(rows, asked)
            if not arn.startswith("arn:aws:iam::aws:policy/"):  # AWS's own are taken by their names
                _policy(rows, arn)
            role["attached"][arn] = arn.rpartition("/")[2]
        return {}

    def _detach_role_policy(self, asked: Asked, caller: str) -> Answered:
        with self._table.changing() as rows:
            role = _role(rows, asked)
            if role["attached"].pop(asked["PolicyArn"], None) is None:
                raise _no_entity(f"policy {asked['PolicyArn']} is not attached to role {role['RoleName']}")
        return {}

    def _list_attached_role_policies(self, asked: Asked, caller: str) -> Answered:
        attached = _role(self._table.rows(), asked)["attached"]
        found = [{"PolicyName": name, "PolicyArn": arn} for arn, name in sorted(attached.items())]
        return {"AttachedPolicies": found, "IsTruncated": False}

    def _rows(self, kind: str) -> dict[str, dict[str, Any]]:
        return dict(self._table.rows().get(kind, {}))


OPERATIONS: Mapping[str, Callable[[Identity, Asked, str], Answered]] = {
    "AssumeRole": Identity._assume_role,
    "AttachRolePolicy": Identity._attach_role_policy,
    "CreatePolicy": Identity._create_policy,
    "CreateRole": Identity._create_role,
    "DeletePolicy": Identity._delete_policy,
    "DeleteRole": Identity._delete_role,
    "DeleteRolePolicy": Identity._delete_role_policy,
    "DetachRolePolicy": Identity._detach_role_policy,
    "GetCallerIdentity": Identity._get_caller_identity,
    "GetPolicy": Identity._get_policy,
    "GetRole": Identity._get_role,
    "GetRolePolicy": Identity._get_role_policy,
    "ListAttachedRolePolicies": Identity._list_attached_role_policies,
    "ListRolePolicies": Identity._list_role_policies,
    "ListRoles": Identity._list_roles,
    "PutRolePolicy": Identity._put_role_policy,
}


class _Fault(Exception):
    """A fault under a name of IAM's own."""

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(message)
        self.code, self.status = code, status


def _no_entity(message: str) -> _Fault:
    return _Fault("NoSuchEntity", 404, message)


def _role(rows: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    found: dict[str, Any] | None = rows.get("roles", {}).get(asked["RoleName"])
    if found is None:
        raise _no_entity(f"no role {asked['RoleName']}")
    return found


def _shown(role: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in role.items() if name not in ("attached", "inline")}


def _policy(rows: Mapping[str, Any], arn: str) -> dict[str, Any]:
    found: dict[str, Any] | None = rows.get("policies", {}).get(arn)
    if found is None:
        raise _no_entity(f"no policy {arn}")
    return found


def _holders(rows: Mapping[str, Any], arn: str) -> list[str]:
    """The roles a policy is attached to."""
    return [role["RoleName"] for role in rows.get("roles", {}).values() if arn in role["attached"]]


def _check_document(text: str) -> None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Fault("MalformedPolicyDocument", 400, f"the policy is not JSON: {error}") from None
    if not isinstance(document, dict) or "Statement" not in document:
        raise _Fault("MalformedPolicyDocument", 400, "the policy has no Statement")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
