"""How much memory a model will take, from its files' headers alone; nothing is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from limbeck.errors import DamagedArtifact
from limbeck.models.header import read_gguf
from limbeck.models.weights import Weights

__all__ = ["GGUFHeader", "gguf_header", "llama_bytes", "reference_bytes"]

LLAMA_BYTES = 128 << 20
"""A llama.cpp process beside weights and cache: interpreter, library, buffers. 60 MB were measured on the embedded
model; the buffers grow with vocabulary and width."""

REFERENCE_BYTES = 768 << 20
"""A transformers process beside weights: torch, the caches of answers under way. 600 MB were measured."""

CACHE_VALUE_BYTES = 2
"""llama.cpp keeps keys and values as 16-bit floats."""


@dataclass(frozen=True)
class GGUFHeader:
    """What the header tells of a model's size."""

    context_tokens: int
    """The longest text it was trained for."""
    cache_bytes_per_token: int
    """Keys and values of all layers."""


def gguf_header(path: Path) -> GGUFHeader:
    """Read the header of a GGUF file. Raises `DamagedArtifact` if it has none, or not that of a language model."""
    found = read_gguf(path)
    try:
        name = found["general.architecture"]
        layers, width = found[f"{name}.block_count"], found[f"{name}.embedding_length"]
        # A number, or one for each layer; a model without attention has none.
        heads = found.get(f"{name}.attention.head_count", 0)
        kept = found.get(f"{name}.attention.head_count_kv", heads)
        kept_of_all = sum(kept) if isinstance(kept, list) else kept * layers
        own = width // max(1, max(heads) if isinstance(heads, list) else heads)
        of_keys, of_values = (found.get(f"{name}.attention.{part}_length", own) for part in ("key", "value"))
        return GGUFHeader(found[f"{name}.context_length"], kept_of_all * (of_keys + of_values) * CACHE_VALUE_BYTES)
    except KeyError as error:
        raise DamagedArtifact(f"{path}: no GGUF file of a language model: its header has no {error}") from None


def llama_bytes(path: Path, header: GGUFHeader, slots: int, context_tokens: int, prompt_cache_bytes: int) -> int:
    """What a llama.cpp process of this model takes."""
    cache = slots * context_tokens * header.cache_bytes_per_token
    return path.stat().st_size + cache + prompt_cache_bytes + LLAMA_BYTES


def reference_bytes(path: Path) -> int:
    """What a transformers process takes: every weight is held in 32 bits, however it is stored.

    ``path`` is a folder of safetensors, or a GGUF file, whose weights have 4 bits or more. Raises `DamagedArtifact` for
    a folder that is not whole.
    """
    if path.is_file():
        return 8 * path.stat().st_size + REFERENCE_BYTES
    return 4 * Weights(path).parameters + REFERENCE_BYTES
