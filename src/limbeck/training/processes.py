"""Processes that train one model together, on one machine or on several.

All run the same loop with the same examples, order and numbers. Of each batch each computes a share (`parallel`), and
what they found is added up: so all hold the same weights after each step, to the bit. Where one cannot hold the model
with its gradients and moments, each holds a part of every layer (`shard`): fully sharded data parallelism (ZeRO's
third stage, arXiv:1910.02054; FSDP, arXiv:2304.11277), by torch's `fully_shard`. A layer is put together when it is
computed and parted again after. Embeddings, head and the last norm stay whole.

They find each other by what torch's launcher sets: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. The
first has the job: it writes all files, and says to the others what they need to know.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import DTensor

from limbeck.errors import InvalidInput, Stopped
from limbeck.progress import StopSignal

__all__ = ["ALONE", "Processes", "by_kind", "clip", "gone", "joined", "like", "local", "parted", "whole"]

Given = TypeVar("Given")

PAUSE = 0.2
"""Seconds after which one that waits to be told something looks again."""
MEETING = timedelta(minutes=2)
"""How long one waits for the others to be there; a launcher starts them together."""
PATIENCE = timedelta(seconds=10)
"""How long the first waits at its end for the others to hear of it."""


class Processes:
    """Those that train together, as one of them sees it. By itself it sends nothing."""

    def __init__(self, rank: int = 0, size: int = 1, words: Store | None = None, here: int = 1) -> None:
        """``words``: where the first says something to the others. ``here``: how many are on this machine."""
        self.rank, self.size, self.here = rank, size, here
        self._words = words
        self._said = 0

    @property
    def first(self) -> bool:
        """Whether this one has the job."""
        return self.rank == 0

    def any(self, *wishes: bool) -> list[bool]:
        """Of each wish, whether any of the processes has it."""
        return [bool(one) for one in self._reduced([float(one) for one in wishes], dist.ReduceOp.MAX)]

    def least(self, number: int) -> int:
        """The least of the processes' numbers."""
        return int(self._reduced([float(number)], dist.ReduceOp.MIN)[0])

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """The sum of the processes' numbers, place by place, in float64."""
        return self._reduced(numbers, dist.ReduceOp.SUM)

    def add_up(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give each the sum of what the processes found as the gradient of the ``parameters`` that all hold whole.

        Those of parted layers were added up when the backward pass left their layer.
        """
        if self.size == 1:
            return
        for parameter in parameters:
            if not parameter.requires_grad or isinstance(parameter, DTensor):
                continue
            if parameter.grad is None:  # this one had nothing to do
                parameter.grad = torch.zeros_like(parameter)
            elif parameter.grad.is_sparse:  # rows of tokens alone: it only kept pace, and its head found nothing
                parameter.grad = parameter.grad.to_dense()
            _together(dist.all_reduce, parameter.grad)

    def shard(self, model: Any) -> None:
        """Leave each process a part of every layer of ``model``, which computes from now on only with all of them."""
        mesh = _together(init_device_mesh, "cpu", (self.size,))
        for layer in model.get_decoder().layers:
            fully_shard(layer, mesh=mesh, reshard_after_forward=True)
            # Each has its part of a mean already: sums, not means of what the processes found.
            layer.set_gradient_divide_factor(1.0)
            layer.set_force_sum_reduction_for_comms(True)

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            _together(dist.barrier)

    def say(self, text: str) -> None:
        """Tell the others; they `hear` all that is said, in its order."""
        if self._words is not None:
            self._words.set(f"said-{self._said}", text)
            self._said += 1

    def part(self, text: str) -> None:
        """Tell the others the last thing, and stay until they have heard it: what is said may lie in this process."""
        with suppress(RuntimeError, dist.DistError):  # one that has died hears nothing
            self.say(text)
            if self._words is not None:
                self._words.wait([f"heard-{rank}" for rank in range(1, self.size)], PATIENCE)

    def heard(self) -> None:
        """Tell the first that its last word has come."""
        if self._words is not None:
            self._words.set(f"heard-{self.rank}", "")

    def hear(self, stop: StopSignal) -> str:
        """What the first says next. Raises `Stopped` when ``stop`` is set, or when the first is gone."""
        assert self._words is not None, "one alone has nobody to hear"
        name = f"said-{self._said}"
        while not _together(self._words.check, [name]):
            stop.check()
            time.sleep(PAUSE)
        self._said += 1
        return str(self._words.get(name).decode())

    def _reduced(self, numbers: Sequence[float], how: Any) -> list[float]:
        if self.size == 1:
            return list(numbers)
        together = torch.tensor(numbers, dtype=torch.float64)
        _together(dist.all_reduce, together, how)
        return [float(one) for one in together]


ALONE = Processes()


@contextmanager
def joined() -> Iterator[Processes]:
    """The processes that a launcher started with this one; `ALONE` where none did."""
    told = os.environ.get("WORLD_SIZE") or "1"
    if told == "1":
        yield ALONE
        return
    try:
        if not 0 <= int(os.environ.get("RANK") or 0) < int(told):
            raise ValueError(f"RANK is {os.environ['RANK']}")
        words, rank, size = next(rendezvous("env://", timeout=MEETING))
    except (ValueError, RuntimeError) as error:
        raise InvalidInput(
            f"WORLD_SIZE is {told}, and the other processes are not found ({_brief(error)}); expected a launcher, for"
            " example: torchrun --nproc-per-node 2 -m limbeck …"
        ) from None
    _together(lambda: dist.init_process_group("gloo", store=words, rank=rank, world_size=size))
    try:
        here = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
        yield Processes(rank, size, PrefixStore("limbeck", words), here)
    finally:
        dist.destroy_process_group()


def parted(model: Any) -> bool:
    """Whether the layers of ``model`` are parted."""
    return any(isinstance(module, FSDPModule) for module in model.modules())


def local(tensor: Tensor) -> Tensor:
    """What of ``tensor`` is in this process, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """``value``, what of a tensor is in this process, as a part of one that is parted as ``parameter`` is.

    A number, as an optimizer counts its steps in, is everywhere the same.
    """
    if not isinstance(parameter, DTensor) or value.ndim == 0:
        return value
    return DTensor.from_local(
        value, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
    )


def whole(tensor: Tensor) -> Tensor:
    """All of ``tensor``; each process has to ask."""
    return _together(tensor.full_tensor) if isinstance(tensor, DTensor) else tensor


def by_kind(parameters: Sequence[torch.nn.Parameter]) -> list[list[torch.nn.Parameter]]:
    """``parameters`` that are whole, and those that are parted: torch's joint operations take no mixture of them."""
    kinds = [[one for one in parameters if isinstance(one, DTensor) is is_part] for is_part in (False, True)]
    return [kind for kind in kinds if kind]


def clip(parameters: Sequence[torch.nn.Parameter], most: float) -> float:
    """Scale the gradients so that the norm of all together is at most ``most``; gives what it was."""
    learning = [one for one in parameters if one.grad is not None]
    kinds = by_kind(learning)
    norms = [whole(torch.nn.utils.get_total_norm([one.grad for one in kind if one.grad is not None])) for kind in kinds]
    norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    for kind in kinds:
        torch.nn.utils.clip_grads_with_norm_(kind, most, norm)
    return float(norm)


def gone(error: Exception) -> Stopped:
    """What it means for the user that another process cannot be reached."""
    return Stopped(f"another of the processes that train together has ended, or cannot be reached ({_brief(error)})")


def _together(function: Callable[..., Given], *arguments: Any) -> Given:
    try:
        return function(*arguments)
    except (RuntimeError, dist.DistError) as error:
        raise gone(error) from None


def _brief(error: Exception) -> str:
    """Its first sentence, without the place in somebody's source that gloo puts before it."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return re.sub(r"^\[\S*\] ", "", text).partition(". ")[0]
