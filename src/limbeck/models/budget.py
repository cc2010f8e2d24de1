"""A cut chosen for a budget: candidates of different shapes, each as large as the budget lets it be, are made and
measured, and the one that is still nearest to its base is taken.

Near is measured before any training, as the mean KL divergence of the next-token distributions on a sample of
prompts. That orders shapes; what training makes of each it does not tell (Minitron, arXiv:2407.14679, section 2.3,
retrains its candidates briefly for that), so all candidates are reported, and any of them can be asked for by its
own keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import kl_div

from limbeck.errors import InvalidRecipe
from limbeck.models.shrink import choose, cut, importance_of, neurons_kept
from limbeck.recipe import Shrink

__all__ = ["Candidate", "candidates", "latency"]

WIDTHS = (None, 0.75, 0.5)
"""Shares of the feed-forward that are tried."""
DECODED = 8
"""Tokens a latency is taken over, after the longest prompt of the sample."""


@dataclass(frozen=True)
class Candidate:
    """One shape, and what was measured of it; shares are of the base."""

    shrink: Shrink
    parameters: float
    latency: float | None
    """None where the budget is of parameters."""
    divergence: float
    """KL(base ‖ candidate), nats a token."""

    def __str__(self) -> str:
        width = "" if self.shrink.feed_forward is None else f", feed_forward {self.shrink.feed_forward:g}"
        timed = "" if self.latency is None else f", {self.latency:.0%} of the latency"
        return (
            f"layers {self.shrink.layers}{width}: {self.parameters:.0%} of the parameters{timed},"
            f" {self.divergence:.3f} nats from its base"
        )


def candidates(
    wish: Shrink,
    model: Any,
    sample: Sequence[Sequence[int]],
    timed: Callable[[Any, Sequence[int]], float] | None = None,
) -> list[Candidate]:
    """What fits ``wish``, a budget, nearest to its base first. ``timed`` is `latency`. Raises `InvalidRecipe`."""
    key, share = ("latency", wish.latency) if wish.latency is not None else ("parameters", wish.parameters)
    assert share is not None, "asked for a budget only"
    clock, prompt = timed or latency, max(sample, key=len, default=())
    importance = importance_of(model, sample)  # of the whole: the same for each of its cuts
    whole = sum(p.numel() for p in model.parameters())

    def made(shrink: Shrink) -> Any:
        return cut(model, choose(shrink, model, sample, importance))

    def spent_by(shrink: Shrink) -> float:
        if key == "parameters":
            return float(_parameters(model, shrink) / whole)
        return clock(made(shrink), prompt) / clock(model, prompt)  # one after the other: a slow minute hits both

    found: list[Candidate] = []
    smallest = 1.0
    for width in WIDTHS:
        shapes = list(_depths(model.config.num_hidden_layers, width))
        spent: dict[int, float] = {}
        low, high = 0, len(shapes)  # fewer layers take less, so the deepest that fits is found by halving
        while low < high:
            middle = (low + high) // 2
            spent[middle] = spent_by(shapes[middle])
            low, high = (low, middle) if spent[middle] <= share else (middle + 1, high)
        smallest = min([smallest, *spent.values()])
        if low < len(shapes):
            shrink, took = shapes[low], spent[low] if key == "latency" else None
            divergence = _divergence(model, made(shrink), sample)
            found.append(Candidate(shrink, _parameters(model, shrink) / whole, took, divergence))
    if not found:
        raise InvalidRecipe(
            f"student.shrink.{key}", [f"found {share:g}; the smallest cut of this model has {smallest:.3g} of it"]
        )
    return sorted(found, key=lambda one: one.divergence)


def latency(model: Any, prompt: Sequence[int]) -> float:
    """Seconds to read ``prompt`` and say a few tokens: the best of three."""
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        with torch.inference_mode():
            # Of a prompt nobody asks for the logits of any but the last token.
            given = torch.tensor([list(prompt)], device=model.device)
            said = model(input_ids=given, use_cache=True, logits_to_keep=1)
            for _ in range(DECODED):
                token = said.logits[:, -1:].argmax(-1)
                said = model(input_ids=token, past_key_values=said.past_key_values, use_cache=True)
            token.tolist()  # a card is waited for
        best = min(best, time.perf_counter() - began)
    return best


def _depths(depth: int, width: float | None) -> Iterator[Shrink]:
    """From the deepest down."""
    for layers in range(depth - (width is None), 0, -1):
        yield Shrink(layers=layers, choose="importance", feed_forward=width)


def _parameters(model: Any, shrink: Shrink) -> float:
    """The weights of a cut, by what a layer and its feed-forward have now."""
    depth, width = model.config.num_hidden_layers, model.config.intermediate_size
    layer = sum(p.numel() for p in model.get_decoder().layers.parameters()) / depth
    feed_forward = sum(p.numel() for block in model.get_decoder().layers for p in block.mlp.parameters()) / depth
    dropped = feed_forward * (1.0 - (neurons_kept(shrink, model.config) or width) / width)
    assert isinstance(shrink.layers, int), "a budget's candidates have a depth"
    return float(sum(p.numel() for p in model.parameters()) - depth * layer + shrink.layers * (layer - dropped))


def _divergence(base: Any, student: Any, sample: Sequence[Sequence[int]]) -> float:
    total, tokens = 0.0, 0
    with torch.inference_mode():
        for ids in sample:
            given = torch.tensor([list(ids)], device=base.device)
            teacher_TV, student_TV = (one(input_ids=given).logits[0].log_softmax(-1) for one in (base, student))
            total += float(kl_div(student_TV, teacher_TV, reduction="sum", log_target=True))
            tokens += len(ids)
    return total / tokens
