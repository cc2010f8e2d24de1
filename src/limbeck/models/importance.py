"""How much each layer, feed-forward neuron and attention head of a model does on a sample of text.

Forward passes alone, one text at a time; nothing is learned. Sources: block influence, 1 − the mean cosine between
what enters and what leaves a layer (ShortGPT, arXiv:2403.03853, equation 1); the mean absolute activation of a neuron
and the mean length of a head's output (Minitron, arXiv:2407.14679, section 2.2, with mean and L2 as its aggregations).

Legend: T tokens of a text, D hidden width, F feed-forward width, H heads, d width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Importance", "measure"]


@dataclass(frozen=True)
class Importance:
    """Sums over the tokens of the sample, on the processor; only their order within a row means something."""

    layers: Tensor
    """(layers,) block influence."""
    neurons: Tensor
    """(layers, F)"""
    heads: Tensor
    """(layers, H)"""


def measure(model: Any, sample: Sequence[Sequence[int]]) -> Importance:
    """The importance of ``model``'s parts on ``sample``, texts as token ids."""
    config, blocks = model.config, model.get_decoder().layers
    found = Importance(
        torch.zeros(len(blocks), dtype=torch.float64),
        torch.zeros(len(blocks), config.intermediate_size, dtype=torch.float64),
        torch.zeros(len(blocks), config.num_attention_heads, dtype=torch.float64),
    )
    model.eval()
    with _watching(blocks, found), torch.no_grad():
        for ids in sample:
            model.get_decoder()(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False)
    return found


@contextmanager
def _watching(blocks: Any, found: Importance) -> Iterator[None]:
    heads = found.heads.shape[1]

    def influence(at: int) -> Any:
        def hook(_: Any, given: tuple[Tensor, ...], left: Any) -> None:
            entered_TD, left_TD = given[0][0], (left[0] if isinstance(left, tuple) else left)[0]
            cosine_T = torch.nn.functional.cosine_similarity(entered_TD, left_TD, dim=-1)
            found.layers[at] += (1.0 - cosine_T).cpu().double().sum()

        return hook

    def activation(at: int) -> Any:
        def hook(_: Any, given: tuple[Tensor, ...]) -> None:
            found.neurons[at] += given[0][0].abs().cpu().double().sum(0)

        return hook

    def length(at: int) -> Any:
        def hook(_: Any, given: tuple[Tensor, ...]) -> None:
            output_THd = given[0][0].reshape(len(given[0][0]), heads, -1)
            found.heads[at] += output_THd.norm(dim=-1).cpu().double().sum(0)

        return hook

    hooks = []
    try:
        for at, block in enumerate(blocks):
            hooks += [
                block.register_forward_hook(influence(at)),
                block.mlp.down_proj.register_forward_pre_hook(activation(at)),
                block.self_attn.o_proj.register_forward_pre_hook(length(at)),
            ]
        yield
    finally:
        for hook in hooks:
            hook.remove()
