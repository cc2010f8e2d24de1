"""The gradient of one batch, accumulated pack by pack and, in the head, chunk by chunk.

Legend: R response positions of a pack, D hidden width, V vocabulary, C positions of a chunk.

The loss is the mean over all response tokens of the batch, whatever pack or chunk they fall in: each part is
divided by the batch's token count, never by its own. So the gradient does not depend on how the batch is cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.models.packing import Pack, pack, packs_of, response_hidden, response_logits
from limbeck.training.examples import TrainingExample
from limbeck.training.objectives import cross_entropy, forward_kl

__all__ = ["Losses", "accumulate"]

CHUNK_POSITIONS = 512
"""Logits held at once: 512 positions of a 49,152-token vocabulary are 100 MB in fp32."""


@dataclass
class Losses:
    """Sums over response tokens."""

    objective: float = 0.0
    cross_entropy: float = 0.0
    tokens: int = 0
    computed: int = 0
    """Tokens that went through the model, shared prefixes counted once."""

    @property
    def mean(self) -> float:
        """The objective a response token."""
        return self.objective / max(1, self.tokens)

    @property
    def mean_cross_entropy(self) -> float:
        """Negative log-likelihood a response token, in nats."""
        return self.cross_entropy / max(1, self.tokens)


def accumulate(
    model: Any,
    examples: Sequence[TrainingExample],
    weights: Mapping[str, float],
    pack_tokens: int,
    backward: bool = True,
    share: bool = True,
) -> Losses:
    """The losses of a batch; with ``backward``, the gradient of their weighted mean is added to the parameters'.

    ``weights`` maps objective names (`cross_entropy`, `forward_kl`) to their weights in the sum.
    """
    losses = Losses(tokens=sum(len(example.tokens.response) for example in examples))
    for chosen in packs_of([example.tokens for example in examples], pack_tokens):
        members = [examples[i] for i in chosen]
        packed = pack([member.tokens for member in members], share)
        losses.computed += packed.tokens
        with torch.set_grad_enabled(backward):
            _accumulate_pack(model, packed, _soft_labels(members), weights, backward, losses)
    return losses


def _accumulate_pack(
    model: Any,
    packed: Pack,
    soft: tuple[Tensor, Tensor, Tensor] | None,
    weights: Mapping[str, float],
    backward: bool,
    losses: Losses,
) -> None:
    hidden_RD = response_hidden(model, packed)
    # The graph is cut at the hidden states: the head runs forward and backward a chunk at a time, and only
    # then does the whole of its gradient go through the body, once.
    leaf_RD = hidden_RD.detach().requires_grad_(backward)
    for start in range(0, len(packed.targets_R), CHUNK_POSITIONS):
        chunk = slice(start, start + CHUNK_POSITIONS)
        logits_CV = response_logits(model, leaf_RD[chunk])
        loss_C, likelihood_C = _losses(logits_CV, packed.targets_R[chunk], soft, chunk, weights)
        if backward:
            (loss_C.sum() / losses.tokens).backward()  # type: ignore[no-untyped-call]
        losses.objective += float(loss_C.detach().double().sum())
        losses.cross_entropy += float(likelihood_C.detach().double().sum())
    if backward:
        hidden_RD.backward(leaf_RD.grad)  # type: ignore[no-untyped-call]


def _losses(
    logits_CV: Tensor,
    targets_C: Tensor,
    soft: tuple[Tensor, Tensor, Tensor] | None,
    chunk: slice,
    weights: Mapping[str, float],
) -> tuple[Tensor, Tensor]:
    """The weighted objective and the cross-entropy (which is always told), each (C,)."""
    wanted = weights.get("cross_entropy", 0.0)
    with torch.set_grad_enabled(logits_CV.requires_grad and wanted > 0):
        likelihood_C = cross_entropy(logits_CV, targets_C)
    loss_C = wanted * likelihood_C
    if weights.get("forward_kl", 0.0):
        assert soft is not None, "forward_kl without soft labels: prepare() refuses this"
        loss_C = loss_C + weights["forward_kl"] * forward_kl(logits_CV, *(part[chunk] for part in soft))
    return loss_C, likelihood_C


def _soft_labels(members: Sequence[TrainingExample]) -> tuple[Tensor, Tensor, Tensor] | None:
    soft = [member.soft_labels for member in members if member.soft_labels is not None]
    if len(soft) < len(members):
        return None
    return (
        torch.from_numpy(np.concatenate([s.top_ids_TK for s in soft])).long(),
        torch.from_numpy(np.concatenate([s.top_logprobs_TK for s in soft])),
        torch.from_numpy(np.concatenate([s.tail_logprob_T for s in soft])),
    )
