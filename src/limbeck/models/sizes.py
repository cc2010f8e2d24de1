"""How many weights a model has, by its files alone: no weight is read, and no torch.

What a recipe cuts from it is reckoned by the layers that are left and by the share of each that is.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

from limbeck.models.catalog import ModelSource
from limbeck.models.header import read_gguf, read_gguf_tensors
from limbeck.models.weights import Weights
from limbeck.recipe import Shrink

__all__ = ["depth", "parameters"]

LAYER = re.compile(r"(?:^blk|\.layers)\.(\d+)\.")
FEED_FORWARD = re.compile(r"\.(?:mlp\.(?:gate|up|down)_proj|ffn_(?:gate|up|down))\.")
ATTENTION = re.compile(r"\.(?:self_attn\.[qkvo]_proj|attn_(?:q|k|v|output))\.")

_NOTHING = Shrink.model_construct()
"""Cuts nothing."""


def depth(source: ModelSource) -> int:
    """The layers of ``source``; 0 where its tensors' names do not tell them. Raises `DamagedArtifact`."""
    sizes, kept = _sizes(source)
    return kept or _depth(sizes)


def parameters(source: ModelSource, shrink: Shrink | None = None) -> int:
    """The weights of ``source``, or of what ``shrink`` keeps of it while it learns. Raises `DamagedArtifact`.

    A narrower feed-forward is reckoned before its width is rounded. A budget of latency says nothing of weights: what
    is cut for it is measured, and the whole is told here.
    """
    sizes, kept = _sizes(source)
    shrink = shrink or _NOTHING
    whole = _depth(sizes)
    wish = shrink.layers if isinstance(shrink.layers, int | None) else len(shrink.layers)
    left = min(wish or whole, kept or whole)
    heads = shrink.heads / _heads(source) if shrink.heads else 1.0
    body = sum(
        size * (shrink.feed_forward or 1.0 if FEED_FORWARD.search(name) else heads if ATTENTION.search(name) else 1.0)
        for name, size in sizes.items()
        if LAYER.search(name)
    )
    rest = sum(size for name, size in sizes.items() if not LAYER.search(name))
    reckoned = round(rest + (body * left / whole if whole else 0.0))
    return reckoned if shrink.parameters is None else min(reckoned, round(shrink.parameters * sum(sizes.values())))


def _depth(sizes: Mapping[str, int]) -> int:
    return len({found[1] for name in sizes if (found := LAYER.search(name))})


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


def _heads(source: ModelSource) -> int:
    """The attention heads of a layer."""
    path = source.cut_from[0] if source.cut_from is not None else source.path
    if path.suffix == ".gguf":
        header = read_gguf(path)
        return int(header[f"{header['general.architecture']}.attention.head_count"])
    return int(json.loads((path / "config.json").read_text(encoding="utf-8"))["num_attention_heads"])
