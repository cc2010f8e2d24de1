"""How the student learns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from limbeck.recipe.objective import Objective
from limbeck.recipe.section import Section, Seed, Share

__all__ = ["Training"]


class Training(Section):
    """How the student learns."""

    objective: Objective | None = None
    """By default forward_kl in a distillation and cross_entropy in fine-tuning; `auto` is the strongest that the two
    models and the answers bear."""
    answers: Literal["all", "last"] = "all"
    """Which answers of a conversation are learned."""
    copies: Literal["folded", "learned"] = "folded"
    """Whether rows that are the same are learned once an epoch, or as often as they were given."""
    epochs: Annotated[int, Field(ge=1, le=1000)] = 3
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 3e-4
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the rate falls after the warm-up."""
    warmup: Share = 0.1
    """Share of the steps over which the rate rises."""
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """The steps themselves; wins over `warmup`."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Examples an optimizer step."""
    pack_tokens: Annotated[int, Field(ge=16)] = 2048
    """The most tokens computed at once; a step's examples go in as many packs as they need."""
    replicas: Annotated[int, Field(ge=1)] | None = None
    """Copies of the model that share its weights and compute a share of each batch beside each other; by default one a
    thread, at most 4, and no more than fit into the memory."""
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    """In which numbers the layers' products are computed; `auto`: bf16 where the processor has instructions for it."""
    shard: bool = False
    """Where several processes train together: leave each a part of every layer's weights, gradients and moments, for a
    model that one of them cannot hold (FSDP)."""
    freeze_embeddings: bool = True
    """Leave the token embeddings, and a head tied to them, as they are: a small set of prompts holds few of the
    vocabulary's words, and moving those alone loses what they have in common with the rest."""
    freeze_layers: Annotated[int, Field(ge=0)] = 0
    """Leave so many of the first layers as they are. The backward pass ends above them, which saves two thirds of what
    each of them costs; a student cut from its teacher has them from the teacher already."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    max_gradient_norm: Annotated[float, Field(gt=0.0)] = 1.0
    seed: Seed = 0
    validate_every: Annotated[int, Field(ge=1)] | None = None
    """Steps after which the validation loss is measured, and at the last; by default at the end of each epoch."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """End the training after so many validations without a lower loss."""
    keep: Literal["last", "best"] = "last"
    """Which weights: those of the last step, or those with the lowest validation loss."""
    checkpoint_seconds: Annotated[float, Field(gt=0.0)] = 120.0
    """A checkpoint is written when this long has passed since the last."""
