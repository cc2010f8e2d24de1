"""What a job may use of a teacher that costs: nothing is sent that could go beyond it.

Before a request goes out, the most it can take is reserved; when it has ended, what it took is written in its place.
Both go to a journal in the job's folder first, a line each, so a job that is killed knows what it had under way, and
counts it at its worst. The journal outlives the stages: a job that is gone on with has spent what it had spent.

    {"request": 7, "reserved": {"tokens": 812, "usd": 0.0031}}
    {"request": 7, "used": {"tokens": 164, "usd": 0.0006}}
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.errors import BudgetReached, InvalidInput
from limbeck.recipe import Budget, Prices
from limbeck.teachers.endpoint import Usage

__all__ = ["JOURNAL", "Purse", "Spent"]

JOURNAL = "spending.jsonl"


@dataclass(frozen=True)
class Spent:
    """Tokens, and US dollars where there are prices."""

    tokens: int = 0
    usd: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.tokens + other.tokens, self.usd + other.usd)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.tokens - other.tokens, self.usd - other.usd)


class Purse:
    """A job's budget, and what is left of it. One event loop at a time."""

    def __init__(self, budget: Budget, prices: Prices | None, folder: Path | None = None) -> None:
        """``folder``: the job's, where the journal lies. Raises `InvalidInput` for a cap on money without prices."""
        if prices is None and (budget.usd is not None or budget.request_usd is not None):
            raise InvalidInput("teacher.budget: a cap in US dollars needs teacher.prices: {input: …, output: …}")
        self.budget, self.prices = budget, prices
        self._path = None if folder is None else folder / JOURNAL
        self._open: dict[int, Spent] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._beyond = 0
        """Tokens by which requests took more than they can: a service that does so once is expected to again."""
        self.spent, self.requests = Spent(), 0
        if self._path is not None and self._path.exists():
            self._recall(self._path)

    async def reserve(self, most: Usage) -> int:
        """Set aside the most a request can take; gives its number. Waits for others to end where that may make room.

        Raises `BudgetReached` where there is none, `InvalidInput` for a request that is beyond its own cap.
        """
        worst = self._cost(Usage(most.prompt_tokens + self._beyond, most.response_tokens))
        budget = self.budget
        for cap, need, unit in (
            (budget.request_tokens, worst.tokens, "tokens"),
            (budget.request_usd, worst.usd, "usd"),
        ):
            if cap is not None and need > cap:
                raise InvalidInput(
                    f"a request may take up to {need:,.6g} {unit}; teacher.budget.request_{unit} is {cap:,.6g}"
                )
        while (why := self._too_much(worst)) is not None:
            if not self._open:
                raise BudgetReached(why)
            room = asyncio.get_running_loop().create_future()
            self._waiting.append(room)
            await room
        self.requests += 1
        self._write({"request": self.requests, "reserved": worst.__dict__})
        self._open[self.requests] = worst
        return self.requests

    def settle(self, request: int, used: Usage | None) -> None:
        """A request has ended and took ``used``; None where nobody knows, and it counts at its worst."""
        worst = self._open.pop(request)
        cost = worst if used is None else self._cost(used)
        self._beyond += max(0, cost.tokens - worst.tokens)
        self.spent += cost
        self._write({"request": request, "used": cost.__dict__})
        waiting, self._waiting = self._waiting, []
        for room in waiting:
            if not room.done():
                room.set_result(None)

    def _too_much(self, worst: Spent) -> str | None:
        total = sum(self._open.values(), self.spent + worst)
        for name, cap, have, need, all_of_it in (
            ("tokens", self.budget.tokens, self.spent.tokens, worst.tokens, total.tokens),
            ("usd", self.budget.usd, self.spent.usd, worst.usd, total.usd),
        ):
            if cap is not None and all_of_it > cap:
                return (
                    f"teacher.budget.{name} is {cap:,.6g}: {have:,.6g} are used, and the next request may take up to"
                    f" {need:,.6g}; what is answered is kept; raise teacher.budget.{name}"
                )
        return None

    def _cost(self, usage: Usage) -> Spent:
        return Spent(usage.tokens, self.prices.cost(usage.prompt_tokens, usage.response_tokens) if self.prices else 0.0)

    def _write(self, line: dict[str, Any]) -> None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def _recall(self, path: Path) -> None:
        """Take up what earlier runs wrote. A line that was cut off counts as not written: its request had not ended."""
        text = path.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):
            with path.open("a", encoding="utf-8") as file:
                file.write("\n")
        costs: dict[int, Spent] = {}
        for line in text.splitlines():
            try:
                row = json.loads(line)
                costs[row["request"]] = Spent(**(row.get("used") or row["reserved"]))
            except (ValueError, KeyError, TypeError):
                continue
        self.requests = max(costs, default=0)
        self.spent = sum(costs.values(), Spent())
