"""The last layer computed only where somebody looks at it.

After the last layer's keys and values no token tells another anything, so what a token computes there by itself (its
query, the attention's output projection, the feed-forward) is needed only at the positions whose hidden states are
read: the handful that predict a response, or a prompt's last. Of a decoder of six layers that is a seventh of the work
on prompts with short answers. Nothing that is read changes, nor does any gradient.

Works by hooks on modules that treat each token by itself: inputs are gathered, outputs put back among zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from limbeck.models.products import EVEN

__all__ = ["only_read"]

WORTH = 0.75
"""The largest share of positions for which gathering them pays."""


@contextmanager
def only_read(decoder: Any, read: Tensor, length: int) -> Iterator[None]:
    """Within it the last layer of ``decoder`` is right at the positions ``read`` of ``length``, (..., length, D)."""
    if len(read) > WORTH * length:  # every step of an answer, one token a row, among others
        yield
        return
    places = _even(torch.unique(read), length)

    def gather(module: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return given[0].index_select(-2, places), *given[1:]

    def put_back(module: Any, given: Any, found: Tensor) -> Tensor:
        zeros = found.new_zeros(*found.shape[:-2], length, found.shape[-1])
        return zeros.index_copy(-2, places, found)

    hooks = []
    for module in _by_token(decoder.layers[-1]):
        hooks.append(module.register_forward_pre_hook(gather))
        hooks.append(module.register_forward_hook(put_back))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _even(places: Tensor, length: int) -> Tensor:
    """``places`` of ``length`` and, where they are many, others that make their number even (see `products.EVEN`)."""
    more = -len(places) % EVEN
    if len(places) < EVEN or len(places) + more > length:
        return places
    others = torch.ones(length, dtype=torch.bool, device=places.device).index_fill(0, places, False)
    return torch.cat([places, others.nonzero()[:more, 0]])


def _by_token(layer: Any) -> Iterator[Any]:
    """The modules of a layer that treat each token by itself, as far as they have the names they usually have."""
    attention = getattr(layer, "self_attn", None)
    for name in ("q_proj", "o_proj"):
        if hasattr(attention, name):
            yield getattr(attention, name)
    if hasattr(getattr(layer, "mlp", None), "down_proj"):  # a mixture of experts gives more than one tensor
        yield layer.mlp
