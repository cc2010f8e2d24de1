"""In which numbers the linear layers of the body compute: fp32, or bf16 where the device has instructions for it.

Mixed precision as of Micikevicius et al. 2018 (arXiv:1710.03740), with bf16's range and so without a scaled loss:
weights, gradients, moments, norms, attention, head and losses stay fp32; only the factors of the layers' products are
rounded, to 8 bits of mantissa. Processors without such instructions compute them many times slower than fp32.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from limbeck.errors import InvalidInput
from limbeck.recipe import Training

__all__ = ["has_bf16", "rounding", "rounds"]


def has_bf16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bf16 itself: a processor by AVX-512 BF16 or AMX, a card from Ampere on."""
    if device.type != "cpu":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def rounds(plan: Training, device: torch.device) -> bool:
    """Whether ``plan`` computes in bf16 on ``device``. Raises `InvalidInput` where it asks for it and there is none."""
    there = has_bf16(device)
    if plan.precision == "bf16" and not there:
        what = "processor has no instructions for it (AVX-512 BF16, AMX)" if device.type == "cpu" else "card has none"
        raise InvalidInput(
            f"training.precision: bf16, and this {what}; it would take many times as long. Use auto, or fp32"
        )
    return plan.precision != "fp32" and there


def rounding(device: torch.device, bf16: bool) -> AbstractContextManager[object]:
    """Within it products on ``device`` are of bf16, if that is wanted."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()
