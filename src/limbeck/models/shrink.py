"""A student cut from a larger model: fewer layers, and each of them narrower.

Embeddings, norms and the head are kept whole, and what is kept of a layer keeps its weights. Layers close ranks;
neurons and heads are dropped with their rows and columns, heads in groups that share keys and values, so that every
layer keeps the same number of each and any engine can load the model. Which are kept is given, or measured
(`importance`).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import InvalidRecipe, NotYet
from limbeck.models.assembly import assembled
from limbeck.models.importance import Importance, measure
from limbeck.recipe import Shrink

__all__ = ["Cut", "choose", "choose_layers", "cut", "importance_of", "keep_layers", "neurons_kept"]

BLOCK = 32
"""Feed-forward widths stay multiples of this: what GGUF's quantizations take at a time."""
OF_THE_WHOLE = ("architectures", "eos_token_id")
"""Lists of a configuration that are never of its layers, however long they are."""
ATTENTION_PROJECTIONS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")


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


@dataclass(frozen=True)
class Cut:
    """What is kept."""

    layers: tuple[int, ...]
    """Numbers from 0, rising."""
    neurons: tuple[tuple[int, ...], ...] | None = None
    """Of each kept layer its feed-forward neurons, rising; None keeps all."""
    groups: tuple[tuple[int, ...], ...] | None = None
    """Of each kept layer its groups of heads, rising; None keeps all."""


def choose(shrink: Shrink, model: Any, sample: Sequence[Sequence[int]], importance: Importance | None = None) -> Cut:
    """What ``shrink`` keeps of ``model``; ``importance`` is measured on ``sample`` where it is not given.

    Raises `InvalidRecipe`.
    """
    config = model.config
    depth, wish = config.num_hidden_layers, shrink.layers
    layers = choose_layers(depth if wish is None else wish, depth)
    if not shrink.measured:
        return Cut(layers)
    neurons = neurons_kept(shrink, config)
    groups = _count_of_groups(shrink, config)
    found = importance or importance_of(model, sample)
    if shrink.choose == "importance":
        layers = _largest(found.layers, len(layers))
    by_group = found.heads.reshape(depth, config.num_key_value_heads, -1).sum(-1)
    return Cut(
        layers,
        None if neurons is None else tuple(_largest(found.neurons[layer], neurons) for layer in layers),
        None if groups is None else tuple(_largest(by_group[layer], groups) for layer in layers),
    )


def importance_of(model: Any, sample: Sequence[Sequence[int]]) -> Importance:
    """That of ``model``'s parts on ``sample``. Raises `NotYet` for other parts than are known, `InvalidRecipe`."""
    return measure(model, _checked(model, sample))


def keep_layers(model: Any, layers: Sequence[int]) -> Any:
    """A new model with only ``layers`` of ``model``'s decoder (numbers from 0, rising). Weights are copied."""
    return cut(model, Cut(tuple(layers)))


def cut(model: Any, kept: Cut) -> Any:
    """A new model of what is ``kept`` of ``model``. Weights are copied."""
    config = copy.deepcopy(model.config)
    for name, values in _by_layer(config):
        setattr(config, name, [values[layer] for layer in kept.layers])
    config.num_hidden_layers = len(kept.layers)
    if kept.neurons is not None:
        config.intermediate_size = len(kept.neurons[0])
    width, sharing = _width(config), config.num_attention_heads // config.num_key_value_heads
    if kept.groups is not None:
        _narrow(config, len(kept.groups[0]))
    position = {layer: place for place, layer in enumerate(kept.layers)}
    pattern = re.compile(r"^(.*\.layers\.)(\d+)\.(.*)$")
    weights = {}
    for name, tensor in model.state_dict().items():
        found = pattern.match(name)
        if found is None:
            weights[name] = tensor
        elif (place := position.get(int(found[2]))) is not None:
            narrow = _narrowed(tensor, found[3], kept, place, width, sharing)
            weights[f"{found[1]}{place}.{found[3]}"] = narrow
    student = assembled(config, weights, model.dtype, model.device)
    student.get_input_embeddings().padding_idx = model.get_input_embeddings().padding_idx
    student.generation_config = copy.deepcopy(model.generation_config)
    return student


def _by_layer(config: Any) -> list[tuple[str, Sequence[Any]]]:
    """What ``config`` says of each layer by itself, as `layer_types`: its lists that are as long as it is deep."""
    depth = config.num_hidden_layers
    return [
        (name, values)
        for name, values in vars(config).items()
        if isinstance(values, list | tuple) and len(values) == depth and name not in OF_THE_WHOLE
    ]


def _narrowed(tensor: Tensor, name: str, kept: Cut, place: int, width: int, sharing: int) -> Tensor:
    """The rows or columns of a layer's ``tensor`` that are kept; a bias is a row's."""
    module = name.rpartition(".")[0]
    columns = module in ("mlp.down_proj", "self_attn.o_proj")
    if columns and name.endswith(".bias"):
        return tensor
    if kept.neurons is not None and module in ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"):
        return tensor.index_select(1 if columns else 0, torch.tensor(kept.neurons[place], device=tensor.device))
    if kept.groups is not None and module in ATTENTION_PROJECTIONS:
        of_group = width * (sharing if module in ("self_attn.q_proj", "self_attn.o_proj") else 1)
        parts = [range(group * of_group, (group + 1) * of_group) for group in kept.groups[place]]
        rows = torch.tensor([at for part in parts for at in part], device=tensor.device)
        return tensor.index_select(1 if columns else 0, rows)
    return tensor


def _largest(values: Tensor, count: int) -> tuple[int, ...]:
    """The places of the ``count`` largest, rising; of equals the first."""
    return tuple(sorted(values.argsort(descending=True, stable=True)[:count].tolist()))


def neurons_kept(shrink: Shrink, config: Any) -> int | None:
    """How many feed-forward neurons of each layer ``shrink`` keeps; None for all."""
    if shrink.feed_forward is None:
        return None
    whole = int(config.intermediate_size)
    step = BLOCK if whole % BLOCK == 0 else 1
    return max(step, round(shrink.feed_forward * whole / step) * step)


def _count_of_groups(shrink: Shrink, config: Any) -> int | None:
    if shrink.heads is None:
        return None
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    sharing = heads // groups
    fitting = [sharing * count for count in range(1, groups + 1) if _is_valid(config, count)]
    if shrink.heads not in fitting:
        expected = ", ".join(map(str, fitting))
        raise InvalidRecipe(
            "student.shrink.heads",
            [f"found {shrink.heads}; {sharing} heads share their keys and values here, so expected one of {expected}"],
        )
    return int(shrink.heads // sharing)


def _width(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _narrow(config: Any, groups: int) -> None:
    """Have a model of ``config`` so many groups of heads, as wide as they are."""
    sharing = config.num_attention_heads // config.num_key_value_heads
    config.head_dim = _width(config)  # no longer what the hidden width and the heads would say
    config.num_key_value_heads, config.num_attention_heads = groups, sharing * groups


def _is_valid(config: Any, groups: int) -> bool:
    """Whether transformers takes, and saves, a model of so many groups of heads."""
    config = copy.deepcopy(config)
    _narrow(config, groups)
    try:
        getattr(config, "validate", lambda: None)()
    except Exception:  # its kind is huggingface_hub's own
        return False
    return True


def _checked(model: Any, sample: Sequence[Sequence[int]]) -> Sequence[Sequence[int]]:
    names = {name.partition(".layers.0.")[2] for name, _ in model.named_modules()}
    missing = sorted({"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", *ATTENTION_PROJECTIONS} - names)
    if missing:
        raise NotYet(
            f"student.shrink: {type(model).__name__} has no {missing[0]}; its parts cannot be measured yet, expected"
            " layers alone, evenly spread or listed"
        )
    if not sample:
        raise InvalidRecipe("student.shrink", ["nothing to measure importance on; expected rows to train on"])
    return sample
