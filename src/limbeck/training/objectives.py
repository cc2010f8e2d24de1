"""What a student minimizes: one small function an objective, each giving one loss a response position.

Legend: R response positions, V vocabulary, K teacher candidates. Logits are the student's. Natural logarithms.

Every function has a float64 reference in `tests/training/test_objectives.py`, written from the formula alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["cross_entropy", "forward_kl"]


def cross_entropy(logits_RV: Tensor, targets_R: Tensor) -> Tensor:
    """Negative log-likelihood of the target tokens, (R,): -log q(y).

    With a teacher's text as the target this is sequence-level distillation (Kim and Rush 2016, arXiv:1606.07947,
    section 3.2).
    """
    return torch.nn.functional.cross_entropy(logits_RV, targets_R, reduction="none")


def forward_kl(logits_RV: Tensor, top_ids_RK: Tensor, top_logprobs_RK: Tensor, tail_logprob_R: Tensor) -> Tensor:
    """KL(p ‖ q) between teacher p and student q, (R,), on the teacher's K likeliest tokens and one tail bucket.

        sum over k of p_k (log p_k - log q_k)  +  p_tail (log p_tail - log q_tail)

    where a tail is the mass outside the K. With K = V it is the KL divergence of Hinton et al. 2015
    (arXiv:1503.02531, section 2) at temperature 1 exactly; with fewer it is that of the distributions with the
    tail's tokens merged, hence a lower bound of it (data processing inequality).

    log q_tail is taken as a log-sum-exp over the logits outside the K, because 1 - sum of q_k is rounding error
    where the K hold nearly all.
    """
    log_total_R = logits_RV.logsumexp(-1)
    student_RK = logits_RV.gather(-1, top_ids_RK) - log_total_R[:, None]
    outside_RV = logits_RV.scatter(-1, top_ids_RK, float("-inf"))
    # Where K = V nothing is outside; a row of -inf would give NaN gradients, so it is not asked.
    kl_R = (top_logprobs_RK.exp() * (top_logprobs_RK - student_RK)).sum(-1)
    if top_ids_RK.shape[-1] < logits_RV.shape[-1]:
        student_tail_R = outside_RV.logsumexp(-1) - log_total_R
        has_tail_R = tail_logprob_R > float("-inf")
        tail_R = torch.where(has_tail_R, tail_logprob_R, 0.0)
        kl_R = kl_R + torch.where(has_tail_R, tail_R.exp() * (tail_R - student_tail_R), 0.0)
    return kl_R
