"""What was being written when a process was killed: files that never got their names, cleared away by the next worker.

Everything is written to a neighbor with a dot (`.weights.safetensors.x7k2m9q1`), or in `scratch`, and renamed when it
is whole. Nobody reads what was left there; it only takes room. It is known by its name and its age, so that what
another process is writing just now stays.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from limbeck.settings import Settings

__all__ = ["OLD_SECONDS", "sweep"]

OLD_SECONDS = 86_400.0
"""Longer than anything is being written: a day."""

_NEIGHBOR = re.compile(r"\..+\.[a-z0-9_]{8}")
"""As `tempfile` and `storage.workspace` name them."""


def sweep(settings: Settings) -> None:
    """Remove what processes that are no more left half written in a home; in buckets only what never was an object."""
    own = (settings.jobs, settings.models, settings.imported, settings.cache)
    neighbors = (path for folder in own for path in _under(folder) if _NEIGHBOR.fullmatch(path.name))
    born_before = time.time() - OLD_SECONDS
    for path in [*neighbors, *settings.scratch.glob("*"), *(settings.buckets / ".incoming").glob("*")]:
        with suppress(FileNotFoundError):  # it just got its name, or another worker sweeps too
            if path.lstat().st_mtime < born_before:
                _remove(path)


def _under(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        yield from (Path(place) / name for name in (*folders, *files))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
