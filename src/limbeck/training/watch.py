"""What is watched while a student learns: whether it still improves, and whether it is getting lost.

A `Watch` is a few numbers that go into every checkpoint, so a resumed run stops where an unbroken one would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from limbeck.errors import TrainingDiverged
from limbeck.training.step import Losses

__all__ = ["LOST_STEPS", "Watch"]

LOST_STEPS = 20
"""So many steps in a row worse than knowing nothing, and a run is not on its way to anywhere."""


@dataclass
class Watch:
    """What has been seen so far."""

    training_loss: float | None = None
    """Of the last step."""
    validation_loss: float | None = None
    """The last one."""
    best_loss: float | None = None
    best_step: int | None = None
    """How many steps were done when the validation loss was at its lowest."""
    unimproved: int = 0
    """Validations since then."""
    first: float | None = None
    """Cross-entropy of the first batch."""
    lost: int = 0
    """Steps in a row whose cross-entropy was above both the first's and a blind guess's."""

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Watch:
        """As a checkpoint has it."""
        return cls(**{name: state[name] for name in cls.__dataclass_fields__ if name in state})

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)

    def validated(self, losses: Losses, step: int) -> bool:
        """Take in the validation after ``step`` steps; gives whether it is the best so far."""
        self.validation_loss = losses.mean if math.isfinite(losses.mean) else None
        if self.validation_loss is None or (self.best_loss is not None and self.validation_loss >= self.best_loss):
            self.unimproved += 1
            return False
        self.best_loss, self.best_step, self.unimproved = self.validation_loss, step, 0
        return True

    def check(self, losses: Losses, norm: float, step: int, rate: float, vocabulary: int) -> None:
        """Raise `TrainingDiverged` where numbers are no longer finite, or a run has got lost.

        A model that has learned nothing at all gives each of ``vocabulary`` tokens the same likelihood: a
        cross-entropy of ln V. A student cut from a larger model may begin above that, but comes down; one that is
        above it and above where it began for `LOST_STEPS` steps was thrown out by its own steps.
        """
        way_out = f"Lower training.learning_rate (now {rate:g}) or lengthen training.warmup"
        if not (math.isfinite(losses.objective) and math.isfinite(norm)):
            raise TrainingDiverged(
                f"step {step}: loss {losses.mean:g}, gradient norm {norm:g}; expected finite numbers. {way_out}"
            )
        found, blind = losses.mean_cross_entropy, math.log(vocabulary)
        if self.first is None:
            self.first = found
        self.lost = self.lost + 1 if found > max(self.first, blind) else 0
        if self.lost >= LOST_STEPS:
            raise TrainingDiverged(
                f"step {step}: the answers' tokens cost {found:.3g} nats each, for {LOST_STEPS} steps more than at the"
                f" first step ({self.first:.3g}) and than a blind guess at {vocabulary} tokens would ({blind:.3g});"
                f" expected less. {way_out}; beside reverse_kl or jensen_shannon put forward_kl"
            )
