"""What a model's files say of it besides its weights: the length of its context, and all of a GGUF file's header.

Reads a folder in Hugging Face layout or a GGUF file, never a weight: a tenth of a second, where the reader of the
gguf package takes three, and no torch.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.errors import DamagedArtifact

__all__ = ["UNKNOWN_CONTEXT", "GGUFTensor", "context_tokens", "context_told", "read_gguf", "read_gguf_tensors"]

GGUF_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
"""Value types of GGUF's key-value pairs, as `struct` reads them; 8 is a string and 9 a list.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, "File Structure".
"""
STRING, LIST = 8, 9

CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "model_max_length", "context_length")
"""What configurations call the length of the context: the first, or what transformers maps to it (`attribute_map`)."""

UNKNOWN_CONTEXT = 4096
"""Tokens, where a model's files do not say."""


def context_told(config: Mapping[str, Any]) -> int | None:
    """The most tokens, prompt and answer together, by a model's configuration; None where it does not say."""
    told = {**config, **(config.get("text_config") or {})}
    return next((int(told[key]) for key in CONTEXT_KEYS if told.get(key)), None)


def context_tokens(path: Path) -> int:
    """The most tokens, prompt and answer together, that the model at ``path`` was made for."""
    if path.suffix == ".gguf":
        # Told before the vocabulary, which takes all the time; so the rest is not read.
        found = next((value for key, value in _pairs(path) if key.endswith(".context_length")), None)
    else:
        try:
            config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DamagedArtifact(f"{path / 'config.json'}: cannot be read: {error}") from None
        found = context_told(config)
    return int(found or UNKNOWN_CONTEXT)


@dataclass(frozen=True)
class GGUFTensor:
    """Where a tensor of a GGUF file is, and how its numbers are stored."""

    shape: tuple[int, ...]
    """Rows first, as numpy has it; the file says it the other way round."""
    kind: int
    """ggml's number of the type."""
    start: int
    """Of the first byte in the file."""


def read_gguf(path: Path) -> dict[str, Any]:
    """The key-value pairs of a GGUF file. Raises `DamagedArtifact` where it is none."""
    return dict(_pairs(path))


def read_gguf_tensors(path: Path) -> dict[str, GGUFTensor]:
    """The table of a GGUF file's tensors. Raises `DamagedArtifact` where it is none."""
    with _reading(path) as (reader, tensors, pairs):
        alignment = 32
        for _ in range(pairs):
            key, value = reader.text(), reader.value(reader.number("<I"))
            alignment = int(value) if key == "general.alignment" else alignment
        table = []
        for _ in range(tensors):
            name = reader.text()
            shape = tuple(reader.number("<Q") for _ in range(reader.number("<I")))
            table.append((name, shape[::-1], reader.number("<I"), reader.number("<Q")))
        begin = -(-reader.place // alignment) * alignment
        return {name: GGUFTensor(shape, kind, begin + offset) for name, shape, kind, offset in table}


def _pairs(path: Path) -> Iterator[tuple[str, Any]]:
    with _reading(path) as (reader, _, pairs):
        for _ in range(pairs):
            yield reader.text(), reader.value(reader.number("<I"))


@contextmanager
def _reading(path: Path) -> Iterator[tuple[_Reader, int, int]]:
    """A reader after the first four numbers, with the counts of tensors and of key-value pairs."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
            if held[:4] != b"GGUF":
                raise DamagedArtifact(f'{path}: no GGUF file: it does not begin with "GGUF"')
            version, tensors, pairs = struct.unpack_from("<IQQ", held, 4)
            if version < 2:
                raise DamagedArtifact(f"{path}: GGUF of version {version}; expected 2 or later")
            yield _Reader(held, 24), tensors, pairs
    except (OSError, ValueError, struct.error, KeyError, OverflowError) as error:
        raise DamagedArtifact(f"{path}: its GGUF header cannot be read: {error}") from None


class _Reader:
    """A place in the file that moves on with every value read."""

    def __init__(self, held: mmap.mmap, place: int) -> None:
        self._held, self._place = held, place

    @property
    def place(self) -> int:
        """Bytes from the start of the file."""
        return self._place

    def number(self, form: str) -> Any:
        (found,) = struct.unpack_from(form, self._held, self._place)
        self._place += struct.calcsize(form)
        return found

    def text(self) -> str:
        length = self.number("<Q")
        self._place += length
        return self._held[self._place - length : self._place].decode(errors="replace")

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.text()
        if kind == LIST:
            of, count = self.number("<I"), self.number("<Q")
            return [self.value(of) for _ in range(count)]
        return self.number(GGUF_SCALARS[kind])
