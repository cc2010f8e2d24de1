"""A file that a command writes where its user says: refused before the work, if it cannot be."""

from __future__ import annotations

import tempfile
from pathlib import Path

from limbeck.errors import InvalidInput

__all__ = ["writable"]


def writable(to: Path | None) -> Path | None:
    """``to``, whose folder is made; for an option's callback. Raises `InvalidInput` for what no file can be."""
    if to is None:
        return None
    if to.is_dir():
        raise InvalidInput(f"--to {to}: a folder; expected a file")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=to.parent):
            return to
    except OSError as error:
        raise InvalidInput(
            f"--to {to}: cannot be written ({error.strerror}); expected a file in a folder of yours"
        ) from None
