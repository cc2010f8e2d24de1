"""What the teacher's answers took, beside what was estimated: `2-synthesis/cost.json`, and a line in the report.

    {"estimate": {…}, "actual": {"answers", "prompt_tokens", "response_tokens", "usd"}, "spent": {…}, "sentence"}

``actual`` counts the answers that are learned from, whoever paid for them and when; ``spent`` is what this job's
requests took, those that failed and the examination included, as its journal has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from limbeck.recipe import Prices
from limbeck.records import Answer
from limbeck.teachers.budget import Purse
from limbeck.teachers.estimate import Estimate

__all__ = ["Reckoning"]


@dataclass(frozen=True)
class Reckoning:
    """Estimate and outcome."""

    estimate: Estimate
    answers: int
    prompt_tokens: int
    response_tokens: int
    usd: float | None

    @classmethod
    def of(cls, answers: Sequence[Answer], estimate: Estimate, prices: Prices | None) -> Reckoning:
        """The reckoning of ``answers``. A label that nobody was asked about has no tokens and costs nothing."""
        given = [answer for answer in answers if answer.response_tokens]
        prompt, response = (
            sum(answer.prompt_tokens for answer in given),
            sum(answer.response_tokens for answer in given),
        )
        return cls(estimate, len(given), prompt, response, prices.cost(prompt, response) if prices else None)

    def to_json(self, purse: Purse | None) -> dict[str, Any]:
        """All of it as plain JSON values."""
        actual = {key: value for key, value in asdict(self).items() if key != "estimate"}
        spent = None if purse is None else {"requests": purse.requests, **asdict(purse.spent)}
        return {"estimate": self.estimate.to_json(), "actual": actual, "spent": spent, "sentence": str(self)}

    def __str__(self) -> str:
        low, high = self.estimate.response_tokens.low, self.estimate.response_tokens.high
        told = (
            f"the teacher's {self.answers:,} answers took {self.prompt_tokens:,} tokens of prompts and"
            f" {self.response_tokens:,} of answers; estimated, with the examination, were"
            f" {self.estimate.prompt_tokens:,} and {low:,.0f} to {high:,.0f}"
        )
        if self.usd is None or self.estimate.usd is None:
            return told
        return f"{told}; {self.usd:.4g} USD of {self.estimate.usd.low:.4g} to {self.estimate.usd.high:.4g}"
