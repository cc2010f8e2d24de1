"""Keys for a while: what AssumeRole gives, and how a request signed with it is known again.

Nothing is stored. A session's token says who took which role until when, sealed with the secret of the key it was
taken with; its secret key is made from the same two. So a session ends with its time, or with that key's removal.
Whoever holds the key could seal a token too, and would have nothing the key does not give: a session's caller is
always ROLE/NAME, never a user.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from dataclasses import dataclass, field
from datetime import datetime

from limbeck.errors import AccessDenied
from limbeck.storage.keys import ALPHABET, AccessKey, Keys

__all__ = ["Session", "find_key", "open_session"]

SESSION = "ASIA"
"""How the id of a session's key begins."""


@dataclass(frozen=True)
class Session:
    """What a client needs to sign for a while."""

    key: AccessKey
    token: str = field(repr=False)
    until: datetime


def open_session(key: AccessKey, role: str, name: str, until: datetime) -> Session:
    """A session of ``role`` called ``name``, taken with ``key``."""
    key_id = SESSION + "".join(secrets.choice(ALPHABET) for _ in range(16))
    said = {"id": key_id, "caller": f"{role}/{name}", "until": until.isoformat()}
    payload = base64.urlsafe_b64encode(json.dumps(said).encode()).decode()
    made = AccessKey(key_id, _sealed(key, "secret", payload)[:40], said["caller"], key.created)
    return Session(made, f"{key.id}.{payload}.{_sealed(key, 'token', payload)}", until)


def find_key(keys: Keys, key_id: str, token: str | None, now: datetime) -> AccessKey:
    """The key ``key_id``, a user's or, with a ``token``, a session's. Raises `AccessDenied`."""
    if token is None:
        key = keys.find(key_id)
        if key is None and key_id.startswith(SESSION):
            raise AccessDenied(
                f"access key {key_id} is a session's, and no session token came; send AWS_SESSION_TOKEN with it",
                "UnrecognizedClientException",
            )
        if key is None:
            raise AccessDenied(f"no access key {key_id}; `limbeck keys add` makes one", "UnrecognizedClientException")
        return key
    taken_with, _, rest = token.partition(".")
    payload, _, seal = rest.partition(".")
    key = keys.find(taken_with)
    if key is None or not hmac.compare_digest(_sealed(key, "token", payload).encode(), seal.encode()):
        raise AccessDenied("the session token is none of ours, or its key is gone", "UnrecognizedClientException")
    said = json.loads(base64.urlsafe_b64decode(payload))
    if said["id"] != key_id or "/" not in said["caller"]:
        raise AccessDenied("the session token is not this key's", "UnrecognizedClientException")
    until = datetime.fromisoformat(said["until"])
    if now > until:
        raise AccessDenied(f"the session ended at {until:%Y-%m-%dT%H:%M:%SZ}", "ExpiredTokenException")
    return AccessKey(key_id, _sealed(key, "secret", payload)[:40], said["caller"], key.created)


def _sealed(key: AccessKey, purpose: str, payload: str) -> str:
    return hmac.digest(key.secret.encode(), f"{purpose} {payload}".encode(), "sha256").hex()
