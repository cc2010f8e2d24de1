"""Hidden states aligned: the student's, at chosen layers, are drawn to what the teacher's were at layers of its own.

Legend: L pairs of layers, R response positions, D hidden width (of the teacher where it matters).

FitNets (arXiv:1412.6550) for the learned projection where the widths differ, DistilBERT (arXiv:1910.01108) for the
cosine. A layer is named by how many have been passed; the last one's state is taken after the model's last norm, as its
head reads it.

The teacher reads the answers once, before the first step, and what it held at them lies in a file of the run, which is
removed at its end: 4 bytes a number, 2.3 KB a token and pair for a width of 576.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import InvalidInput, Stopped
from limbeck.models.packing import Tokens, pack, packs_of, response_states
from limbeck.progress import Progress, StopSignal
from limbeck.recipe import Hidden
from limbeck.training.examples import TrainingExample
from limbeck.training.objectives import hidden_distance

__all__ = ["STATES", "Aligned", "Alignment", "layers_paired"]

STATES = "states.npy"
"""What the teacher held, in the run's folder; removed when the run has ended."""


def layers_paired(plan: Hidden, student: Any, teacher: Any) -> dict[int, int]:
    """Which of the teacher's layers each of the student's is drawn to; by default the last to the last.

    ``student`` and ``teacher`` are the models' configurations. Raises `InvalidInput` for layers they do not have.
    """
    depths = (student.num_hidden_layers, teacher.num_hidden_layers)
    if plan.layers is None:
        return {depths[0]: depths[1]}
    for pair in plan.layers.items():
        for who, layer, depth in zip(("student", "teacher"), pair, depths, strict=True):
            if not 1 <= layer <= depth:
                raise InvalidInput(
                    f"training.objective.hidden.layers: {layer}; the {who} has {depth} layers; expected 1 to {depth}"
                )
    return dict(sorted(plan.layers.items()))


class Aligned(torch.nn.Module):
    """The distance of the student's states from the teacher's, with projections that learn beside the student."""

    def __init__(self, plan: Hidden, student: Any, teacher: Any, seed: int = 0) -> None:
        super().__init__()
        self.plan = plan
        self.pairs = layers_paired(plan, student, teacher)
        own, wanted = student.hidden_size, teacher.hidden_size
        self.projections = torch.nn.ParameterList()
        if own != wanted:
            dice = torch.Generator().manual_seed(seed)
            self.projections.extend(torch.randn(wanted, own, generator=dice) / own**0.5 for _ in self.pairs)

    @property
    def layers(self) -> tuple[int, ...]:
        """The student's."""
        return tuple(self.pairs)

    def forward(self, student_LRD: Sequence[Tensor], teacher_LRD: Sequence[Tensor]) -> Tensor:
        """The weighted distance, (R,), the mean over the pairs."""
        projected_LRD = (
            [x_RD @ matrix.T for x_RD, matrix in zip(student_LRD, self.projections, strict=True)]
            if len(self.projections)
            else student_LRD
        )
        distances = [
            hidden_distance(own_RD, wanted_RD.to(own_RD.dtype), self.plan.measure)
            for own_RD, wanted_RD in zip(projected_LRD, teacher_LRD, strict=True)
        ]
        return self.plan.weight * torch.stack(distances).mean(0)


@dataclass(frozen=True)
class Alignment:
    """What a run needs to align a student with its teacher."""

    plan: Hidden
    teacher: Any
    """The model."""
    read_as: Sequence[Tokens]
    """Each training example as the teacher reads it: the same response, after its own prompt."""
    seed: int = 0

    def head(self, student: Any) -> Aligned:
        """The distance for ``student``, a model. Raises `InvalidInput`, see `layers_paired`."""
        return Aligned(self.plan, student.config, self.teacher.config, self.seed).to(student.device)

    def read(
        self,
        examples: Sequence[TrainingExample],
        layers: Sequence[int],
        pack_tokens: int,
        folder: Path,
        progress: Progress,
        stop: StopSignal,
    ) -> list[TrainingExample]:
        """The examples with the teacher's states at ``layers``, which lie in a file in ``folder``.

        Raises `OSError` where the disk has no room for them.
        """
        ends = np.cumsum([0, *(len(tokens.response) for tokens in self.read_as)])
        shape = (int(ends[-1]), len(layers), self.teacher.config.hidden_size)
        states_RLD = _mapped(folder / STATES, shape)
        with progress.task("the teacher's states", len(self.read_as), "answers") as task:
            for chosen in packs_of(self.read_as, pack_tokens):
                if stop.is_set():
                    raise Stopped("stopped while the teacher read; it will read again")
                packed = pack([self.read_as[i] for i in chosen]).on(self.teacher.device)
                with torch.no_grad():
                    *found, _ = response_states(self.teacher, packed, layers)
                found_RLD, at = torch.stack(found, dim=1).cpu().numpy(), 0
                for i in chosen:
                    count = ends[i + 1] - ends[i]
                    states_RLD[ends[i] : ends[i + 1]] = found_RLD[at : at + count]
                    at += count
                    task.advance()
        return [replace(one, states_RLD=states_RLD[ends[i] : ends[i + 1]]) for i, one in enumerate(examples)]


def _mapped(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A new file of fp32 of ``shape``, mapped. It has its place on the disk before anything is written through the map,
    where a full disk would end the process without a word."""
    made = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from None
    return made
