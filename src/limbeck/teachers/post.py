"""One request over HTTP to a service that may be broken, slow or hostile.

Our own few lines over aiohttp, and no vendor's client, for what those do unasked: try again (here that costs from a
budget), follow redirects (with the key), take addresses, keys and proxies from the environment, unpack whatever comes.
Here a request goes to the address the user gave and nowhere else, an answer is read up to a size and within a time,
and whatever goes wrong has a name: a `Failure`, with what it may have cost.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from limbeck.errors import AccessDenied, InvalidInput, LimbeckError, TeacherFailed
from limbeck.recipe import Timeouts
from limbeck.teachers.endpoint import Failure
from limbeck.teachers.patience import retry_after

__all__ = ["KEY_NAMED", "Received", "checked", "key_from", "post", "session", "shown"]

MOST_BYTES = 32 << 20
"""The longest answer read: 8,192 tokens with 20 candidates each are a tenth of it."""
IDLE_SECONDS = 4.0
"""A connection unused for so long is not used again: uvicorn, under vLLM, ends them after five."""
SHOWN = 300
"""Characters of a service's own words in a message."""
PASSING = (408, 409, 425, 500, 502, 503, 504, 520, 522, 524, 529)
"""Statuses that may pass; those above 504 are Cloudflare's and Anthropic's (overloaded)."""

NO_WAY_OUT: Mapping[int, str] = {}
KEY_NAMED = "teacher.key names the environment variable with the key"


@dataclass(frozen=True)
class Received:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


def key_from(variable: str | None) -> str | None:
    """The key in an environment variable. Raises `InvalidInput`, which never shows it."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not re.fullmatch(r"[!-~]+", key):
        found = "holds what no header can carry" if key else "is not set"
        raise InvalidInput(f"teacher.key: the environment variable {variable} {found}; expected the service's key")
    return key


def session(timeouts: Timeouts, headers: Mapping[str, str]) -> aiohttp.ClientSession:
    """A session for one service. Its connections are limited by who asks, not here."""
    return aiohttp.ClientSession(
        headers={"User-Agent": "limbeck", "Accept": "application/json", "Accept-Encoding": "identity", **headers},
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(
            total=timeouts.whole,
            sock_connect=timeouts.connect,
            sock_read=timeouts.first_byte or timeouts.whole,
        ),
    )


async def post(open_session: aiohttp.ClientSession, url: str, body: Mapping[str, Any]) -> Received:
    """Send ``body`` as JSON and read what comes. Raises `Failure`; `TeacherFailed` for a certificate not trusted."""
    data = json.dumps(body, ensure_ascii=False).encode(errors="replace")
    kind = {"Content-Type": "application/json"}
    try:
        async with open_session.post(url, data=data, headers=kind, allow_redirects=False) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            read = bytearray()
            async for chunk in response.content.iter_any():
                read += chunk
                if len(read) > MOST_BYTES:
                    raise Failure(f"its answer is longer than {MOST_BYTES:,} bytes", used=None, bad_reply=True)
            return Received(response.status, headers, bytes(read))
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
        raise TeacherFailed(f"{url}: its certificate is not trusted: {error}") from None
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Failure(f"{url}: no connection ({error})") from None
    except TimeoutError:
        raise Failure("no answer within the time-out", used=None) from None
    except aiohttp.ClientError as error:
        raise Failure(f"the answer broke off ({type(error).__name__}: {error})"[:SHOWN], used=None) from None


def checked(received: Received, where: str, secret: str | None, ways_out: Mapping[int, str] = NO_WAY_OUT) -> Any:
    """The JSON of an answer. Raises `Failure` for a status that may pass and for no JSON, else `LimbeckError`.

    ``ways_out`` says, by status, what a user of this service can do about one that will not pass.
    """
    said = shown(received.body, secret)
    status = received.status
    if status == 200:
        if "content-encoding" in received.headers:
            raise Failure("its answer is compressed, unasked", used=None, bad_reply=True)
        try:
            return json.loads(received.body)
        except (ValueError, RecursionError):
            raise Failure(f"its answer is no JSON: {said}", used=None, bad_reply=True) from None
    if status == 429 and "insufficient_quota" not in said:
        raise Failure(f"too many requests (429): {said}", wait=retry_after(received.headers), busy=True)
    if status in PASSING:
        raise Failure(f"status {status}: {said}", wait=retry_after(received.headers))
    way_out = f"; {ways_out[status]}" if status in ways_out else ""
    raise _refusal(status, f"{where}: status {status}: {said}{way_out}")


def _refusal(status: int, message: str) -> LimbeckError:
    if status in (401, 403):
        return AccessDenied(message)
    if status in (400, 413, 422):
        return InvalidInput(message)
    if 300 <= status < 400:
        return TeacherFailed(f"{message}; it sends us elsewhere, which is not followed: say that address as endpoint")
    return TeacherFailed(message)


def shown(body: bytes | str, secret: str | None) -> str:
    """The beginning of what a service said, fit for a message: on one line, and without the key."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else body
    if secret:
        text = text.replace(secret, "…")
    printable = "".join(c if c.isprintable() else " " for c in text[: 4 * SHOWN])
    return " ".join(printable.split())[:SHOWN] or "(nothing)"
