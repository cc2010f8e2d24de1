"""How much memory a model will take, from its file's header alone; nothing is loaded.

A GGUF file's header: magic, version, counts of tensors and of metadata, then the metadata as (key, type, value)
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). The reader of the `gguf` package takes seconds, since it
looks at every token of the vocabulary.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from limbeck.errors import DamagedArtifact

__all__ = ["GGUFHeader", "gguf_header", "llama_bytes", "reference_bytes"]

LLAMA_BYTES = 128 << 20
"""A llama.cpp process beside weights and cache: interpreter, library, buffers. 60 MB were measured on the embedded
model; the buffers grow with vocabulary and width."""

REFERENCE_BYTES = 768 << 20
"""A transformers process beside weights: torch, the caches of answers under way. 600 MB were measured."""

CACHE_VALUE_BYTES = 2
"""llama.cpp keeps keys and values as 16-bit floats."""

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class GGUFHeader:
    """What the header tells of a model's size."""

    context_tokens: int
    """The longest text it was trained for."""
    cache_bytes_per_token: int
    """Keys and values of all layers."""


def gguf_header(path: Path) -> GGUFHeader:
    """Read the header of a GGUF file. Raises `DamagedArtifact` if it has none."""
    try:
        with path.open("rb") as file:
            found = _metadata(file)
        name = found["general.architecture"]
        layers, width = found[f"{name}.block_count"], found[f"{name}.embedding_length"]
        # A number, or one for each layer; a model without attention has none.
        heads = found.get(f"{name}.attention.head_count", 0)
        kept = found.get(f"{name}.attention.head_count_kv", heads)
        kept_of_all = sum(kept) if isinstance(kept, list) else kept * layers
        own = width // max(1, max(heads) if isinstance(heads, list) else heads)
        of_keys, of_values = (found.get(f"{name}.attention.{part}_length", own) for part in ("key", "value"))
        return GGUFHeader(found[f"{name}.context_length"], kept_of_all * (of_keys + of_values) * CACHE_VALUE_BYTES)
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise DamagedArtifact(f"{path}: no GGUF file of a language model: {error}") from None


def llama_bytes(path: Path, header: GGUFHeader, slots: int, context_tokens: int, prompt_cache_bytes: int) -> int:
    """What a llama.cpp process of this model takes."""
    cache = slots * context_tokens * header.cache_bytes_per_token
    return path.stat().st_size + cache + prompt_cache_bytes + LLAMA_BYTES


def reference_bytes(path: Path) -> int:
    """What a transformers process takes: every weight is held in 32 bits, however it is stored.

    ``path`` is a folder of safetensors, or a GGUF file, whose weights have 4 bits or more.
    """
    if path.is_file():
        return 8 * path.stat().st_size + REFERENCE_BYTES
    values = 0
    for part in path.glob("*.safetensors"):
        with part.open("rb") as file:
            tensors = json.loads(file.read(_number(file, "Q")))
        values += sum(math.prod(tensor["shape"]) for name, tensor in tensors.items() if name != "__metadata__")
    return 4 * values + REFERENCE_BYTES


def _metadata(file: IO[bytes]) -> dict[str, Any]:
    if file.read(4) != b"GGUF":
        raise ValueError('it does not begin with "GGUF"')
    _version, _tensors, count = struct.unpack("<IQQ", file.read(20))
    return {_string(file): _value(file, _number(file, "I")) for _ in range(count)}


def _number(file: IO[bytes], form: str) -> Any:
    return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))[0]


def _string(file: IO[bytes]) -> str:
    return file.read(_number(file, "Q")).decode(errors="replace")


def _value(file: IO[bytes], kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        of, count = _number(file, "I"), _number(file, "Q")
        return [_value(file, of) for _ in range(count)]
    return _number(file, _SCALARS[kind])
