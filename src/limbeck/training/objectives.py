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
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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

_FAINT = 1e-30
"""A sum of exponentials, the largest of all being 1, in which fp32 begins to lose digits."""


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

    The tail is summed over the logits outside the K: 1 - the sum of q_k is rounding error where the K hold nearly all.
    """
    scaled_RV = logits_RV / temperature if temperature != 1.0 else logits_RV
    if absent_RK is None and ids_RK.shape[-1] == logits_RV.shape[-1]:
        return scaled_RV.log_softmax(-1).gather(-1, ids_RK)
    found_RB: Tensor = _Merged.apply(scaled_RV, ids_RK)  # type: ignore[no-untyped-call]
    if absent_RK is None:
        return found_RB
    return torch.cat([found_RB[:, :-1].masked_fill(absent_RK, LOG_NOTHING), found_RB[:, -1:]], dim=-1)


class _Merged(torch.autograd.Function):
    """What `merged` says, with as few passes over the vocabulary as there can be: in training it is most of the time
    that is spent between the last product and the next.

    With G the sum of the output's gradients, that of a logit is g_k - G q_k for one of the K, and
    q_v (g_tail / q_tail - G) for another.
    """

    @staticmethod
    def forward(ctx: Any, scaled_RV: Tensor, ids_RK: Tensor) -> Tensor:
        highest_R1 = scaled_RV.amax(-1, keepdim=True)
        shares_RV = (scaled_RV - highest_R1).exp_()
        total_R1 = shares_RV.sum(-1, keepdim=True)
        rest_R1 = shares_RV.scatter_(-1, ids_RK, 0.0).sum(-1, keepdim=True)
        beside_R1 = torch.zeros_like(rest_R1)
        nothing_R1 = torch.zeros_like(rest_R1, dtype=torch.bool)
        if bool((rest_R1 < _FAINT).any()):  # in fp32 too little beside the likeliest: measured by itself
            outside_RV = scaled_RV.scatter(-1, ids_RK, float("-inf"))
            own_R1 = outside_RV.amax(-1, keepdim=True)
            nothing_R1 = own_R1.isneginf()  # the K are all tokens there are
            own_R1 = own_R1.masked_fill(nothing_R1, 0.0)
            beside_R1 = own_R1 - highest_R1
            shares_RV = (outside_RV - own_R1).exp_()
            rest_R1 = shares_RV.sum(-1, keepdim=True).masked_fill(nothing_R1, 1.0)
        log_total_R1 = total_R1.log()
        own_RK = scaled_RV.gather(-1, ids_RK) - highest_R1 - log_total_R1
        tail_R1 = (rest_R1.log() + beside_R1 - log_total_R1).masked_fill(nothing_R1, LOG_NOTHING)
        ctx.save_for_backward(shares_RV, rest_R1, ids_RK, own_RK, tail_R1)
        return torch.cat([own_RK, tail_R1], dim=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_RB: Tensor) -> tuple[Tensor, None]:
        shares_RV, rest_R1, ids_RK, own_RK, tail_R1 = ctx.saved_tensors
        whole_R1 = gradient_RB.sum(-1, keepdim=True)
        found_RV = shares_RV * ((gradient_RB[:, -1:] - whole_R1 * tail_R1.exp()) / rest_R1)
        found_RV.scatter_(-1, ids_RK, -whole_R1 * own_RK.exp())
        return found_RV.scatter_add_(-1, ids_RK, gradient_RB[:, :-1]), None


def _mixture(first_RB: Tensor, second_RB: Tensor, share: float) -> Tensor:
    """log(share p + (1 - share) q) of log-probabilities."""
    return torch.logaddexp(first_RB + math.log(share), second_RB + math.log1p(-share))
