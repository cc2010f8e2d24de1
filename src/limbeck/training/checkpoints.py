"""What a run leaves on disk so that it can be taken up again: weights, optimizer state, and where it stood.

Only what learns is kept: a frozen embedding, or a base under an adapter, is where it came from.

A checkpoint is a folder `step-000200`; it counts only once its manifest is there, which is written last, and has no
digests: reading all again would take as long as writing it. The one before is removed after that. Everything is fp32 as
computed, so a resumed run goes on from the same bits.

Of several processes the first writes; where layers are parted, each writes its part.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from limbeck.errors import InvalidInput
from limbeck.models.loading import load_weights, save_weights
from limbeck.storage.workspace import MANIFEST, read_json, write_json
from limbeck.training.processes import ALONE, Processes, like, local, parted

__all__ = ["latest", "load_best", "restore", "save"]


def save(
    folder: Path,
    step: int,
    model: Any,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    best: int | None = None,
    processes: Processes = ALONE,
) -> None:
    """Write the checkpoint of ``step`` finished steps into ``folder`` and remove the earlier ones.

    ``best``: the step whose weights are to be kept beside; this one's, or those an earlier checkpoint has kept.
    """
    earlier = latest(folder)
    place = folder / f"step-{step:06d}"
    processes.wait()  # all see the same one
    if earlier == place:  # so many steps always end in the same state
        return
    if processes.first:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
    processes.wait()
    weights, moments_of, kept = _files(model, processes)
    if processes.first or parted(model):
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        save_weights({name: local(p.detach()) for name, p in parameters.items()}, place / weights)
        if best == step:
            _link(place / weights, place / kept)
        elif best is not None and earlier is not None:
            _link(earlier / kept, place / kept)
        moments = {
            f"{name}/{key}": local(value)
            for name, parameter in parameters.items()
            for key, value in optimizer.state.get(parameter, {}).items()
        }
        save_weights(moments, place / moments_of)
    processes.wait()
    if processes.first:
        write_json(place / "state.json", {**state, "step": step, "processes": processes.size})
        write_json(place / MANIFEST, {"step": step})
        for other in folder.glob("step-*"):
            if other != place:
                shutil.rmtree(other)
    processes.wait()


def latest(folder: Path) -> Path | None:
    """The last whole checkpoint in ``folder``, if there is one."""
    whole = sorted(place for place in folder.glob("step-*") if (place / MANIFEST).exists())
    return whole[-1] if whole else None


def restore(place: Path, model: Any, optimizer: torch.optim.Optimizer, processes: Processes = ALONE) -> dict[str, Any]:
    """Put a checkpoint's weights and moments back; gives its state.

    Raises `InvalidInput` where layers were parted among another number of processes.
    """
    weights, moments, _ = _files(model, processes)
    if not (place / weights).exists():
        raise InvalidInput(
            f"{place}: its layers are parted among {read_json(place / 'state.json')['processes']} processes, and now"
            f" there are {processes.size}; start as many as then, with the same training.shard, or delete {place} to"
            " begin anew"
        )
    _put(model, place / weights)
    parameters = dict(model.named_parameters())
    for name, value in load_weights(place / moments).items():
        parameter, _, key = name.rpartition("/")
        value = value.to(parameters[parameter].device)
        optimizer.state[parameters[parameter]][key] = like(value, parameters[parameter])
    return dict(read_json(place / "state.json"))


def load_best(folder: Path, model: Any, processes: Processes = ALONE) -> None:
    """Put the best weights that the last checkpoint in ``folder`` has kept into ``model``."""
    place = latest(folder)
    assert place is not None, "new best weights are written at once"
    _put(model, place / _files(model, processes)[2])


def _files(model: Any, processes: Processes) -> tuple[str, str, str]:
    """Where weights, moments and the best weights lie: those of all layers, or of this process's parts of them."""
    part = f"-{processes.rank + 1}-of-{processes.size}" if parted(model) else ""
    return f"weights{part}.safetensors", f"optimizer{part}.safetensors", f"best{part}.safetensors"


def _put(model: Any, path: Path) -> None:
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in load_weights(path).items():
            local(parameters[name]).copy_(value)


def _link(file: Path, second: Path) -> None:
    """The same bytes under a second name, and once on the disk where it can."""
    try:
        os.link(file, second)
    except OSError:
        shutil.copyfile(file, second)
