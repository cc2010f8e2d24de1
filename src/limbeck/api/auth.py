"""Who asks: AWS Signature Version 4, in the Authorization header or in the query, and bearer keys.

What can be checked before the body is read is checked before (`admit`): the key, the clock, the headers that must be
signed and, where the head of the request promises the body's hash, the signature itself. The rest waits in the
`Visitor`. Refused are an unknown key, a wrong signature, a clock more than `SKEW` away, a scope of another service or
day, a header that must be signed and is not, and a body that is not the signed one.

Reference: AWS, "Signature Version 4 signing process" and, for S3, "Authenticating Requests: Using Query Parameters"
and "Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks".
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import quote, urlsplit

from limbeck.api.sessions import find_key
from limbeck.errors import AccessDenied
from limbeck.storage.keys import Keys
from limbeck.wire.exchange import Request

__all__ = ["Seal", "Visitor", "admit", "check_here", "is_loopback", "signed_for"]

SKEW = timedelta(minutes=5)
"""How far the client's clock may be from ours: AWS's own bound for a signature's age."""

LONGEST = timedelta(days=7)
"""How long a presigned address may be good for, as S3 has it."""

UNSIGNED = ("UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
SEALED = ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER")
"""What S3's clients promise in place of a body's hash: nothing, or signatures within the body."""

EMPTY = hashlib.sha256().hexdigest()

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=([^,\s]{1,200}),\s*SignedHeaders=([^,\s]{1,4000}),\s*Signature=([0-9a-f]{64})"
)
_DATE = re.compile("[0-9]{8}T[0-9]{6}Z")
_SCOPE = re.compile(r"Credential=[^,\s/]+/[^,\s/]+/[^,\s/]+/([a-z0-9-]+)/aws4_request")


@dataclass(frozen=True)
class Visitor:
    """Who asks, as far as the head of the request says, and what is left to check of its body."""

    caller: str = "anonymous"
    check: Callable[[str], None] = lambda sha256: None
    """To be called with the SHA-256 of the body that came; raises `AccessDenied` if that is not what was signed."""
    seal: Seal | None = None
    """Of a body that is signed chunk by chunk."""


@dataclass(frozen=True)
class Signature:
    """What a request says of its signature."""

    key_id: str
    day: str
    region: str
    service: str
    headers: tuple[str, ...]
    """The names of the headers that are signed."""
    value: str
    date: str
    seconds: int | None = None
    """How long a presigned address is good for; None for a signature in the header."""
    token: str | None = None
    """Of a session."""

    @property
    def scope(self) -> str:
        """What the signing key is good for."""
        return f"{self.day}/{self.region}/{self.service}/aws4_request"


class Seal:
    """The chain of signatures within a body: each chunk's is made from the one before."""

    def __init__(self, signature: Signature, key: bytes) -> None:
        self._signature, self._key, self._last = signature, key, signature.value

    def check_chunk(self, sha256: str, said: str) -> None:
        """Raise `AccessDenied` unless ``said`` is the signature of the next chunk."""
        self._check("AWS4-HMAC-SHA256-PAYLOAD", f"{EMPTY}\n{sha256}", said)

    def check_trailer(self, sha256: str, said: str) -> None:
        """Raise `AccessDenied` unless ``said`` is the signature of the headers behind the last chunk."""
        self._check("AWS4-HMAC-SHA256-TRAILER", sha256, said)

    def _check(self, kind: str, hashes: str, said: str) -> None:
        parts = (kind, self._signature.date, self._signature.scope, self._last, hashes)
        self._last = _hmac(self._key, "\n".join(parts)).hex()
        if not hmac.compare_digest(self._last.encode(), said.encode()):
            raise AccessDenied("a chunk of the body is not the one that was signed", "InvalidSignatureException")


def check_here(request: Request) -> None:
    """Where no key is asked for: raise `AccessDenied` for what a web page of another machine may have sent.

    A browser on this machine sends what any page tells it to. It says which page that was (``Origin``,
    ``Sec-Fetch-Site``), and which name it was sent to: a name of another's can be made to lead here.
    """
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    if host and not _is_here(f"//{host}"):
        raise AccessDenied(
            f'sent to "{host[:100]}"; without keys only what is sent to localhost, 127.0.0.1 or [::1] is answered'
        )
    elsewhere = request.headers.get("sec-fetch-site") == "cross-site"
    if elsewhere or (origin is not None and not _is_here(origin)):
        raise AccessDenied(
            f'sent by a page of "{(origin or "another site")[:100]}"; without keys no such page is heard'
        )


def _is_here(address: str) -> bool:
    try:
        name = urlsplit(address).hostname or ""
    except ValueError:
        return False
    return name.endswith(".localhost") or is_loopback(name)


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own, that nobody else reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def signed_for(request: Request) -> str | None:
    """The service a request says it is signed for; nothing is verified."""
    found = _SCOPE.search(
        request.headers.get("authorization") or f"Credential={_query(request).get('X-Amz-Credential')}"
    )
    return found and found[1]


def admit(
    request: Request,
    services: Sequence[str],
    keys: Keys,
    private: bool = True,
    now: datetime | None = None,
) -> Visitor:
    """Who asks one of ``services``; raises `AccessDenied`. The request's body is not looked at.

    Bearer keys are for Amazon Bedrock and for what has no signing name, and only where nobody can listen
    (``private``: over TLS or from this machine).
    """
    now = now or datetime.now(UTC)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return _bearer(token.strip(), services, keys, private)
    if not services:
        raise AccessDenied("no key came; expected the header Authorization: Bearer KEY")
    signature = _signature(request)
    if signature.service not in services:
        raise AccessDenied(
            f"the signature's scope is {signature.scope}; expected DATE/REGION/{services[0]}/aws4_request"
        )
    _check_clock(signature, now)
    key = find_key(keys, signature.key_id, signature.token, now)
    _check_headers(request, signature)

    signing_key = _signing_key(key.secret, signature.scope)

    def verify(payload: str) -> None:
        _verify(request, signature, signing_key, payload)

    promised = _promised(request, signature)
    if promised is None:
        return Visitor(key.user, verify)
    verify(promised)
    if promised in UNSIGNED:
        return Visitor(key.user)
    if promised in SEALED:
        return Visitor(key.user, seal=Seal(signature, signing_key))

    def compare(sha256: str) -> None:
        if sha256 != promised:
            raise AccessDenied("the body is not the one that was signed", "InvalidSignatureException")

    return Visitor(key.user, compare)


def _bearer(token: str, services: Sequence[str], keys: Keys, private: bool) -> Visitor:
    if services and "bedrock" not in services:
        raise AccessDenied(f"a bearer key is not taken for {services[0]}; sign with an access key")
    if not private:
        raise AccessDenied("a bearer key came over plain http, where anybody on the way can read it; use https")
    key = keys.find_bearer(token)
    if key is None:
        raise AccessDenied("no such bearer key; `limbeck keys add USER --bearer` makes one")
    return Visitor(key.user)


def _signature(request: Request) -> Signature:
    query, given = _query(request), request.headers.get("authorization", "")
    if given and "X-Amz-Signature" in query:
        raise AccessDenied("the request is signed twice, in its Authorization header and in its query; expected one")
    if "X-Amz-Signature" in query:
        parts = [query.get(f"X-Amz-{name}", "") for name in ("Credential", "SignedHeaders", "Signature")]
        date, token = query.get("X-Amz-Date", ""), query.get("X-Amz-Security-Token")
        seconds = query.get("X-Amz-Expires", "")
        if query.get("X-Amz-Algorithm") != "AWS4-HMAC-SHA256" or not re.fullmatch("[0-9a-f]{64}", parts[2]):
            raise AccessDenied("the signature in the query is not AWS Signature Version 4")
        if not re.fullmatch("[0-9]{1,6}", seconds) or not 1 <= int(seconds) <= LONGEST.total_seconds():
            raise AccessDenied(
                f'X-Amz-Expires is "{seconds[:20]}"; expected 1 to {LONGEST.total_seconds():.0f} seconds'
            )
    elif "AWSAccessKeyId" in request.raw_query:
        raise AccessDenied(
            "the address is signed with version 2, which is not taken; with boto3, make it by a client"
            ' that has Config(signature_version="s3v4"), with aws-cli after'
            " `aws configure set default.s3.signature_version s3v4`"
        )
    else:
        found = _AUTHORIZATION.fullmatch(given.strip())
        if found is None:
            raise AccessDenied(
                "the request is not signed; expected AWS Signature Version 4 in the Authorization header"
            )
        parts = list(found.groups())
        date, token = request.headers.get("x-amz-date", ""), request.headers.get("x-amz-security-token")
        seconds = ""
    credential, names, value = parts
    scope = credential.split("/")
    if len(scope) != 5 or scope[4] != "aws4_request":
        raise AccessDenied("the signature's credential is not of the form KEY/DATE/REGION/SERVICE/aws4_request")
    key_id, day, region, service, _ = scope
    lifetime = int(seconds) if seconds else None
    return Signature(key_id, day, region, service, tuple(names.split(";")), value, date, lifetime, token)


def _query(request: Request) -> dict[str, str]:
    return request.query if "X-Amz-" in request.raw_query else {}


def _check_clock(signature: Signature, now: datetime) -> None:
    try:
        then = datetime.fromisoformat(signature.date if _DATE.fullmatch(signature.date) else "")
    except ValueError:
        raise AccessDenied("X-Amz-Date is missing or not a time of the form 20260131T235959Z") from None
    if not signature.date.startswith(signature.day):
        raise AccessDenied("the signature's scope is of another day than X-Amz-Date")
    latest = SKEW if signature.seconds is None else timedelta(seconds=signature.seconds)
    if signature.seconds is not None and now > then + latest:
        raise AccessDenied(f"the address was good for {latest} from {signature.date}; have another one made")
    if not then - SKEW <= now <= then + latest:
        raise AccessDenied(
            f"the request was signed at {signature.date}, {abs(now - then)} from this machine's clock;"
            f" at most {SKEW} is taken",
            "InvalidSignatureException",
        )


def _check_headers(request: Request, signature: Signature) -> None:
    must = [name for name in request.headers if name == "host" or name.startswith("x-amz-")]
    missing = sorted({*must, "host"} - set(signature.headers))
    if missing:
        raise AccessDenied(f"headers that must be signed and are not: {', '.join(missing)}")


def _promised(request: Request, signature: Signature) -> str | None:
    """The body's hash, or a word in its place, that the head of the request was signed with; None if it has none."""
    promised = request.headers.get("x-amz-content-sha256")
    of_s3 = signature.service == "s3"
    if promised is None:
        return "UNSIGNED-PAYLOAD" if of_s3 and signature.seconds is not None else None
    if not re.fullmatch("[0-9a-f]{64}", promised) and not (of_s3 and promised in (*UNSIGNED, *SEALED)):
        raise AccessDenied(f'x-amz-content-sha256 is "{promised[:60]}", which is not taken here')
    return promised


def _verify(request: Request, signature: Signature, key: bytes, payload: str) -> None:
    # S3 signs the path as it is sent, every other service the path encoded once more. AWS would also take the dots and
    # double slashes out of it first; here such a path is not taken, so that what is signed is what is routed.
    path = request.raw_path if signature.service == "s3" else quote(request.raw_path, safe="/~")
    pairs = (pair.partition("=") for pair in request.raw_query.split("&") if pair)
    query = "&".join(f"{name}={value}" for name, _, value in sorted(pairs) if name != "X-Amz-Signature")
    headers = "".join(f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in signature.headers)
    canonical = "\n".join((request.method, path, query, headers, ";".join(signature.headers), payload))
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    expected = _hmac(key, f"AWS4-HMAC-SHA256\n{signature.date}\n{signature.scope}\n{hashed}").hex()
    if not hmac.compare_digest(expected, signature.value):
        raise AccessDenied(
            "the signature is not the one this key makes for this request; check the secret key, and that no proxy"
            " changes path or host",
            "InvalidSignatureException",
        )


@lru_cache(maxsize=100)
def _signing_key(secret: str, scope: str) -> bytes:
    """The same all day for a client; whether its key still counts is asked before."""
    made = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        made = _hmac(made, part)
    return made


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
