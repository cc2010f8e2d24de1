"""One batch on several processes: each takes its share, and their gradients are added up.

A gradient is a sum over the response tokens of the whole batch, divided by their number, wherever they are computed:
so shares may be of any size, and the sum of what the processes found is the gradient of one that did all of it. (An
average of the processes' means, as DistributedDataParallel takes it, is not, where their token counts differ.)
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch.nn import Parameter

from limbeck.training.step import Losses

__all__ = ["add_up", "share_of"]


def share_of(batch: list[int], rank: int, processes: int) -> list[int]:
    """The examples of ``batch`` that process ``rank`` computes."""
    return batch[rank::processes]


def add_up(parameters: Iterable[Parameter], losses: Losses) -> Losses:
    """Give every process the whole gradient, in place, and the losses of the whole batch."""
    for parameter in parameters:
        if parameter.requires_grad:
            if parameter.grad is None:  # a process whose share was empty
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
    sums = torch.tensor([losses.objective, losses.cross_entropy, losses.tokens, losses.computed], dtype=torch.float64)
    dist.all_reduce(sums)
    objective, likelihood, tokens, computed = sums.tolist()
    return Losses(objective, likelihood, int(tokens), int(computed))
