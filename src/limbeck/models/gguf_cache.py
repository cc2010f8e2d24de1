"""Which GGUF file serves a model: its own if it has one, else one made once and kept in the home's cache.

A registered model is known by its fingerprint, the digest of its files' contents. For any other folder the digest of
names, sizes and times of change is taken instead: reading sixteen gigabytes to find out that nothing has changed
would cost every start of a host as much as loading them. A folder that is copied is converted once more; one that
is changed with its sizes and times restored is not noticed.
"""

from __future__ import annotations

import fcntl
from pathlib import Path

from limbeck.errors import NotYet
from limbeck.models.catalog import ModelSource
from limbeck.models.cutting import provide
from limbeck.models.gguf_file import write_gguf
from limbeck.records import digest
from limbeck.settings import Settings

__all__ = ["gguf_of", "stamp", "version"]


def gguf_of(source: ModelSource, settings: Settings) -> Path | None:
    """The GGUF file to serve a model from; None if its architecture or tokenizer cannot be written as one.

    Made whole or not at all, and once: a second process that wants the same file waits for the first. Raises
    `DamagedArtifact` for a folder that is not whole.
    """
    if source.path.suffix == ".gguf":
        return provide(source)
    exported = sorted(source.path.glob("model-*.gguf"))
    if exported:
        return exported[0]
    path = settings.cache / "gguf" / f"{version(source)[:32]}-f16.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            try:
                write_gguf(source.path, path, "f16")
            except NotYet:
                return None
    return path


def version(source: ModelSource) -> str:
    """What changes when a model's files do: its fingerprint, or where it has none the `stamp` of what it is made of."""
    return source.fingerprint or stamp(source.cut_from[0] if source.cut_from else source.path)


def stamp(path: Path) -> str:
    """A digest of where a file, or a folder's files, are, and of their sizes and times of change."""
    files = [path] if path.is_file() else sorted(file for file in path.glob("*") if file.is_file())
    facts = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return digest(facts)
