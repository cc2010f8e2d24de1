"""Root mean square norms in fewer passes over memory.

As models write it, a norm is seven operations, each of which reads and writes all hidden states, and keeps three of
the results for its gradient; by hand it is three, and what is kept are the inputs and one number a row. Once products
are quick (`products`) that is felt: a fortieth of a step, and a tenth of what short packs keep.

Legend: N rows, D their width.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["rms_norm", "shortened"]


def shortened(norm: torch.nn.Module) -> bool:
    """Give ``norm`` the short way, if it is one that computes what `rms_norm` does; whether it is."""
    if not hasattr(norm, "variance_epsilon") or not _computes_so(norm):
        return False
    kind: Any = type(norm)
    norm.__class__ = _short(kind)
    return True


def rms_norm(input: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
    """w x / sqrt(mean of x² + ε) for x (..., D) (Zhang and Sennrich 2019, arXiv:1910.07467)."""
    found: Tensor = _Norm.apply(input, weight_D, epsilon)  # type: ignore[no-untyped-call]
    return found


class _Norm(torch.autograd.Function):
    """With s = 1 / sqrt(mean of x² + ε) of each row: dx = s w dy - x s³ / D (w · x dy), dw = the sum of s x dy."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
        squares = torch.linalg.vector_norm(input, dim=-1, keepdim=True).square_()
        scale = squares.div_(len(weight_D)).add_(epsilon).rsqrt_()
        ctx.save_for_backward(input, weight_D, scale)
        found: Tensor = (input * scale).mul_(weight_D)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        input, weight_D, scale = ctx.saved_tensors
        both_ND = (input * gradient).reshape(-1, len(weight_D))
        scale_N = scale.flatten()
        of_input = of_weight = None
        if ctx.needs_input_grad[0]:
            along = both_ND.mv(weight_D).mul_(scale_N.pow(3)).div_(-len(weight_D)).view_as(scale)
            of_input = (gradient * weight_D).mul_(scale).addcmul_(input, along)
        if ctx.needs_input_grad[1]:
            of_weight = both_ND.mT.mv(scale_N)
        return of_input, of_weight, None


@lru_cache(maxsize=64)
def _short(kind: Any) -> Any:
    """``kind``, to everybody else still that, whose instances compute gradients the short way in fp32."""

    def forward(self: Any, hidden: Tensor) -> Tensor:
        if hidden.dtype == self.weight.dtype == torch.float32 and torch.is_grad_enabled():
            return rms_norm(hidden, self.weight, self.variance_epsilon)
        found: Tensor = kind.forward(self, hidden)
        return found

    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})


def _computes_so(norm: Any) -> bool:
    """Whether ``norm`` is written to compute the same, told from what it makes of some numbers.

    There are others of the same names: with 1 + w for a weight, with means taken off, or parted into groups.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        probe = copy.deepcopy(norm).to("cpu", torch.float32)
        weights = dict(probe.named_parameters())
        if list(weights) != ["weight"] or weights["weight"].ndim != 1:
            return False
        probe.weight.normal_(1.0, 0.3)
        given = torch.randn(3, len(probe.weight)) * torch.tensor([[1e-3], [1.0], [30.0]]) + 0.2
        return torch.allclose(probe(given), rms_norm(given, probe.weight, probe.variance_epsilon), rtol=1e-4, atol=1e-5)
