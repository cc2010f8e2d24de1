"""What a student minimizes: one small function an objective, each giving one loss a response position.

Legend: R response positions, V vocabulary, K teacher candidates, B buckets, D hidden width. All logarithms are
natural.

A divergence compares teacher p and student q, both as log-probabilities of the same B buckets: every token by itself
(B = V), or the teacher's K likeliest tokens and one bucket for all the rest (B = K + 1). `merged` brings a student's
logits into that form. Merging outcomes never raises an f-divergence (data processing inequality), and all of these are
f-divergences: on K + 1 buckets each is a lower bound of itself on V.

Every function has a float64 reference in `tests/training/reference.py`, written from the formula alone; `make prove`
compares them, and docs/objectives.md has the table.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

__all__ = [
    "cross_entropy",
    "forward_kl",
    "hidden_distance",
    "jensen_shannon",
    "merged",
    "reverse_kl",
    "skewed_forward_kl",
    "skewed_reverse_kl",
    "universal",
]

LOG_NOTHING = -100.0
"""Stands for log 0: e^-100 is 4e-44, the last that fp32 can hold. An infinity would make NaN of 0 times itself."""


def cross_entropy(logits_RV: Tensor, targets_R: Tensor) -> Tensor:
    """Negative log-likelihood of the target tokens, (R,): -log q(y).

    With a teacher's text as the target this is sequence-level distillation (Kim and Rush 2016, arXiv:1606.07947,
    section 3.2).
    """
    return torch.nn.functional.cross_entropy(logits_RV, targets_R, reduction="none")


def forward_kl(teacher_RB: Tensor, student_RB: Tensor) -> Tensor:
    """KL(p ‖ q) = sum of p (log p - log q), (R,): Hinton et al. 2015 (arXiv:1503.02531, section 2). Covers all of p."""
    return (teacher_RB.exp() * (teacher_RB - student_RB)).sum(-1)


def reverse_kl(teacher_RB: Tensor, student_RB: Tensor) -> Tensor:
    """KL(q ‖ p) = sum of q (log q - log p), (R,): MiniLLM (arXiv:2306.08543). Seeks a mode of p."""
    return forward_kl(student_RB, teacher_RB)


def jensen_shannon(teacher_RB: Tensor, student_RB: Tensor, beta: float) -> Tensor:
    """beta KL(p ‖ m) + (1 - beta) KL(q ‖ m), m = beta p + (1 - beta) q, (R,): GKD (arXiv:2306.13649)."""
    mixture_RB = _mixture(teacher_RB, student_RB, beta)
    return beta * forward_kl(teacher_RB, mixture_RB) + (1.0 - beta) * forward_kl(student_RB, mixture_RB)


def skewed_forward_kl(teacher_RB: Tensor, student_RB: Tensor, skew: float) -> Tensor:
    """KL(p ‖ skew p + (1 - skew) q), (R,): DistiLLM (arXiv:2402.03898)."""
    return forward_kl(teacher_RB, _mixture(teacher_RB, student_RB, skew))


def skewed_reverse_kl(teacher_RB: Tensor, student_RB: Tensor, skew: float) -> Tensor:
    """KL(q ‖ skew q + (1 - skew) p), (R,): DistiLLM (arXiv:2402.03898)."""
    return forward_kl(student_RB, _mixture(student_RB, teacher_RB, skew))


def universal(teacher_RB: Tensor, logits_RV: Tensor, temperature: float = 1.0) -> Tensor:
    """Universal logit distillation, (R,): sum of |p sorted - q sorted|, whatever the two vocabularies are.

    The Wasserstein distance of arXiv:2402.12030: the transport cost is uniform, so the cheapest plan pairs likeliest
    with likeliest. ``teacher_RB`` holds the K likeliest, falling, then the rest; the
    student's rest is compared as one too, which makes it a lower bound of the sum over all (triangle inequality).
    """
    candidates = teacher_RB.shape[-1] - 1
    student_RV = (logits_RV / temperature).softmax(-1)
    top_RK = student_RV.topk(min(candidates, student_RV.shape[-1])).values
    top_RK = torch.nn.functional.pad(top_RK, (0, candidates - top_RK.shape[-1]))  # a vocabulary smaller than K
    student_RB = torch.cat([top_RK, 1.0 - top_RK.sum(-1, keepdim=True)], dim=-1)
    return (teacher_RB.exp() - student_RB).abs().sum(-1)


def hidden_distance(student_RD: Tensor, teacher_RD: Tensor, measure: Literal["cosine", "mse", "relative"]) -> Tensor:
    """How far hidden states are apart, (R,).

    - `mse`: the mean over D of the squared difference (FitNets, arXiv:1412.6550, without its half);
    - `relative`: the squared difference over the teacher's squared norm, so that a weight means the same at each layer;
    - `cosine`: 1 - cosine (DistilBERT, arXiv:1910.01108).
    """
    if measure == "cosine":
        return 1.0 - torch.nn.functional.cosine_similarity(student_RD, teacher_RD, dim=-1)
    squares_R = (student_RD - teacher_RD).square().sum(-1)
    return squares_R / (teacher_RD.square().sum(-1) if measure == "relative" else teacher_RD.shape[-1])


def merged(logits_RV: Tensor, ids_RK: Tensor, temperature: float = 1.0, absent_RK: Tensor | None = None) -> Tensor:
    """A student's log-probabilities of the K given tokens and then of all others together, (R, B).

    B = K + 1, or V where the K are all of them. ``absent_RK`` marks places without a candidate; their token must be
    one that stands elsewhere in the row, and they get log 0.

    The tail is a log-sum-exp over the logits outside the K: 1 - the sum of q_k is rounding error where the K hold
    nearly all.
    """
    scaled_RV = logits_RV / temperature if temperature != 1.0 else logits_RV
    total_R1 = scaled_RV.logsumexp(-1, keepdim=True)
    own_RK = scaled_RV.gather(-1, ids_RK) - total_R1
    if absent_RK is None and ids_RK.shape[-1] == logits_RV.shape[-1]:
        return own_RK
    if absent_RK is not None:
        own_RK = own_RK.masked_fill(absent_RK, LOG_NOTHING)
    tail_R1 = scaled_RV.scatter(-1, ids_RK, float("-inf")).logsumexp(-1, keepdim=True) - total_R1
    return torch.cat([own_RK, tail_R1], dim=-1)


def _mixture(first_RB: Tensor, second_RB: Tensor, share: float) -> Tensor:
    """log(share p + (1 - share) q) of log-probabilities."""
    return torch.logaddexp(first_RB + math.log(share), second_RB + math.log1p(-share))
