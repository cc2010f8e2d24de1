"""What is known of the teacher at the positions of a pack, as tensors beside the student's logits.

Legend: R response positions of a pack, C those of a chunk, V vocabulary, K teacher candidates, B buckets (K + 1, or V
where the K are all).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from limbeck.recipe import Objective
from limbeck.records import SoftLabels
from limbeck.training import objectives
from limbeck.training.objectives import LOG_NOTHING, merged

__all__ = ["Candidates", "stack"]


@dataclass(frozen=True)
class Candidates:
    """The teacher's likeliest tokens and the mass of the rest, at one temperature."""

    ids_RK: Tensor
    logprobs_RB: Tensor

    def loss(self, logits_CV: Tensor, chunk: slice, objective: Objective) -> Tensor:
        """The weighted divergences at the positions of ``chunk``, (C,).

        They are multiplied by the temperature's square: the gradient of a softened divergence falls with it (Hinton et
        al. 2015, arXiv:1503.02531, section 2), and a weight should mean the same at every temperature.
        """
        student_CB = merged(logits_CV, self.ids_RK[chunk], objective.temperature)
        teacher_CB = self.logprobs_RB[chunk, : student_CB.shape[1]].to(logits_CV.dtype)  # no rest where K = V
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


def stack(soft: Sequence[SoftLabels]) -> Candidates:
    """The soft labels of a pack's examples, one after another."""
    ids_RK = torch.from_numpy(np.concatenate([s.top_ids_TK for s in soft])).long()
    top_RK = torch.from_numpy(np.concatenate([s.top_logprobs_TK for s in soft]))
    tail_R = torch.from_numpy(np.concatenate([s.tail_logprob_T for s in soft]))
    return Candidates(ids_RK, torch.cat([top_RK, tail_R[:, None]], dim=1).clamp(min=LOG_NOTHING))
