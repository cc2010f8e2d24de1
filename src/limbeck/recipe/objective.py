"""What is minimized."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from limbeck.recipe.curation import Inside, Weight
from limbeck.recipe.section import Section

__all__ = ["DIVERGENCES", "Hidden", "Objective", "OnPolicy"]


DIVERGENCES = ("forward_kl", "reverse_kl", "jensen_shannon", "skewed_forward_kl", "skewed_reverse_kl")
"""Objectives that compare the student's distribution with the teacher's, token by token."""


class OnPolicy(Section):
    """Batches that the student writes itself, scored by the teacher as they come."""

    share: Annotated[float, Field(gt=0.0, le=1.0)]
    """Of the optimizer steps."""
    temperature: Annotated[float, Field(gt=0.0, le=2.0)] = 1.0
    """At which the student answers."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    max_response_tokens: Annotated[int, Field(ge=1, le=8192)] | None = None
    """By default as in the synthesis."""


class Hidden(Section):
    """The student's hidden states drawn to the teacher's, at the positions from which the answer's tokens are told."""

    weight: Annotated[float, Field(gt=0.0)] = 1.0
    layers: dict[int, int] | None = None
    """The student's layers and those of the teacher they are drawn to, counted from 1; by default the last to the last.
    Where the widths differ, a projection is learned for each pair."""
    measure: Literal["cosine", "mse", "relative"] = "cosine"
    """1 - the cosine; the mean squared difference; or that of the sums over the teacher's squared norm."""


class Objective(Section):
    """What is minimized: a weighted sum. p is the teacher, q the student."""

    cross_entropy: Weight = 0.0
    """Weight of the negative log-likelihood of the answer's tokens."""
    forward_kl: Weight = 0.0
    """Weight of KL(p ‖ q), over the teacher's top-k and the tail, as all that follow."""
    reverse_kl: Weight = 0.0
    """Weight of KL(q ‖ p)."""
    jensen_shannon: Weight = 0.0
    """Weight of beta KL(p ‖ m) + (1 - beta) KL(q ‖ m), m = beta p + (1 - beta) q."""
    skewed_forward_kl: Weight = 0.0
    """Weight of KL(p ‖ skew p + (1 - skew) q)."""
    skewed_reverse_kl: Weight = 0.0
    """Weight of KL(q ‖ skew q + (1 - skew) p)."""
    universal: Weight = 0.0
    """Weight of the sum of |p sorted - q sorted|, which asks for likelihoods by rank: for models of other tokens."""
    temperature: Annotated[float, Field(gt=0.0, le=100.0)] = 1.0
    """Both distributions are softened by it, and the divergences are multiplied by its square, so that their gradients
    keep their size. The teacher's are captured at it: a tail at one temperature does not tell that at another."""
    beta: Inside = 0.5
    """Of jensen_shannon."""
    skew: Inside = 0.1
    """Of the skewed divergences."""
    hidden: Hidden | None = None
    """Hidden states aligned, beside what is weighted above."""
    on_policy: OnPolicy | None = None
    """A share of the steps on the student's own answers; those learn the divergences alone."""

    @property
    def weights(self) -> dict[str, float]:
        """The objectives that count, with their weights."""
        names = ("cross_entropy", *DIVERGENCES, "universal")
        return {name: getattr(self, name) for name in names if getattr(self, name)}

    @property
    def divergences(self) -> dict[str, float]:
        """Those among them that compare distributions token by token."""
        return {name: weight for name, weight in self.weights.items() if name in DIVERGENCES}

    @property
    def signalled(self) -> dict[str, float]:
        """Those among them that need the teacher's distributions."""
        return {name: weight for name, weight in self.weights.items() if name != "cross_entropy"}

    auto: bool = False
    """Written `objective: auto`."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, found: Any) -> Any:
        return {"auto": True} if found == "auto" else found

    @model_validator(mode="after")
    def _meant(self) -> Objective:
        if self.auto and (self.weights or self.on_policy is not None or self.hidden is not None):
            raise ValueError("auto: chooses for itself; expected no other key beside it")
        if self.auto:
            return self
        if not self.weights:
            raise ValueError("every weight is 0; expected at least one above 0, for example {forward_kl: 1}")
        skewed = self.skewed_forward_kl or self.skewed_reverse_kl
        for key, used, wanted in (
            ("temperature", bool(self.signalled), f"a weight of {', '.join(DIVERGENCES[:-1])} or {DIVERGENCES[-1]}"),
            ("beta", bool(self.jensen_shannon), "a weight of jensen_shannon"),
            ("skew", bool(skewed), "a weight of skewed_forward_kl or skewed_reverse_kl"),
        ):
            if not used and getattr(self, key) != Objective.model_fields[key].default:
                raise ValueError(f"{key}: {getattr(self, key):g} would change nothing; expected {wanted} beside it")
        if self.hidden is not None and self.hidden.layers == {}:
            raise ValueError("hidden.layers: empty; expected pairs such as {6: 30}, or no key for the last to the last")
        if self.on_policy is not None and not self.divergences:
            raise ValueError(
                "on_policy: a text of the student's own teaches it nothing but how the teacher would have gone on;"
                " expected a divergence beside it, for example {reverse_kl: 1}"
            )
        if self.on_policy is not None and self.on_policy.share == 1.0 and self.cross_entropy:
            raise ValueError(
                "cross_entropy: would change nothing, since every batch is the student's own; expected"
                " on_policy.share below 1"
            )
        return self
