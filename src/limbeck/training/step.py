"""The gradient of one batch, accumulated pack by pack and, in the head, chunk by chunk.

Legend: R response positions of a pack, D hidden width, V vocabulary, C positions of a chunk.

The loss is the mean over all response tokens of the batch, whatever pack or chunk they fall in: each part is
divided by the batch's token count, never by its own. So the gradient does not depend on how the batch is cut, be it
into packs, chunks, calls of `accumulate` or processes: who cuts it tells every part the tokens of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.models.packing import Pack, pack, packs_of, response_states
from limbeck.recipe import Objective
from limbeck.training import head
from limbeck.training.alignment import Aligned
from limbeck.training.examples import TrainingExample
from limbeck.training.objectives import cross_entropy
from limbeck.training.on_policy import Score
from limbeck.training.precision import rounding
from limbeck.training.targets import Targets, Whole, stack

__all__ = ["Losses", "accumulate"]

CHUNK_POSITIONS = 512
"""Logits held at once: 512 positions of a 49,152-token vocabulary are 100 MB in fp32."""


@dataclass(slots=True)
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
    objective: Objective,
    pack_tokens: int,
    backward: bool = True,
    share: bool = True,
    of_tokens: int | None = None,
    score: Score | None = None,
    aligned: Aligned | None = None,
    bf16: bool = False,
) -> Losses:
    """The losses of a batch; with ``backward``, the gradient of their weighted mean is added to the parameters'.

    ``of_tokens``: where ``examples`` are a part of a batch, the response tokens of the whole. ``score``: a teacher that
    is asked now, instead of the examples' stored soft labels; the responses are then the student's own, so there is
    nothing of which to learn the cross-entropy. ``aligned``: the examples bring the teacher's hidden states, and
    how far the student's are from them is part of the objective. ``bf16``: see `precision`.
    """
    if score is not None:
        objective = objective.model_copy(update={"cross_entropy": 0.0})
    losses = Losses(tokens=sum(len(example.tokens.response) for example in examples))
    for chosen in packs_of([example.tokens for example in examples], pack_tokens):
        members = [examples[i] for i in chosen]
        packed = pack([member.tokens for member in members], share).on(model.device)
        losses.computed += packed.tokens
        with torch.set_grad_enabled(backward):
            teacher = _teacher(members, objective, score, model.device)
            states = None if aligned is None or score is not None else _States(aligned, _states(members, model.device))
            share_of = (of_tokens or losses.tokens) if backward else 0
            _accumulate_pack(model, packed, teacher, states, objective, losses, share_of, bf16)
    return losses


def _accumulate_pack(
    model: Any,
    packed: Pack,
    teacher: Targets | None,
    states: _States | None,
    objective: Objective,
    losses: Losses,
    of_tokens: int,
    bf16: bool,
) -> None:
    """Add a pack's losses to ``losses``, and its share in the mean over ``of_tokens`` to the gradient unless 0."""
    with rounding(model.device, bf16):
        *inner, hidden_RD = response_states(model, packed, () if states is None else states.aligned.layers)
    # The graph is cut at the hidden states: the head runs forward and backward a chunk at a time, and only
    # then does the whole of its gradient go through the body, once.
    leaf_RD = hidden_RD.detach().requires_grad_(of_tokens > 0)
    for start in range(0, len(packed.targets_R), CHUNK_POSITIONS):
        chunk = slice(start, start + CHUNK_POSITIONS)
        logits_CV = head.logits(model, leaf_RD[chunk])
        with torch.set_grad_enabled(logits_CV.requires_grad and objective.cross_entropy > 0):
            likelihood_C = cross_entropy(logits_CV, packed.targets_R[chunk])  # told always, learned if asked
        loss_C = objective.cross_entropy * likelihood_C
        if teacher is not None:
            loss_C = loss_C + teacher.loss(logits_CV, packed.targets_R[chunk], chunk, objective)
        if of_tokens:
            (loss_C.sum() / of_tokens).backward()  # type: ignore[no-untyped-call]
        losses.objective += float(loss_C.detach().cpu().double().sum())
        losses.cross_entropy += float(likelihood_C.detach().cpu().double().sum())
    if states is None:
        if of_tokens:
            hidden_RD.backward(leaf_RD.grad)  # type: ignore[no-untyped-call]
        return
    distance = states.aligned(inner, states.teacher_LRD).sum()
    losses.objective += float(distance.detach().cpu().double())
    if of_tokens:
        torch.autograd.backward([hidden_RD, distance / of_tokens], [leaf_RD.grad, None])


@dataclass(frozen=True)
class _States:
    """What a pack's hidden states are compared with."""

    aligned: Aligned
    teacher_LRD: Tensor


def _states(members: Sequence[TrainingExample], device: torch.device) -> Tensor:
    """The teacher's states of a pack's examples, one after another, (L, R, D)."""
    found = [member.states_RLD for member in members if member.states_RLD is not None]
    assert len(found) == len(members), "the caller has the teacher read all of them"
    return torch.from_numpy(np.concatenate(found)).to(device).transpose(0, 1)


def _teacher(
    members: Sequence[TrainingExample], objective: Objective, score: Score | None, device: torch.device
) -> Targets | None:
    """The teacher at the positions of a pack, in whatever form there is."""
    if not objective.signalled:
        return None
    if score is not None:
        return Whole(score([member.read_as or member.tokens for member in members]))
    soft = [member.soft_labels for member in members if member.soft_labels is not None]
    assert len(soft) == len(members), "a divergence without soft labels: prepare() refuses this"
    return stack(soft, device)
