"""The server's log: lines on standard error, from which everything that opens a door is struck out."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence

__all__ = ["Redacted", "log_to_stderr"]

STRUCK = "[struck out]"

_SECRETS = re.compile(
    r"(?P<kept>\bBearer\s+|(?:X-Amz-)?Signature=|X-Amz-(?:Security-Token|Credential)=|x-amz-security-token['\"]?[:,=]\s*['\"]?"
    r"|(?:secret|password|token|api_key)\w*['\"]?\s*[:=]\s*['\"]?)[^\s&'\",;)]+",
    re.IGNORECASE,
)


class Redacted(logging.Formatter):
    """Lines, traces included, without what looks like a secret and without ``known`` secrets."""

    def __init__(self, known: Sequence[str] = ()) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._known = [secret for secret in known if secret]

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = super().format(record)
        for secret in self._known:
            line = line.replace(secret, STRUCK)
        return _SECRETS.sub(rf"\g<kept>{STRUCK}", line)


def log_to_stderr(known: Sequence[str] = ()) -> None:
    """Send what Limbeck and its server log, from warnings on, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Redacted(known))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
