"""What a run leaves on disk so that it can be taken up again: weights, optimizer state, and where it stood.

Only what learns is kept: a frozen embedding, or a base under an adapter, is where it came from.

A checkpoint is a folder `step-000200`; it counts only once its manifest is there, which is written last. The one
before is removed after that. Everything is fp32 as computed, so a resumed run goes on from the same bits.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from limbeck.models.loading import load_weights, save_weights
from limbeck.storage.workspace import MANIFEST, read_json, write_json, write_manifest

__all__ = ["latest", "load_best", "restore", "save"]

BEST = "best.safetensors"


def save(
    folder: Path,
    step: int,
    model: Any,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    best: int | None = None,
) -> Path:
    """Write the checkpoint of ``step`` finished steps into ``folder`` and remove the earlier ones.

    ``best``: the step whose weights are to be kept beside; this one's, or those an earlier checkpoint has kept.
    """
    earlier = latest(folder)
    place = folder / f"step-{step:06d}"
    if earlier == place:  # so many steps always end in the same state
        return place
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    save_weights({name: p.detach() for name, p in parameters.items()}, place / "weights.safetensors")
    if best == step:
        _link(place / "weights.safetensors", place / BEST)
    elif best is not None and earlier is not None:
        _link(earlier / BEST, place / BEST)
    moments = {
        f"{name}/{key}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    save_weights(moments, place / "optimizer.safetensors")
    write_json(place / "state.json", {**state, "step": step})
    write_manifest(place, {"step": step})
    for other in folder.glob("step-*"):
        if other != place:
            shutil.rmtree(other)
    return place


def latest(folder: Path) -> Path | None:
    """The last whole checkpoint in ``folder``, if there is one."""
    whole = sorted(place for place in folder.glob("step-*") if (place / MANIFEST).exists())
    return whole[-1] if whole else None


def restore(place: Path, model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put a checkpoint's weights and moments back; gives its state."""
    _put(model, place / "weights.safetensors")
    parameters = dict(model.named_parameters())
    for name, value in load_weights(place / "optimizer.safetensors").items():
        parameter, _, key = name.rpartition("/")
        optimizer.state[parameters[parameter]][key] = value
    return dict(read_json(place / "state.json"))


def load_best(folder: Path, model: Any) -> None:
    """Put the best weights that the last checkpoint in ``folder`` has kept into ``model``."""
    place = latest(folder)
    assert place is not None, "new best weights are written at once"
    _put(model, place / BEST)


def _put(model: Any, path: Path) -> None:
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in load_weights(path).items():
            parameters[name].copy_(value)


def _link(file: Path, second: Path) -> None:
    """The same bytes under a second name, and once on the disk where it can."""
    try:
        os.link(file, second)
    except OSError:
        shutil.copyfile(file, second)
