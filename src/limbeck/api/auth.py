"""Signature Version 4, verified: the request is signed again with the caller's secret and the two compared.

The signing itself is botocore's, over exactly the headers the client says it signed. Refused are: no signature, an
unknown key, a wrong signature, a clock more than `SKEW` away, a scope of another service or day, a header that
must be signed and is not, and a body that is not the signed one.
Reference: AWS, "Signature Version 4 signing process", 2012-02-12.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from limbeck.errors import AccessDenied
from limbeck.storage.keys import AccessKey, Keys

__all__ = ["verify"]

SKEW = timedelta(minutes=5)
"""How far the client's clock may be from ours: AWS's own bound for a signature's age."""

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=([^,\s]{1,200}),\s*SignedHeaders=([^,\s]{1,4000}),\s*Signature=([0-9a-f]{64})"
)


def verify(
    method: str,
    raw_path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
    service: str,
    keys: Keys,
    now: datetime | None = None,
) -> AccessKey:
    """The key that signed the request. ``headers`` have lower-case names; raises `AccessDenied`."""
    given = headers.get("authorization", "")
    found = _AUTHORIZATION.fullmatch(given.strip())
    if found is None:
        raise AccessDenied("the request is not signed; expected AWS Signature Version 4 in the Authorization header")
    credential, named, signature = found.groups()
    scope = credential.split("/")
    if len(scope) != 5 or scope[3:] != [service, "aws4_request"]:
        raise AccessDenied(
            f"the signature's scope is {'/'.join(scope[1:])}; expected DATE/REGION/{service}/aws4_request"
        )
    key_id, day, region = scope[:3]
    moment = _moment(headers.get("x-amz-date", ""))
    if not moment.startswith(day):
        raise AccessDenied("the signature's scope is of another day than X-Amz-Date")
    _check_clock(moment, now or datetime.now(UTC))
    key = keys.find(key_id)
    if key is None:
        raise AccessDenied(f"no access key {key_id}; `limbeck keys add` makes one", "UnrecognizedClientException")
    signed = named.split(";")
    missing = [name for name in headers if (name == "host" or name.startswith("x-amz-")) and name not in signed]
    if "host" not in signed or missing:
        raise AccessDenied(f"headers that must be signed and are not: {', '.join(missing) or 'host'}")
    promised = headers.get("x-amz-content-sha256")
    if promised is not None and promised != hashlib.sha256(body).hexdigest():
        raise AccessDenied("the body is not the one that was signed", "InvalidSignatureException")
    expected = _signature(
        method, raw_path, query, {name: headers.get(name, "") for name in signed}, body, service, region, moment, key
    )
    if not hmac.compare_digest(expected, signature):
        raise AccessDenied(
            "the signature is not the one this key makes for this request; check the secret key, and that no proxy"
            " changes path or host",
            "InvalidSignatureException",
        )
    return key


def _signature(
    method: str,
    raw_path: str,
    query: str,
    signed: Mapping[str, str],
    body: bytes,
    service: str,
    region: str,
    moment: str,
    key: AccessKey,
) -> str:
    signer = SigV4Auth(Credentials(key.id, key.secret), service, region)
    url = f"http://{signed['host']}{raw_path}{'?' if query else ''}{query}"
    request = AWSRequest(method, url=url, data=body, headers=dict(signed))
    request.context["timestamp"] = moment
    canonical = signer.canonical_request(request)
    return str(signer.signature(signer.string_to_sign(request, canonical), request))


def _moment(date: str) -> str:
    if not re.fullmatch(r"[0-9]{8}T[0-9]{6}Z", date):
        raise AccessDenied("X-Amz-Date is missing or not of the form 20260131T235959Z")
    return date


def _check_clock(moment: str, now: datetime) -> None:
    try:
        then = datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise AccessDenied(f"X-Amz-Date {moment} is no time") from None
    if abs(now - then) > SKEW:
        raise AccessDenied(
            f"the request was signed at {moment}, {abs(now - then)} from this machine's clock; at most {SKEW} is taken",
            "InvalidSignatureException",
        )
