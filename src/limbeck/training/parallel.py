"""One batch on several replicas of a model: each computes a share on threads of its own, and their gradients are added.

Threads that share every matrix product wait for each other at each of them, and where another process takes a core for
a moment, all wait. Replicas wait for each other once a batch. They share the weights; what each has of its own is a
gradient.

A gradient is a sum over the response tokens of the whole batch, divided by their number, wherever they are computed: so
shares may be of any size, and the sum of what the replicas found is the gradient of one that did all of it. (An average
of their means, as DistributedDataParallel takes it, is not, where their token counts differ.) Shares, and the order of
the sum, follow from the batch and the number of replicas: a run is repeated to the bit.

Several processes (`processes`) share a batch in the same way: all their replicas are dealt to, and each process
computes what fell to its own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from limbeck.models.packing import Tokens, pack, packs_of, response_hidden, tokens_computed
from limbeck.recipe import Objective
from limbeck.training.alignment import Aligned
from limbeck.training.examples import TrainingExample
from limbeck.training.head import Notes, add, clear, noting
from limbeck.training.on_policy import Score
from limbeck.training.precision import rounding
from limbeck.training.processes import ALONE, Processes, gone, parted
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

    def __init__(
        self,
        model: Any,
        aligned: Aligned | None,
        count: int,
        threads: int,
        processes: Processes = ALONE,
        bf16: bool = False,
    ) -> None:
        """``threads``: of all in this process together. Each of ``processes`` has as many replicas.

        ``bf16``: see `precision`.
        """
        drops = any(isinstance(one, torch.nn.Dropout) and one.p > 0 for one in model.modules())
        self._threads, self._processes, self._bf16 = threads, processes, bf16
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

        A batch that is scored by a teacher meanwhile, or that would grow by more than `WORTH`, is not shared out in one
        process. Without ``backward`` hidden states are not compared, and nothing is rounded to bf16.
        """
        bf16 = self._bf16 and backward
        (model, aligned), here, size = self._all[0], len(self._all), self._processes.size
        alone = here * size == 1 or score is not None
        dealt = [] if alone else shares_of([example.tokens for example in examples], here * size)
        shares = [[examples[at] for at in share] for share in dealt]
        if alone or (size == 1 and not _worth(examples, shares)):
            own = aligned if backward else None
            return accumulate(model, examples, objective, pack_tokens, backward, score=score, aligned=own, bf16=bf16)
        tokens = sum(len(example.tokens.response) for example in examples)
        ours = shares[self._processes.rank * here :][:here]

        def compute(at: int) -> tuple[Losses, Notes]:
            torch.set_num_threads(max(1, self._threads // here))
            one, own = self._all[at]
            one.train(model.training)
            aligned = own if backward else None
            with noting(one) as notes:
                losses = accumulate(
                    one,
                    ours[at],
                    objective,
                    pack_tokens,
                    backward,
                    of_tokens=tokens,
                    aligned=aligned,
                    bf16=bf16,
                )
            return losses, notes

        try:
            results = [lane.result() for lane in [self._lanes.submit(compute, at) for at in range(here)]]
            if size > 1 and parted(model):
                self._keep_pace(examples, shares, pack_tokens, backward)
        except RuntimeError as error:  # a parted layer's own transfers
            raise gone(error) if "gloo" in str(error) else error from None
        finally:
            torch.set_num_threads(self._threads)
        found, noted = zip(*results, strict=True)
        if backward:
            self._add_up(noted)
            self._processes.add_up(_parameters(model, aligned))
        sums = self._processes.sums([sum(getattr(one, name) for one in found) for name in Losses.__slots__])
        return Losses(sums[0], sums[1], int(sums[2]), int(sums[3]))

    def _keep_pace(
        self,
        examples: Sequence[TrainingExample],
        shares: Sequence[Sequence[TrainingExample]],
        pack_tokens: int,
        backward: bool,
    ) -> None:
        """Pass through parted layers as often as whoever has the most packs: it needs this process's parts of them."""
        model = self._all[0][0]
        packs = [len(packs_of([example.tokens for example in share], pack_tokens)) for share in shares]
        for _ in range(max(packs) - packs[self._processes.rank]):
            with torch.set_grad_enabled(backward), rounding(model.device, self._bf16 and backward):
                hidden_RD = response_hidden(model, pack([examples[0].tokens]).on(model.device))
                if backward:
                    hidden_RD.backward(torch.zeros_like(hidden_RD))  # type: ignore[no-untyped-call]

    def _add_up(self, noted: Sequence[Notes]) -> None:
        """Give the model the whole gradient."""
        taken = [one for notes in noted for one in notes.taken]
        if taken:
            gradient_RV, hidden_RD = (torch.cat(some) for some in zip(*taken, strict=True))
            add(self._all[0][0].get_output_embeddings().weight, gradient_RV, hidden_RD)
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
