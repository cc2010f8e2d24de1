"""What befalls a safetensors file, told as what it is: its library has one error for all, of a kind of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from limbeck.errors import DamagedArtifact

__all__ = ["tensor_file"]

SYSTEMS = re.compile(r"\(os error (\d+)\)")
"""What the system refused, as Rust writes it."""


@contextmanager
def tensor_file(path: Path) -> Iterator[None]:
    """The safetensors file ``path``, or those of a folder, are read or written.

    Raises `OSError` for what the system refuses, a full disk say, and `DamagedArtifact` for a file that is not whole.
    """
    try:
        yield
    except SafetensorError as error:
        if refused := SYSTEMS.search(str(error)):
            number = int(refused[1])
            raise OSError(number, os.strerror(number), str(path)) from None
        raise DamagedArtifact(
            f"{path}: not whole ({error}); expected safetensors: make it, or bring it here, again"
        ) from None
