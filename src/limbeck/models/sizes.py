"""How many weights a model has, by its files alone: no weight is read, and no torch.

What a recipe cuts from it is reckoned by the layers that are left.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from limbeck.models.catalog import ModelSource
from limbeck.models.header import read_gguf_tensors
from limbeck.models.weights import Weights

__all__ = ["parameters"]

LAYER = re.compile(r"(?:^blk|\.layers)\.(\d+)\.")


def parameters(source: ModelSource, layers: int | None = None) -> int:
    """The weights of ``source``, or of it with so many of its ``layers``. Raises `DamagedArtifact`."""
    sizes, kept = _sizes(source)
    depth = len({found[1] for name in sizes if (found := LAYER.search(name))})
    body = sum(size for name, size in sizes.items() if LAYER.search(name))
    left = min(layers or depth, kept or depth)
    return sum(sizes.values()) - (body * (depth - left) // depth if depth else 0)


def _sizes(source: ModelSource) -> tuple[Mapping[str, int], int | None]:
    """The tensors' sizes, and the layers kept of them where the model is cut from another on first use."""
    if source.cut_from is not None:
        whole, chosen = source.cut_from
        return _gguf(whole), len(chosen)
    if source.path.suffix == ".gguf":
        return _gguf(source.path), None
    return {name: tensor.size for name, tensor in Weights(source.path).items()}, None


def _gguf(path: Path) -> dict[str, int]:
    return {name: math.prod(tensor.shape) for name, tensor in read_gguf_tensors(path).items()}
