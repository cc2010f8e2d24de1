"""Who learns: what it starts from, how it is cut, and whether an adapter learns in its place."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from limbeck.recipe.section import Section

__all__ = ["Adapter", "Shrink", "Student"]


class Shrink(Section):
    """How a student is cut from a larger model."""

    layers: Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """How many layers to keep, or which."""
    choose: Literal["even", "importance"] = "even"
    """Which layers, where their number is given: evenly spread with the first and last among them, or those that change
    most of what passes through them, measured on a sample of the prompts."""
    feed_forward: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Share of each layer's feed-forward neurons to keep: the most active ones on the sample."""
    heads: Annotated[int, Field(ge=1)] | None = None
    """Attention heads to keep in each layer, in the groups that share keys and values."""
    vocabulary: Annotated[int, Field(ge=256)] | None = None
    """Tokens to keep: those of the rows and their answers, and the commonest up to this number."""
    parameters: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """A budget instead: the most weights, as a share of the larger model's; what is cut for it is chosen."""
    latency: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """A budget instead: the longest time an answer may take, as a share of the larger model's, measured here."""

    @model_validator(mode="after")
    def _whole(self) -> Shrink:
        named = ("layers", "feed_forward", "heads", "vocabulary")
        shapes = [name for name in named if getattr(self, name) is not None]
        budgets = [name for name in ("parameters", "latency") if getattr(self, name) is not None]
        if not shapes and not budgets:
            raise ValueError(
                "nothing is cut; expected layers, feed_forward, heads or vocabulary, for example {layers: 6}, or a"
                " budget, for example {parameters: 0.3}"
            )
        if len(budgets) > 1 or (budgets and (shapes or self.choose == "importance")):
            raise ValueError(f"{budgets[0]}: a budget chooses for itself; expected no other key beside it")
        if isinstance(self.layers, tuple) and (not self.layers or list(self.layers) != sorted(set(self.layers))):
            raise ValueError(f"layers: found {list(self.layers)}; expected different numbers from 0, in rising order")
        if budgets:
            return self
        if self.choose == "importance" and not isinstance(self.layers, int):
            raise ValueError("choose: importance would change nothing; expected layers: a number beside it")
        return self

    @property
    def measured(self) -> bool:
        """Whether importance decides what is kept."""
        return self.choose == "importance" or self.feed_forward is not None or self.heads is not None or self.budget

    @property
    def budget(self) -> bool:
        """Whether what is cut is still to be chosen."""
        return self.parameters is not None or self.latency is not None


class Adapter(Section):
    """Small matrices that learn beside frozen weights, in place of the weights themselves."""

    kind: Literal["lora", "dora", "qlora"] = "lora"
    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    alpha: Annotated[float, Field(gt=0.0)] = 32.0
    """What is learned is added alpha / rank times."""
    targets: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = "all-linear"
    """Which linear layers: all but the head, or those of these names (`[q_proj, v_proj]`)."""
    keep: bool = False
    """Write the adapter by itself too, beside the model it is merged into."""


class Student(Section):
    """Who learns."""

    model: Annotated[str, Field(min_length=1)] | None = None
    """What it starts from; in a distillation, the teacher when nothing is said."""
    shrink: Shrink | None = None
    adapter: Adapter | None = None
    """Without it all weights learn."""

    @model_validator(mode="after")
    def _whole(self) -> Student:
        if self.adapter is not None and self.adapter.keep and self.shrink is not None:
            raise ValueError(
                "adapter.keep: an adapter is for the model it was trained on, and the one that shrink cuts is kept"
                " nowhere else; drop one of the two"
            )
        return self
