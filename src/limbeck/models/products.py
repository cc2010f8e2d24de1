"""The products of linear layers, by oneDNN where that is the faster library.

On processors PyTorch has fp32 products computed by MKL, which keeps to AVX2 on those that are not Intel's. oneDNN,
which is part of PyTorch too, uses AVX-512 wherever there is one: the same fp32 products in less than half the time
(docs/lab-notes.md has the figures). So linear layers of models that are loaded or made here ask it themselves, forward
and backward. They remain `torch.nn.Linear` to everybody else: names, weights, adapters, what is saved.

Legend: N rows, I inputs, O outputs of a layer.
"""

from __future__ import annotations

import os
from typing import Any

# oneDNN keeps a kernel with its working memory, up to 4 MB, for each shape it has seen: by default a thousand of them.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["EVEN", "Linear", "product"]

EVEN = 32
"""Of what decides a product's shape, as tokens of a pack, so many are added that it has few different ones: new shapes
cost time and memory, and memory that was given back in as many sizes is not used again."""


def _is_faster() -> bool:
    """Whether oneDNN is here, and has wider instructions to use than MKL may."""
    here = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return here and torch.backends.cpu.get_cpu_capability() == "AVX512"


FASTER = _is_faster()


class Linear(torch.nn.Linear):
    """A linear layer whose products are oneDNN's, where that is the faster library for what it is given."""

    def forward(self, input: Tensor) -> Tensor:
        """Outputs (..., O) of inputs (..., I)."""
        if not _suits(input, self.weight):
            return super().forward(input)
        if torch.is_grad_enabled():
            found: Tensor = _Linear.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return found
        return _by_onednn(input, self.weight, self.bias)


def product(left_NI: Tensor, right_OI: Tensor) -> Tensor:
    """left · rightᵀ, (N, O), by the faster library. Nothing is remembered for a gradient."""
    return _by_onednn(left_NI, right_OI) if _suits(left_NI, right_OI) else left_NI @ right_OI.mT


class _Linear(torch.autograd.Function):
    """y = x Wᵀ + b, with dx = dy W, dW = dyᵀ x, db the sum of dy over all rows."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        of_input, of_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(input if of_weight else None, weight_OI if of_input else None)
        return _by_onednn(input, weight_OI, bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        input, weight_OI = ctx.saved_tensors
        of_input = None if weight_OI is None else _by_onednn(gradient, weight_OI.mT)
        gradient_NO = gradient.flatten(0, -2) if gradient.ndim > 1 else gradient[None]
        of_weight = None
        if input is not None:
            of_weight = _by_onednn(gradient_NO.mT, input.reshape(len(gradient_NO), -1).mT)
        return of_input, of_weight, gradient_NO.sum(0) if ctx.needs_input_grad[2] else None


def _suits(input: Tensor, weight: Tensor) -> bool:
    """Whether this is a product that is computed faster here: of fp32 on a processor, and of something."""
    plain = input.dtype == weight.dtype == torch.float32 and input.device.type == weight.device.type == "cpu"
    return FASTER and plain and input.numel() > 0 and not torch.is_autocast_enabled("cpu")


def _by_onednn(input: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """x Wᵀ + b for x (..., I) and W of any strides."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight_OI, bias_O, "none", [], "")
    return found
