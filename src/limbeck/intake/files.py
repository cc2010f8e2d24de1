"""The files of a source before a row of them is read: which of them cannot be opened."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["unreadable"]


def unreadable(paths: Iterable[Path], expected: str = "a file of rows") -> list[str]:
    """A sentence for each file that is not there, or cannot be opened."""
    told = []
    for path in dict.fromkeys(paths):
        try:
            path.open("rb").close()
        except OSError as error:
            told.append(f"{path}: {error.strerror}; expected {expected}")
    return told
