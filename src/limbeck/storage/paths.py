"""Paths as others read them."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["literally"]


def literally(path: str | Path) -> str:
    """``path`` for DuckDB, which would take `*`, `?` and `[` in it for a pattern of many files."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))
