"""What went wrong, as a client of AWS expects to hear it: a status, a name in a header, a message in the body."""

from __future__ import annotations

import json
import logging

from limbeck.errors import AccessDenied, LimbeckError, is_full
from limbeck.wire.exchange import Response

__all__ = ["answer", "excuse", "unforeseen"]

log = logging.getLogger(__name__)


def answer(name: str, status: int, message: str) -> Response:
    """The error ``name`` with ``message``."""
    body = json.dumps({"message": message}, ensure_ascii=False).encode(errors="replace")
    return Response(status, body, {"content-type": "application/json", "x-amzn-errortype": name})


def unforeseen(error: Exception, request_id: str) -> Response:
    """Any error at all. One of ours says what it says; another is logged whole, and its user gets the log's key."""
    if isinstance(error, AccessDenied):
        return answer(error.wire_name, error.status, str(error))
    if isinstance(error, LimbeckError) and error.status < 500:
        return answer(error.api_name, error.status, str(error))
    log.error("request %s failed", request_id, exc_info=error)
    message = str(error) if isinstance(error, LimbeckError) else excuse(error, request_id)
    return answer("InternalServerException", 500, message)


def excuse(error: Exception, request_id: str) -> str:
    """What a user hears of an error that nobody foresaw; the log has it whole."""
    why = "the service's disk is full" if is_full(error) else "a fault of ours, not of your request"
    return f"{why}; the server's log has it under {request_id}"
