"""Where models compute: on the processor, or on a card that torch knows."""

from __future__ import annotations

from typing import Any

import torch

from limbeck.errors import InvalidInput
from limbeck.settings import machine_memory

__all__ = ["device_called", "memory_of", "moved"]


def device_called(name: str) -> torch.device:
    """The device that ``name`` means, as torch writes it: cpu, cuda, cuda:1, mps. Raises `InvalidInput` for another."""
    try:
        device = torch.device(name)
        module = None if device.type == "cpu" else torch.get_device_module(device)
    except RuntimeError:
        raise InvalidInput(f'LIMBECK_DEVICE is "{name}"; expected cpu, cuda, cuda:1, mps') from None
    count = module.device_count() if module is not None and module.is_available() else 0
    if module is not None and (device.index or 0) >= count:
        raise InvalidInput(
            f'LIMBECK_DEVICE is "{name}", and torch {torch.__version__} finds {count or "none"} of that kind; expected'
            " cpu, or a torch that was built for the card and its driver"
        )
    return device


def moved(model: Any, device: torch.device) -> Any:
    """``model``, now on ``device``; weights that were one stay one."""
    if model.device != device:
        model.to(device)
        model.tie_weights()
    return model


def memory_of(device: Any) -> int:
    """Bytes of memory for what is computed on ``device``: a card's own, or the machine's where they share it."""
    asked = None if device.type == "cpu" else getattr(torch.get_device_module(device), "mem_get_info", None)
    return machine_memory() if asked is None else int(asked(device)[1])
