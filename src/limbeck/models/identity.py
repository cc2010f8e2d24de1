"""Which model a folder holds: its fingerprint, by which answers are stored. Loads nothing; opens without torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from limbeck.models.catalog import ModelSource
from limbeck.models.gguf_cache import stamp
from limbeck.models.template import MORE_TEMPLATES
from limbeck.settings import Settings
from limbeck.storage.workspace import file_digest, writing

__all__ = ["converted_folder", "fingerprint", "fingerprint_of", "known_fingerprint"]

FINGERPRINT = "fingerprint.txt"
"""Of a converted folder: half a gigabyte need not be read at every start."""


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of the files that make a model what it is."""
    kinds = (
        "*.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer*",
        "chat_template*",
        f"{MORE_TEMPLATES}/*.jinja",
        "vocab*",
        "merges*",
    )
    files = sorted({path for kind in kinds for path in folder.glob(kind)})
    whole = hashlib.sha256()
    for path in files:
        whole.update(f"{path.name} {file_digest(path)}\n".encode())
    return whole.hexdigest()


def fingerprint_of(folder: Path, settings: Settings) -> str:
    """That of ``folder``; of one that was converted here, and is changed by nobody, what was found the first time."""
    if folder.parent != settings.cache:
        return fingerprint(folder)
    found = folder / FINGERPRINT
    if not found.exists():
        with writing(found) as file:
            file.write(fingerprint(folder))
    return found.read_text(encoding="ascii")


def converted_folder(path: Path, settings: Settings) -> Path:
    """Where the dequantized weights of the GGUF file at ``path`` are kept, once they are."""
    # Many a file is called model.gguf: which one this is says the stamp.
    return settings.cache / f"{path.stem}-{stamp(path)[:12]}"


def known_fingerprint(source: ModelSource, settings: Settings) -> str | None:
    """The fingerprint of a model as it is loaded; None of a GGUF file that was never loaded here."""
    if source.fingerprint is not None:
        return source.fingerprint
    folder = converted_folder(source.path, settings) if source.path.suffix == ".gguf" else source.path
    return fingerprint_of(folder, settings) if (folder / "config.json").exists() else None
