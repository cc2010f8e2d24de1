"""What a job took, beside what was foreseen: `2-synthesis/cost.json`, and a line in the report.

    {"estimate": {…}, "actual": {"answers", "prompt_tokens", "response_tokens", "usd"},
     "spent": {"requests", "at_worst", "tokens", "usd"}, "sentence"}

``actual`` counts the answers that are learned from, whoever paid for them and when; ``spent`` is what this job's
requests over the network took, whoever was asked, those that failed included, as its journal has them, ``at_worst`` of
them at the most they can have taken, since the service did not tell. What is not known is null. The sentence
sets all that was spent beside all that was foreseen of those who are asked over the network; where nobody was, the
answers beside what was foreseen of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from limbeck.recipe import Budget, Prices
from limbeck.records import AnsweredExample
from limbeck.teachers.budget import Purse, Spent
from limbeck.teachers.estimate import Estimate, Range, money, span

__all__ = ["Reckoning"]


@dataclass(frozen=True)
class Reckoning:
    """Estimate and outcome."""

    estimate: Estimate
    answers: int
    prompt_tokens: int | None
    response_tokens: int | None
    usd: float | None
    requests: int
    """Over the network; 0 where nobody was asked so."""
    at_worst: int
    """How many of these count at the most they can have taken."""
    spent: Spent

    @classmethod
    def of(cls, answered: Sequence[AnsweredExample], estimate: Estimate, prices: Prices | None, job: Path) -> Reckoning:
        """The reckoning of what was ``answered`` and of what stands in the journal of a job's folder.

        A label that nobody was asked about has no tokens and costs nothing.
        """
        given = [one for one in answered if one.answer.response_tokens or one.origin != "given"]
        prompt: int | None = sum(one.tokens[0] for one in given)
        response: int | None = sum(one.tokens[1] for one in given)
        if not all(one.answer.prompt_tokens and one.answer.is_counted for one in given):
            prompt = response = None
        usd = None if prices is None or prompt is None or response is None else prices.cost(prompt, response)
        purse = Purse(Budget(), None, job)
        return cls(estimate, len(given), prompt, response, usd, purse.requests, purse.at_worst, purse.spent)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        actual = {key: getattr(self, key) for key in ("answers", "prompt_tokens", "response_tokens", "usd")}
        spent = {"requests": self.requests, "at_worst": self.at_worst, **asdict(self.spent)} if self.requests else None
        return {"estimate": self.estimate.to_json(), "actual": actual, "spent": spent, "sentence": str(self)}

    def __str__(self) -> str:
        return self._over_the_network if self.requests else self._of_the_answers

    @property
    def _over_the_network(self) -> str:
        questions, tokens, usd = self.estimate.over_the_network
        most = f" at most ({self.at_worst:,} did not tell, and count at their worst)" if self.at_worst else ""
        told = (
            f"the job's {self.requests:,} requests took {self.spent.tokens:,} tokens{most}; foreseen, with the"
            f" examination, were {span(questions.low, questions.high)} and {tokens.low:,.0f} to {tokens.high:,.0f}"
        )
        return told + (_money(self.spent.usd, usd) if usd else "")

    @property
    def _of_the_answers(self) -> str:
        own = [part for part in self.estimate.parts if part.kind in ("answers", "labels")]
        tokens = sum((part.prompt_tokens + part.response_tokens for part in own), Range())
        known = [part.usd for part in own if part.usd is not None]
        took = "tokens that the service did not tell"
        if self.prompt_tokens is not None:
            took = f"{self.prompt_tokens:,} tokens of prompts and {self.response_tokens:,} of answers"
        told = (
            f"the teacher's {self.answers:,} answers took {took};"
            f" foreseen for them were {tokens.low:,.0f} to {tokens.high:,.0f}"
        )
        return told + (_money(self.usd, sum(known, Range())) if self.usd is not None and known else "")


def _money(usd: float, foreseen: Range) -> str:
    return f"; {money(usd)} USD of {money(foreseen.low)} to {money(foreseen.high)}"
