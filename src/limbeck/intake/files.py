"""The files of a source before a row of them is read: which cannot be opened, and how each is called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

__all__ = ["names_of", "unreadable"]


def unreadable(paths: Iterable[Path], expected: str = "a file of rows") -> list[str]:
    """A sentence for each file that is not there, or cannot be opened."""
    told = []
    for path in dict.fromkeys(paths):
        try:
            path.open("rb").close()
        except OSError as error:
            told.append(f"{path}: {error.strerror}; expected {expected}")
    return told


def names_of(paths: Iterable[Path]) -> dict[Path, str]:
    """What each file is called in messages and reports: its name, or as much of its path as parts it from others."""
    different = list(dict.fromkeys(paths))
    names = {path: path.name for path in different}
    for length in range(2, max((len(path.parts) for path in different), default=0) + 1):
        times = Counter(names.values())
        alike = [path for path in different if times[names[path]] > 1]
        names.update({path: str(Path(*path.parts[-length:])) for path in alike})
    return names
