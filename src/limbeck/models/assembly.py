"""A model put together from a configuration and weights of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from limbeck.models.device import moved
from limbeck.models.quick import quickened

__all__ = ["assembled"]


def assembled(config: Any, weights: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device) -> Any:
    """A causal language model of ``config`` with copies of ``weights``, in evaluation mode, on ``device``."""
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=config._attn_implementation)
    moved(model, device).load_state_dict(weights)
    return quickened(model.eval())
