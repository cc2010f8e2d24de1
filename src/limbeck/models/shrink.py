"""A student cut from a larger model by keeping a choice of its layers.

Embeddings, the final norm and the head are kept whole; the kept layers keep their weights and close ranks.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

from transformers import AutoModelForCausalLM

from limbeck.errors import InvalidRecipe

__all__ = ["choose_layers", "keep_layers"]


def choose_layers(wish: int | Sequence[int], depth: int) -> tuple[int, ...]:
    """The layers to keep of ``depth``: ``wish`` of them, evenly spread with the first and last, or those listed."""
    if isinstance(wish, int):
        if not 1 <= wish <= depth:
            raise InvalidRecipe(
                "student.shrink.layers",
                [f"found {wish}; the model has {depth} layers, expected 1 to {depth}"],
            )
        if wish == 1:
            return (0,)
        return tuple(round(i * (depth - 1) / (wish - 1)) for i in range(wish))
    chosen = tuple(wish)
    if not chosen or list(chosen) != sorted(set(chosen)) or chosen[-1] >= depth or chosen[0] < 0:
        raise InvalidRecipe(
            "student.shrink.layers",
            [f"found {list(chosen)}; expected different layers in rising order, each from 0 to {depth - 1}"],
        )
    return chosen


def keep_layers(model: Any, layers: Sequence[int]) -> Any:
    """A new model with only ``layers`` of ``model``'s decoder (numbers from 0, rising). Weights are copied."""
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = len(layers)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[layer] for layer in layers]
    position = {layer: place for place, layer in enumerate(layers)}
    pattern = re.compile(r"^(.*\.layers\.)(\d+)(\..*)$")
    weights = {}
    for name, tensor in model.state_dict().items():
        found = pattern.match(name)
        if found is None:
            weights[name] = tensor
        elif int(found[2]) in position:
            weights[f"{found[1]}{position[int(found[2])]}{found[3]}"] = tensor
    student = AutoModelForCausalLM.from_config(
        config, dtype=model.dtype, attn_implementation=config._attn_implementation
    )
    student.load_state_dict(weights)
    student.get_input_embeddings().padding_idx = model.get_input_embeddings().padding_idx
    student.generation_config = copy.deepcopy(model.generation_config)
    return student.eval()
