"""The gradient of embeddings that learn, added where it belongs at once.

A vocabulary of 49,152 tokens, 576 wide, has a gradient of 113 MB in fp32. Left to autograd it is made anew for every
chunk of logits, once more (nearly all of it zeros) for the tokens of a pack, added up, and given back to the system
after each step, which then has to find all those pages again: a quarter of a short step. Here the head adds its product
to one gradient that stays, the tokens add their rows to it, and between steps it is filled with zeros. Where replicas
of a model share a batch, none but the first has such a gradient: each notes what its own would be the product of, and
one product of all their notes is added to the first's.

Legend: R positions, D hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from limbeck.models.packing import capped_logits, response_logits
from limbeck.models.products import Linear, product

__all__ = ["Notes", "add", "clear", "learn_in_place", "logits", "noting"]

LARGE = 8_000_000
"""Numbers of a gradient from which on it is worth keeping (32 MB: what the C library gives back when it is freed)."""

TOKENS = 4096
"""Of the vocabulary, whose rows of the gradient are computed at once."""

NOTED = 256
"""Positions that a replica notes; with more, a gradient of its own costs no more than they do."""


class Notes:
    """What gradients of a head's weights are the products of, (R, V) and (R, D), put off until `add`."""

    def __init__(self) -> None:
        self.taken: list[tuple[Tensor, Tensor]] = []
        self._left = NOTED

    def take(self, gradient_RV: Tensor, hidden_RD: Tensor) -> bool:
        """Whether these were taken: they are not where there would be too many."""
        if len(hidden_RD) > self._left:
            return False
        self._left -= len(hidden_RD)
        self.taken.append((gradient_RV, hidden_RD))
        return True


def learn_in_place(model: Any) -> None:
    """Have tokens add to the gradient of embeddings that they share with the head only their own rows."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    if embeddings.weight is head.weight and embeddings.weight.requires_grad:
        embeddings.sparse = True


@contextmanager
def noting(model: Any) -> Iterator[Notes]:
    """Meanwhile what the head's weights would learn is noted instead of added to their gradient."""
    weight, notes = model.get_output_embeddings().weight, Notes()
    weight.notes = notes
    try:
        yield notes
    finally:
        del weight.notes


@torch.no_grad()
def add(weight_VD: Tensor, gradient_RV: Tensor, hidden_RD: Tensor) -> None:
    """Add gradientᵀ · hidden to the weight's gradient, of which there may be only some tokens' rows before."""
    if (whole_VD := weight_VD.grad) is None or whole_VD.is_sparse:
        rows_VD, whole_VD = whole_VD, torch.zeros_like(weight_VD)
        weight_VD.grad = whole_VD if rows_VD is None else whole_VD.add_(rows_VD)
    for start in range(0, len(weight_VD), TOKENS):  # products that do not leave the cache until they are added
        some = slice(start, start + TOKENS)
        whole_VD[some].add_(product(gradient_RV[:, some].mT, hidden_RD.mT))


def clear(parameters: Iterable[Tensor]) -> None:
    """No gradient, as before a step."""
    for parameter in parameters:
        if parameter.grad is not None and parameter.numel() >= LARGE:
            parameter.grad.zero_()
        else:
            parameter.grad = None


def logits(model: Any, hidden_RD: Tensor) -> Tensor:
    """Logits, (R, V), of hidden states: those of `response_logits`, and in training with the gradient told above."""
    head = model.get_output_embeddings()
    plain = type(head) in (torch.nn.Linear, Linear) and head.bias is None  # not an adapter around one
    if not (plain and head.weight.requires_grad and torch.is_grad_enabled()):
        return response_logits(model, hidden_RD)
    found: Tensor = _Product.apply(hidden_RD, head.weight)  # type: ignore[no-untyped-call]
    return capped_logits(model, found)


class _Product(torch.autograd.Function):
    """A linear layer whose backward pass adds to its weight's gradient by itself."""

    @staticmethod
    def forward(ctx: Any, hidden_RD: Tensor, weight_VD: Tensor) -> Tensor:
        ctx.save_for_backward(hidden_RD)
        ctx.weight_VD = weight_VD
        return product(hidden_RD, weight_VD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_RV: Tensor) -> tuple[Tensor, None]:
        (hidden_RD,), weight_VD = ctx.saved_tensors, ctx.weight_VD
        notes: Notes | None = getattr(weight_VD, "notes", None)
        if notes is None or not notes.take(gradient_RV, hidden_RD):
            add(weight_VD, gradient_RV, hidden_RD)
        return product(gradient_RV, weight_VD.mT), None
