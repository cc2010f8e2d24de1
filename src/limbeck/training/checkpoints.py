"""What a run leaves on disk so that it can be taken up again: weights, optimizer state, and where it stood.

A checkpoint is a folder `step-000200`; it counts only once its manifest is there, which is written last. The one
before is removed after that. Everything is fp32 as computed, so a resumed run goes on from the same bits.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from limbeck.models.loading import load_weights, save_weights
from limbeck.storage.workspace import MANIFEST, read_json, write_json, write_manifest

__all__ = ["latest", "restore", "save"]


def save(folder: Path, step: int, model: Any, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> Path:
    """Write the checkpoint of ``step`` finished steps into ``folder`` and remove the earlier ones."""
    place = folder / f"step-{step:06d}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    parameters = dict(model.named_parameters())
    save_weights({name: p.detach() for name, p in parameters.items()}, place / "weights.safetensors")
    moments = {
        f"{name}/{key}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    save_weights(moments, place / "optimizer.safetensors")
    write_json(place / "state.json", {**state, "step": step})
    write_manifest(place, {"step": step})
    for earlier in folder.glob("step-*"):
        if earlier != place:
            shutil.rmtree(earlier)
    return place


def latest(folder: Path) -> Path | None:
    """The last whole checkpoint in ``folder``, if there is one."""
    whole = sorted(place for place in folder.glob("step-*") if (place / MANIFEST).exists())
    return whole[-1] if whole else None


def restore(place: Path, model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put a checkpoint's weights and moments back; gives its state."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in load_weights(place / "weights.safetensors").items():
            parameters[name].copy_(value)
    for name, value in load_weights(place / "optimizer.safetensors").items():
        parameter, _, key = name.rpartition("/")
        optimizer.state[parameters[parameter]][key] = value
    return dict(read_json(place / "state.json"))
