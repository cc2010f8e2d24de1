"""How much memory a training will take, told before its first step.

Bytes are fp32's four. What a step holds at its peak, beside the weights: the gradients and AdamW's two moments of
what learns, what the backward pass needs of the largest pack, and the head's logits a chunk at a time. The formula of
the activations counts what autograd keeps in a layer of the Llama kind (two norms, attention, a gated feed-forward);
`tests/training/test_memory.py` holds it against the allocator.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.errors import InvalidInput
from limbeck.models.attention import numbers_kept
from limbeck.models.packing import Pack, Tokens, pack, packs_of
from limbeck.training.parallel import shares_of
from limbeck.training.step import CHUNK_POSITIONS

__all__ = ["Forecast", "check", "forecast"]

FLOAT = 4
"""Bytes."""
LOGITS_HELD = 5
"""Copies of a chunk's logits alive at once: themselves, log-softmax, its gradient, theirs, and one for an objective."""


@dataclass(frozen=True)
class Forecast:
    """Bytes."""

    weights: int
    gradients: int
    moments: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """All of them, as if each were at its peak at the same time."""
        return self.weights + self.gradients + self.moments + self.activations + self.logits

    def __str__(self) -> str:
        parts = ("weights", "gradients", "moments", "activations", "logits")
        told = ", ".join(f"{name} {_size(getattr(self, name))}" for name in parts)
        return f"about {_size(self.total)} of memory ({told})"


def forecast(
    model: Any,
    sequences: Sequence[Tokens],
    batch_size: int,
    pack_tokens: int,
    replicas: int = 1,
    processes: int = 1,
    shard: bool = False,
) -> Forecast:
    """What training ``model`` on batches of ``sequences`` takes in each of ``processes``, which have ``replicas`` each.

    ``shard``: layers are parted among the processes, one of them whole at a time.
    """
    held, learning = _numbers(model, processes if shard else 1)
    config = model.config
    # Batches are drawn at random; one of the longest is no rarer than any other.
    longest = sorted(sequences, key=lambda tokens: -len(tokens.ids))[:batch_size]
    dealt = shares_of(longest, replicas * processes)[:replicas]
    shares = [[longest[at] for at in share] for share in dealt if share]
    packs = [[pack([share[i] for i in members]) for members in packs_of(share, pack_tokens)] for share in shares]
    layers = _layers_passed(model)
    return Forecast(
        weights=FLOAT * held,
        gradients=FLOAT * learning * max(1, len(packs)),
        moments=2 * FLOAT * learning,
        activations=FLOAT * sum(max(activations(config, one, layers) for one in share) for share in packs),
        logits=FLOAT
        * LOGITS_HELD
        * config.vocab_size
        * sum(max(min(CHUNK_POSITIONS, len(one.targets_R)) for one in share) for share in packs),
    )


def _numbers(model: Any, parts: int) -> tuple[int, int]:
    """How many weights a process holds, and how many of them learn, where each layer is in so many ``parts``."""
    every = list(model.parameters())
    if parts == 1:
        return sum(p.numel() for p in every), sum(p.numel() for p in every if p.requires_grad)
    layers = [list(layer.parameters()) for layer in model.get_decoder().layers]
    parted = {id(p) for layer in layers for p in layer}
    at_once = max(sum(p.numel() for p in layer) for layer in layers)
    held, learning = (
        sum(p.numel() if id(p) not in parted else math.ceil(p.numel() / parts) for p in some)
        for some in (every, [p for p in every if p.requires_grad])
    )
    return held + at_once, learning


def _layers_passed(model: Any) -> int:
    """How many layers the backward pass goes through: those from the first that learns."""
    if model.get_input_embeddings().weight.requires_grad:
        return int(model.config.num_hidden_layers)
    layers = model.get_decoder().layers
    frozen = itertools.takewhile(lambda layer: not any(p.requires_grad for p in layer.parameters()), layers)
    return len(layers) - len(list(frozen))


def activations(config: Any, packed: Pack, layers: int) -> int:
    """Numbers kept for the backward pass of one pack through ``layers`` layers of a decoder of the Llama kind.

    A layer keeps of each token: its input and that of the feed-forward, each with its norm's two products (6 D, of
    which norms by hand keep 4 D); the queries as they come and the attention's output in the row's order (2 Q), and the
    feed-forward's gate, its activation, the values beside it and their product (4 F).
    """
    heads, width = config.num_attention_heads, config.hidden_size
    of_head = getattr(config, "head_dim", None) or width // heads
    kept = getattr(config, "num_key_value_heads", None) or heads
    layer = packed.tokens * (6 * width + 2 * heads * of_head + 4 * config.intermediate_size)
    layer += numbers_kept(packed, heads, kept, of_head, getattr(config, "attn_logit_softcapping", None))
    return int(layers * layer + 4 * packed.tokens * width)


def check(found: Forecast, bytes_there: int) -> None:
    """Raise `InvalidInput` for a training that the machine's ``bytes_there`` cannot hold."""
    if found.total > bytes_there:
        raise InvalidInput(
            f"training: needs {found}, and the machine has {_size(bytes_there)}; expected less."
            " Say training.replicas: 1 (gradients, activations), lower training.pack_tokens (activations), keep"
            " training.freeze_embeddings (gradients and moments), or choose a smaller student (student.shrink)"
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
