"""What is known of the teacher at the positions of a pack, beside the student's logits: stored candidates, or the whole
distribution of a teacher that is asked now.

Legend: R response positions of a pack, C those of a chunk, V vocabulary, K teacher candidates, B buckets (K + 1, or V
where the K are all).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from limbeck.recipe import Objective
from limbeck.records import SoftLabels
from limbeck.training import objectives
from limbeck.training.crossing import NOBODY
from limbeck.training.objectives import LOG_NOTHING, cross_entropy, merged, universal

__all__ = ["Candidates", "Targets", "Whole", "stack"]


class Targets(Protocol):
    """The teacher at the positions of a pack."""

    def loss(self, logits_CV: Tensor, targets_C: Tensor, chunk: slice, objective: Objective) -> Tensor:
        """What ``objective`` asks of the teacher's distributions at the positions of ``chunk``, (C,)."""


@dataclass(frozen=True)
class Candidates:
    """The teacher's likeliest tokens and the mass of the rest, stored at the objective's temperature.

    Where it writes in other tokens than the student (`crossing`), some candidates are nobody's, and some positions have
    no distribution at all: there the token itself is learned, with the same weight.
    """

    ids_RK: Tensor
    logprobs_RB: Tensor
    foreign: bool = False
    """Some candidates are `NOBODY`, or -inf: there was none."""

    def loss(self, logits_CV: Tensor, targets_C: Tensor, chunk: slice, objective: Objective) -> Tensor:
        """See `Targets.loss`."""
        ids_CK, teacher_CB = self.ids_RK[chunk], self.logprobs_RB[chunk].to(logits_CV.dtype)
        loss_C = torch.zeros_like(logits_CV[:, 0])
        if objective.universal:
            ranked_C = universal(teacher_CB, logits_CV, objective.temperature)
            missing_C = (teacher_CB[:, :-1] <= LOG_NOTHING).all(-1) if self.foreign else None
            loss_C = loss_C + _or_text(objective.universal, ranked_C, missing_C, logits_CV, targets_C)
        if objective.divergences:
            absent_CK = missing_C = None
            if self.foreign:
                absent_CK = (ids_CK == NOBODY) | (teacher_CB[:, :-1] <= LOG_NOTHING)
                missing_C = absent_CK.all(-1)
                teacher_CB, ids_CK = _folded(teacher_CB, ids_CK, absent_CK)
                teacher_CB = _among(teacher_CB, (~absent_CK).sum(-1, keepdim=True) >= logits_CV.shape[-1])
            student_CB = merged(logits_CV, ids_CK, objective.temperature, absent_CK)
            compared_C = _divergences(teacher_CB[:, : student_CB.shape[1]], student_CB, objective)  # no rest if K = V
            weight = sum(objective.divergences.values())
            loss_C = loss_C + _or_text(1.0, compared_C, missing_C, logits_CV, targets_C, weight)
        return loss_C


@dataclass(frozen=True)
class Whole:
    """The teacher's logits over its whole vocabulary, computed a chunk at a time."""

    logits: Callable[[slice], Tensor]

    def loss(self, logits_CV: Tensor, targets_C: Tensor, chunk: slice, objective: Objective) -> Tensor:
        """See `Targets.loss`. Where one head has more rows than the other, those after the tokenizer's last token
        are padding that nothing was ever trained to say; they are left out on both sides."""
        teacher_CV = self.logits(chunk)
        shared = min(teacher_CV.shape[-1], logits_CV.shape[-1])
        both = (teacher_CV.to(logits_CV.dtype), logits_CV)
        teacher_CB, student_CB = ((x[:, :shared] / objective.temperature).log_softmax(-1) for x in both)
        loss_C = _divergences(teacher_CB, student_CB, objective)
        if objective.universal:
            falling_CB = torch.nn.functional.pad(teacher_CB.sort(descending=True).values, (0, 1), value=LOG_NOTHING)
            loss_C = loss_C + objective.universal * universal(falling_CB, logits_CV[:, :shared], objective.temperature)
        return loss_C


def stack(soft: Sequence[SoftLabels], device: torch.device | None = None) -> Candidates:
    """The soft labels of a pack's examples, one after another, scaled to sum to 1 (what was packed does so nearly).

    They are put on ``device``; None leaves them with the processor.
    """
    soft = [one.opened() for one in soft]
    ids_RK = torch.from_numpy(np.concatenate([s.top_ids_TK for s in soft])).long()
    top_RK = torch.from_numpy(np.concatenate([s.top_logprobs_TK for s in soft]))
    tail_R = torch.from_numpy(np.concatenate([s.tail_logprob_T for s in soft]))
    foreign = bool((ids_RK == NOBODY).any() or top_RK.isneginf().any())
    logprobs_RB = torch.cat([top_RK, tail_R[:, None]], dim=1)
    logprobs_RB = logprobs_RB - logprobs_RB.logsumexp(-1, keepdim=True)
    return Candidates(ids_RK.to(device), logprobs_RB.clamp(min=LOG_NOTHING).to(device), foreign)


def _folded(teacher_CB: Tensor, ids_CK: Tensor, absent_CK: Tensor) -> tuple[Tensor, Tensor]:
    """Candidates that are nobody's, counted to the rest; their places get the row's first id that is somebody's."""
    lost_CK = teacher_CB[:, :-1].masked_fill(~absent_CK, LOG_NOTHING)
    tail_C1 = torch.cat([lost_CK, teacher_CB[:, -1:]], dim=1).logsumexp(-1, keepdim=True)
    kept_CK = teacher_CB[:, :-1].masked_fill(absent_CK, LOG_NOTHING)
    first_C1 = ids_CK.gather(1, (~absent_CK).int().argmax(-1, keepdim=True)).clamp(min=0)
    return torch.cat([kept_CK, tail_C1], dim=1), torch.where(absent_CK, first_C1, ids_CK)


def _among(teacher_CB: Tensor, all_C1: Tensor) -> Tensor:
    """Where the candidates are all tokens that the student has, what the teacher says of these alone."""
    if not all_C1.any():
        return teacher_CB
    own_CB = torch.cat([teacher_CB[:, :-1], torch.full_like(teacher_CB[:, -1:], LOG_NOTHING)], dim=1)
    return torch.where(all_C1, own_CB - own_CB.logsumexp(-1, keepdim=True), teacher_CB)


def _or_text(
    weight: float,
    loss_C: Tensor,
    missing_C: Tensor | None,
    logits_CV: Tensor,
    targets_C: Tensor,
    of_text: float | None = None,
) -> Tensor:
    """``weight`` times ``loss_C``; where the teacher's distribution is missing, the cross-entropy in its place."""
    if missing_C is None or not missing_C.any():
        return weight * loss_C
    text_C = (weight if of_text is None else of_text) * cross_entropy(logits_CV, targets_C)
    return torch.where(missing_C, text_C, weight * loss_C)


def _divergences(teacher_CB: Tensor, student_CB: Tensor, objective: Objective) -> Tensor:
    """The weighted sum, (C,), times the temperature's square: the gradient of a softened divergence falls with it
    (Hinton et al. 2015, arXiv:1503.02531, section 2), and a weight should mean the same at every temperature."""
    parameters = {
        "jensen_shannon": (objective.beta,),
        "skewed_forward_kl": (objective.skew,),
        "skewed_reverse_kl": (objective.skew,),
    }
    loss_C = torch.zeros_like(teacher_CB[:, 0])
    for name, weight in objective.divergences.items():
        divergence_C = getattr(objectives, name)(teacher_CB, student_CB, *parameters.get(name, ()))
        loss_C = loss_C + weight * objective.temperature**2 * divergence_C
    return loss_C
