"""What a job may use of a teacher that costs: nothing is sent that could go beyond it.

Before a request goes out, the most it can take is reserved; when it has ended, what it took is written in its place,
where the service tells it. Both go to a journal in the job's folder first, a line each, so a job that is killed knows
what it had under way. A request of which nobody knows what it took counts at its worst. Several teachers of a job share
the journal, which outlives the stages: a job that is gone on with has spent what it had spent.

    {"request": "9f86d081884c", "reserved": {"tokens": 812, "usd": 0.0031}}
    {"request": "9f86d081884c", "used": {"tokens": 164, "usd": 0.0006}}
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
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

    def __init__(self, budget: Budget, prices: Prices | None, folder: Path | None = None, key: str = "teacher") -> None:
        """``folder``: the job's, where the journal lies. ``key``: the recipe's, where the budget stands.

        Raises `InvalidInput` for a cap on money without prices.
        """
        if prices is None and (budget.usd is not None or budget.request_usd is not None):
            raise InvalidInput(f"{key}.budget: a cap in US dollars needs {key}.prices: {{input: …, output: …}}")
        self.budget, self.prices, self._key = budget, prices, key
        self._path = None if folder is None else folder / JOURNAL
        self._read = 0
        self._costs: dict[str, Spent] = {}
        self._told: set[str] = set()
        self._open: set[str] = set()
        self._waiting: list[asyncio.Future[None]] = []
        self._beyond = 0
        """Tokens by which requests took more than they can: a service that does so once is expected to again."""
        self._total = Spent()
        self._catch_up()

    @property
    def spent(self) -> Spent:
        """What the job's requests took, those of earlier runs and of its other teachers too; open ones at worst."""
        self._catch_up()
        return self._total

    @property
    def requests(self) -> int:
        """How many requests there were."""
        return len(self._costs)

    @property
    def at_worst(self) -> int:
        """How many of them are counted at their worst, since nobody knows what they took."""
        return len(self._costs) - len(self._told)

    async def reserve(self, most: Usage) -> str:
        """Set aside the most a request can take; gives its name. Waits for others to end where that may make room.

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
                    f"a request may take up to {need:,.6g} {unit}; {self._key}.budget.request_{unit} is {cap:,.6g}"
                )
        while (why := self._too_much(worst)) is not None:
            if not self._open:
                raise BudgetReached(why)
            room = asyncio.get_running_loop().create_future()
            self._waiting.append(room)
            await room
        request = secrets.token_hex(6)
        self._write({"request": request, "reserved": worst.__dict__})
        self._open.add(request)
        return request

    def settle(self, request: str, used: Usage | None) -> None:
        """A request has ended and took ``used``; None where nobody knows, and it counts at its worst."""
        self._open.remove(request)
        if used is not None:
            worst, cost = self._costs[request], self._cost(used)
            self._beyond += max(0, cost.tokens - worst.tokens)
            self._write({"request": request, "used": cost.__dict__})
        waiting, self._waiting = self._waiting, []
        for room in waiting:
            if not room.done():
                room.set_result(None)

    def _too_much(self, worst: Spent) -> str | None:
        spent = self.spent
        for name, cap, have, need in (
            ("tokens", self.budget.tokens, spent.tokens, worst.tokens),
            ("usd", self.budget.usd, spent.usd, worst.usd),
        ):
            if cap is not None and have + need > cap:
                return (
                    f"{self._key}.budget.{name} is {cap:,.6g}: {have:,.6g} are used, and the next request may take up"
                    f" to {need:,.6g}; what is answered is kept; raise {self._key}.budget.{name}"
                )
        return None

    def _cost(self, usage: Usage) -> Spent:
        return Spent(usage.tokens, self.prices.cost(usage.prompt_tokens, usage.response_tokens) if self.prices else 0.0)

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._path is None:
            self._take(line)
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            # A line that a killed run left half written is ended first.
            file.write(b"\n" * self._is_cut_off() + json.dumps(line).encode() + b"\n")
        self._catch_up()

    def _is_cut_off(self) -> bool:
        assert self._path is not None
        return self._path.stat().st_size > self._read

    def _catch_up(self) -> None:
        """Take up what has been written since: by earlier runs, by other teachers of the job, by this one.

        A line that was cut off counts as not written: its request had not been sent, or had not ended.
        """
        if self._path is None or not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")[0]
        if whole:
            self._read += len(whole) + 1
        for line in whole.splitlines():
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError):
                continue

    def _take(self, line: Mapping[str, Any]) -> None:
        request, cost = line["request"], Spent(**(line.get("used") or line["reserved"]))
        self._total += cost - self._costs.get(request, Spent())
        self._costs[request] = cost
        if line.get("used"):
            self._told.add(request)
