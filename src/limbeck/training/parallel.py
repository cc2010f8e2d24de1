"""One batch on several replicas of a model: each computes a share on threads of its own, and their gradients are added.

Threads that share every matrix product wait for each other at each of them, and where another process takes a core for
a moment, all wait. Replicas wait for each other once a batch. They share the weights; what each has of its own is a
gradient.

A gradient is a sum over the response tokens of the whole batch, divided by their number, wherever they are computed: so
shares may be of any size, and the sum of what the replicas found is the gradient of one that did all of it. (An average
of their means, as DistributedDataParallel takes it, is not, where their token counts differ.) Shares, and the order of
the sum, follow from the batch and the number of replicas: a run is repeated to the bit.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from limbeck.models.packing import Tokens, tokens_computed
from limbeck.recipe import Objective
from limbeck.training.alignment import Aligned
from limbeck.training.examples import TrainingExample
from limbeck.training.head import clear
from limbeck.training.on_policy import Score
from limbeck.training.step import Losses, accumulate

__all__ = ["MOST", "Replicas", "shares_of"]

MOST = 4
"""Replicas where nothing is said: each has a gradient of its own to be held and added."""
WORTH = 1.1
"""The most that a batch's tokens may grow by being shared out: a prefix that all have in common is computed by each."""


def shares_of(sequences: Sequence[Tokens], count: int) -> list[list[int]]:
    """Which of a batch's sequences each of ``count`` replicas computes: about as many tokens as the others."""
    by_length = sorted(range(len(sequences)), key=lambda at: -len(sequences[at].ids))
    return [by_length[at::count] for at in range(count)]


class Replicas:
    """A model, with what aligns it, and its replicas."""

    def __init__(self, model: Any, aligned: Aligned | None, count: int, threads: int) -> None:
        """``threads``: of all together."""
        drops = any("dropout" in name and value for name, value in model.config.to_dict().items())
        self._threads = threads
        self._all = [(model, aligned)]  # what drops out is drawn from one generator, in one order
        self._all += [_replica(model, aligned) for _ in range(1, 1 if drops else count)]
        self._lanes = ThreadPoolExecutor(len(self._all), thread_name_prefix="replica")

    def accumulate(
        self,
        examples: Sequence[TrainingExample],
        objective: Objective,
        pack_tokens: int,
        backward: bool = True,
        score: Score | None = None,
    ) -> Losses:
        """What `step.accumulate` gives, the gradient in the model's own parameters.

        A batch that is scored by a teacher meanwhile, or that would grow by more than `WORTH`, is not shared out.
        Without ``backward`` hidden states are not compared.
        """
        model, aligned = self._all[0]
        alone = len(self._all) == 1 or score is not None
        dealt = [] if alone else shares_of([example.tokens for example in examples], len(self._all))
        shares = [[examples[at] for at in share] for share in dealt]
        if alone or not _worth(examples, shares):
            own = aligned if backward else None
            return accumulate(model, examples, objective, pack_tokens, backward, score=score, aligned=own)
        tokens = sum(len(example.tokens.response) for example in examples)

        def compute(at: int) -> Losses:
            torch.set_num_threads(max(1, self._threads // len(self._all)))
            one, own = self._all[at]
            one.train(model.training)
            return accumulate(
                one, shares[at], objective, pack_tokens, backward, of_tokens=tokens, aligned=own if backward else None
            )

        try:
            found = [lane.result() for lane in [self._lanes.submit(compute, at) for at in range(len(self._all))]]
        finally:
            torch.set_num_threads(self._threads)
        if backward:
            self._add_up()
        return Losses(*(sum(getattr(one, name) for one in found) for name in Losses.__slots__))

    def _add_up(self) -> None:
        """Give the model the whole gradient."""
        first, *others = [_parameters(*pair) for pair in self._all]
        for other in others:
            for whole, share in zip(first, other, strict=True):
                if share.grad is None:
                    continue
                if whole.grad is None:
                    whole.grad, share.grad = share.grad, None
                else:
                    whole.grad.add_(share.grad)
            clear(other)


def _replica(model: Any, aligned: Aligned | None) -> tuple[Any, Aligned | None]:
    """Modules of their own around the same weights."""
    weights = _parameters(model, aligned)
    shared = {id(p): torch.nn.Parameter(p.data, requires_grad=p.requires_grad) for p in weights}
    return copy.deepcopy((model, aligned), shared)


def _parameters(model: Any, aligned: Aligned | None) -> list[torch.nn.Parameter]:
    return [*model.parameters(), *(() if aligned is None else aligned.parameters())]


def _worth(examples: Sequence[TrainingExample], shares: Sequence[Sequence[TrainingExample]]) -> bool:
    apart, together = (
        sum(tokens_computed([example.tokens for example in some]) for some in parts) for parts in (shares, [examples])
    )
    return apart <= WORTH * together
