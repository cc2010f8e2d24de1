"""What a distillation may take, before anything is asked: rows, tokens, time, cost. No torch.

What will be asked, kind by kind, is `foreseen`'s. Prompts are counted on a sample, by the tokenizer that reads them, or
by their bytes where nobody here has the teacher's. How long answers become nobody knows beforehand: the high end is
every answer at its longest, the low end is as long as the rows' own labels, or a tenth of the longest where there are
none. Time is a range for the same reason, and because a service's or a machine's speed is only assumed here. Answers
that are known to be stored already are not asked for; which these are says the caller. A judge is reckoned
for every answer, since none is known to be dropped before it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from limbeck.errors import DamagedArtifact, UnknownModel
from limbeck.models.catalog import find
from limbeck.models.sizes import parameters
from limbeck.recipe import Prices, Recipe, Teacher
from limbeck.records import Example, Message, Prompt, Question
from limbeck.rubrics import MARK_TOKENS, named, question
from limbeck.settings import Settings
from limbeck.teachers.foreseen import Asked, Foresight, Range, counter, mean

__all__ = ["Estimate", "Judging", "Part", "Range", "estimate", "money", "prices_of", "span"]

SERVICE_PACE = (100.0, 15.0)
"""Tokens a second of one answer from a service, at best and at worst."""
SERVICE_WAIT = (0.2, 1.5)
"""Seconds before a service's first token."""
LEAST_MARK = 20
"""Tokens of a mark with a short sentence."""
MACHINE_PACE = (2e11, 1e10)
"""Multiplications and additions a second on one core where many are answered at once, at best and at worst. Today's
servers reach 6e10 to 2.4e11 in large products."""


@dataclass(frozen=True)
class Part:
    """One kind of what is asked, and of whom."""

    kind: str
    model: str
    remote: bool
    questions: int
    prompt_tokens: Range
    response_tokens: Range
    seconds: Range
    usd: Range | None
    """None where there are no prices."""
    most: int | None = None
    """Questions at most, where what comes of them decides how many; None where it does not."""


@dataclass(frozen=True)
class Judging:
    """What a judge's part of a job may take."""

    judge: str
    remote: bool
    questions: int
    """An answer each, or as many as there are samples of it."""
    prompt_tokens: int
    response_tokens: Range
    usd: Range | None
    """None where there are no prices."""

    @property
    def line(self) -> str:
        """For a person."""
        cost = f"{_span(self.usd)} USD" if self.usd else "cost unknown: there are no prices"
        low, high = self.response_tokens.low, self.response_tokens.high
        tokens = f"about {self.prompt_tokens:,} tokens of questions, {low:,.0f} to {high:,.0f} of marks"
        return f"judge:    {self.judge} gives {self.questions:,} marks; {tokens}; {cost}"


def money(usd: float) -> str:
    """An amount as people write it: to the cent, or below ten of them three figures, and no power of ten."""
    return f"{usd:.{2 - math.floor(math.log10(usd))}f}" if 0 < usd < 0.1 else f"{usd:,.2f}"


def span(least: float, most: float) -> str:
    """A count as people write it, or the range it lies in."""
    return f"{least:,.0f}" + (f" to {most:,.0f}" if most > least else "")


def _span(usd: Range) -> str:
    return f"{money(usd.low)} to {money(usd.high)}"


@dataclass(frozen=True)
class Estimate:
    """What the teacher's part of a job may take."""

    teacher: str
    rows: int
    """Valid rows, copies folded."""
    answered: int
    """Prompts that the teacher answers for the student to learn, those it is to write included."""
    examined: int
    """Held-out prompts it is examined on."""
    parts: tuple[Part, ...]
    """Kind by kind, the judge's aside."""
    prompt_tokens: int
    """At least: answers that are read again may be longer."""
    prompt_tokens_most: int
    response_tokens: Range
    seconds: Range
    usd: Range | None
    """None where there are no prices."""
    judged: Judging | None = None
    """The judge's part, where the recipe has one."""
    stored: int = 0
    """Rows about which nothing is asked, since the answer is stored; `parts` leaves them out."""
    caps: Mapping[str, float] = field(default_factory=dict)
    """What the job may use over the network: `tokens`, `usd`, where the teacher's budget says so."""

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return asdict(self)

    @property
    def lines(self) -> list[str]:
        """The estimate for a person, a line each."""
        tokens, least, most = self.response_tokens, self.prompt_tokens, self.prompt_tokens_most
        cost = f"{_span(self.usd)} USD" if self.usd else "unknown: there are no prices"
        return [
            f"rows:     {self.rows:,}, of which {self.teacher} answers {self.answered:,} and is examined on"
            f" {self.examined:,}",
            *([f"stored:   the answers to {self.stored:,} of them, which are not asked for again"] * bool(self.stored)),
            *([self._kinds] if {part.kind for part in self.parts} - {"answers", "examination"} else []),
            f"tokens:   about {span(least, most)} of prompts, {tokens.low:,.0f} to {tokens.high:,.0f} of answers",
            f"time:     {_duration(self.seconds.low)} to {_duration(self.seconds.high)} for the teacher's answers",
            f"cost:     {cost}",
            *([self.judged.line] if self.judged else []),
            *self._against_caps,
        ]

    @property
    def over_the_network(self) -> tuple[Range, Range, Range | None]:
        """Questions, tokens and US dollars of all who are asked so; None for these where a price is not known."""
        far = [part for part in self.parts if part.remote]
        questions = _questions(far)
        tokens = sum((part.prompt_tokens + part.response_tokens for part in far), Range())
        costs = [part.usd for part in far]
        if self.judged is not None and self.judged.remote:
            questions += Range(self.judged.questions, self.judged.questions)
            tokens += Range(self.judged.prompt_tokens, self.judged.prompt_tokens) + self.judged.response_tokens
            costs.append(self.judged.usd)
        known = [cost for cost in costs if cost is not None]
        return questions, tokens, sum(known, Range()) if known and len(known) == len(costs) else None

    @property
    def _against_caps(self) -> Iterator[str]:
        _, tokens, usd = self.over_the_network
        for unit, foreseen, written in (("tokens", tokens, "{:,.0f}".format), ("usd", usd, money)):
            cap = self.caps.get(unit)
            if cap is not None and foreseen is not None:
                enough = (
                    "not enough" if cap < foreseen.low else "perhaps not enough" if cap < foreseen.high else "enough"
                )
                shown = f"{written(cap)} {unit.replace('usd', 'USD')}"
                yield f"budget:   {shown}; {written(foreseen.low)} to {written(foreseen.high)} are foreseen: {enough}"

    @property
    def _kinds(self) -> str:
        told = ", ".join(f"{span(part.questions, part.most or 0)} {part.kind}" for part in self.parts)
        total = _questions(self.parts)
        return f"asked:    {span(total.low, total.high)} questions: {told}"


def estimate(
    recipe: Recipe,
    examples: Sequence[Example],
    golden: Sequence[tuple[str, str]],
    settings: Settings,
    teacher: Teacher | None = None,
    stored: Collection[str] = (),
) -> Estimate:
    """What a teacher will be asked about ``examples``: the recipe's, the first of several that are tried.

    ``stored``: the ids of those whose first answer is stored.
    """
    teacher = teacher or recipe.tried[0]
    told = Foresight(recipe, examples, golden, teacher, settings, stored)
    parts = tuple(_part(asked, settings) for asked in told.all)
    read = sum((part.prompt_tokens for part in parts), Range())
    return Estimate(
        teacher.model,
        len(examples),
        len(told.answered) + told.made,
        len(told.examined),
        parts,
        round(read.low),
        round(read.high),
        sum((part.response_tokens for part in parts), Range()),
        sum((part.seconds for part in parts), Range()),
        _cost(parts),
        _judged(recipe, examples, told, teacher, settings),
        told.stored,
        teacher.budget.model_dump(include={"tokens", "usd"}, exclude_none=True),
    )


def _questions(parts: Sequence[Part]) -> Range:
    return sum((Range(part.questions, part.most or part.questions) for part in parts), Range())


def _part(asked: Asked, settings: Settings) -> Part:
    model, read, written = asked.model, asked.prompt_tokens, asked.response_tokens
    written = Range(float(round(written.low)), float(round(written.high)))
    prices = prices_of(model, settings)
    usd = prices and Range(prices.cost(round(read.low), written.low), prices.cost(round(read.high), written.high))
    seconds = _seconds(model, Range(asked.questions, asked.most or asked.questions), read, written, settings)
    return Part(asked.kind, model.model, model.remote, asked.questions, read, written, seconds, usd or None, asked.most)


def _cost(parts: Sequence[Part]) -> Range | None:
    """Of all that has prices; None where nothing has, or where a service has none. What is here may go without.

    Nothing, where nothing is asked.
    """
    known = [part.usd for part in parts if part.usd is not None]
    if (parts and not known) or any(part.remote and part.usd is None for part in parts):
        return None
    return sum(known, Range())


def prices_of(teacher: Teacher, settings: Settings) -> Prices | None:
    """The recipe's prices, else those the model has: the catalog's for an id, a registered model's own."""
    try:
        return teacher.prices or find(teacher.model, settings).prices
    except (UnknownModel, DamagedArtifact):  # a service's own name
        return None


def _judged(
    recipe: Recipe, examples: Sequence[Example], told: Foresight, teacher: Teacher, settings: Settings
) -> Judging | None:
    plan, votes = recipe.curation.judge, recipe.curation.votes
    if plan is None:
        return None
    judge = plan.model or teacher
    rubric, count = named(plan.rubric), counter(judge, recipe.student.model, settings)
    learned = [e for e in examples if e.split != "held-out"]
    texts = ("\n\n".join(message.text for message in (e.whole or e.prompt).messages) for e in learned)
    asked = [Question(Prompt((Message("user", question(rubric, text, None, "")),))) for text in texts]
    questions = len(learned) + told.made
    if votes is not None and votes.choose == "judge":
        questions += (votes.samples - 1) * (len(told.answered) + told.made)
    prompt_tokens = round(questions * (mean(asked, count) + told.answer.low))
    marks = Range(float(questions * LEAST_MARK), float(questions * MARK_TOKENS))
    prices = prices_of(judge, settings)
    usd = prices and Range(prices.cost(prompt_tokens, marks.low), prices.cost(prompt_tokens, marks.high))
    return Judging(judge.model, judge.remote, questions, prompt_tokens, marks, usd or None)


def _seconds(teacher: Teacher, questions: Range, read: Range, answers: Range, settings: Settings) -> Range:
    if teacher.remote:
        low, high = (
            (count * wait + tokens / pace) / teacher.concurrency
            for count, wait, pace, tokens in zip(
                (questions.low, questions.high), SERVICE_WAIT, SERVICE_PACE, (answers.low, answers.high), strict=True
            )
        )
        return Range(low, high)
    # Every weight is multiplied and added once a token (Kaplan et al. 2020, arXiv:2001.08361, section 2.1).
    work = 2.0 * parameters(find(teacher.model, settings))
    low, high = (
        work * tokens / (pace * settings.threads)
        for pace, tokens in zip(MACHINE_PACE, (read.low + answers.low, read.high + answers.high), strict=True)
    )
    return Range(low, high)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
