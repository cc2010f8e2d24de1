"""In which numbers the linear layers of the body compute: fp32, or bf16 where the processor has instructions for it.

Mixed precision as of Micikevicius et al. 2018 (arXiv:1710.03740), with bf16's range and so without a scaled loss:
weights, gradients, moments, norms, attention, head and losses stay fp32; only the factors of the layers' products are
rounded, to 8 bits of mantissa. Processors without such instructions compute them many times slower than fp32.
"""

from __future__ import annotations

import torch

from limbeck.errors import InvalidInput
from limbeck.recipe import Training

__all__ = ["has_bf16", "rounds"]


def has_bf16() -> bool:
    """Whether this processor multiplies bf16 (AVX-512 BF16, or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def rounds(plan: Training) -> bool:
    """Whether ``plan`` computes in bf16 here. Raises `InvalidInput` where it asks for it and the processor has none."""
    if plan.precision == "bf16" and not has_bf16():
        raise InvalidInput(
            "training.precision: bf16, and this processor has no instructions for it (AVX-512 BF16, AMX); it would take"
            " many times as long. Use auto, or fp32"
        )
    return plan.precision != "fp32" and has_bf16()
