"""A student that learns small matrices beside its frozen weights: LoRA (Hu et al. 2021, arXiv:2106.09685) and DoRA
(Liu et al. 2024, arXiv:2402.09353), by PEFT.

The adapter is put into the model's own linear layers, so the model stays what it is to everybody else: packing, the
loop, checkpoints. It begins as nothing (B is 0), so a student with a new adapter computes what its base does. `merge`
adds what was learned to the weights and takes the adapter out again: W + alpha/rank · B A, and for DoRA each output's
row of that scaled to its learned length.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from limbeck.errors import InvalidRecipe
from limbeck.models.loading import save_weights
from limbeck.recipe import Adapter

__all__ = ["attach", "attached", "check", "merge", "save"]


def attach(model: Any, adapter: Adapter, seed: int) -> None:
    """Put a new adapter into ``model``; of its parameters, the adapter's alone learn from now on.

    The same ``seed`` draws the same A. Raises as `check` does.
    """
    check(model, adapter)
    # Here, not above: PEFT takes seconds to import, and few jobs want it.
    from peft import LoraConfig, inject_adapter_in_model

    targets = adapter.targets if isinstance(adapter.targets, str) else list(adapter.targets)
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        target_modules=targets,
        use_dora=adapter.kind == "dora",
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(seed)
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


def check(model: Any, adapter: Adapter) -> None:
    """Raise `InvalidRecipe` for targets that ``model`` does not have, or that it cannot be merged into."""
    if isinstance(adapter.targets, str):  # all there are, but for the head
        return
    _check_untied(model, adapter.targets)
    kinds = (torch.nn.Linear, torch.nn.Embedding)
    names = [f".{name}" for name, one in model.named_modules() if isinstance(one, kinds)]
    for target in adapter.targets:
        if not any(name.endswith(f".{target}") for name in names):
            known = ", ".join(sorted({name.rpartition(".")[2] for name in names}))
            raise InvalidRecipe(
                "student.adapter.targets", [f'found "{target}"; expected all-linear, or some of {known}']
            )


def _check_untied(model: Any, targets: Sequence[str]) -> None:
    """Raise `InvalidRecipe` for an adapter on what embeddings and head share: merged, it would be in both."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    if ends[1] is None or ends[0].weight is not ends[1].weight:
        return
    names = {name.rpartition(".")[2] for name, module in model.named_modules() if any(module is end for end in ends)}
    if found := sorted(names.intersection(targets)):
        raise InvalidRecipe(
            "student.adapter.targets",
            [f'found "{found[0]}", whose weights the model\'s embeddings and head share; expected others'],
        )


def attached(model: Any) -> bool:
    """Whether there is an adapter in ``model``."""
    return hasattr(model, "peft_config")


def save(model: Any, base: str, folder: Path) -> None:
    """Write the adapter in ``model`` to ``folder`` as PEFT reads it: for the model ``base``, as that is without it.

    What was written there before, by a job that was broken off, is written over.
    """
    from peft import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    path = folder / "adapter_model.safetensors"
    save_weights({f"base_model.model.{name}": value.detach() for name, value in weights.items()}, path)
    config = model.peft_config["default"]
    config.base_model_name_or_path = base
    config.inference_mode = True
    config.save_pretrained(folder)
    shutil.copymode(folder / "adapter_config.json", path)  # safetensors lets nobody else read what it writes


def merge(model: Any) -> None:
    """Add the adapter in ``model`` to its weights, and take it out."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge(safe_merge=True)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer.get_base_layer())
    del model.peft_config
