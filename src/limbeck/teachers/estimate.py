"""What a distillation's teacher will be asked, and what that may take, before anything is asked. No torch.

Prompts are counted on a sample, by the tokenizer that reads them, or by their bytes where nobody here has the
teacher's. How long answers become nobody knows beforehand: the high end is every answer at its longest, the low end is
as long as the rows' own labels, or a tenth of the longest where there are none. Time is a range for the same reason,
and because a service's or a machine's speed is only assumed here. Answers that are stored already cost nothing, which
is not reckoned with: an estimate is for a first run. Prompts that the teacher is to write (`synthesis.augment`) are
taken to be as long as those given, and to cost a question each; many are refused where the teacher is small. A judge is
reckoned for every answer, since none is known to be dropped before it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from limbeck.errors import DamagedArtifact, InvalidInput, UnknownModel
from limbeck.models.catalog import find
from limbeck.models.chat import Renderer
from limbeck.models.sizes import parameters
from limbeck.models.tokenizer import Tokenizer
from limbeck.recipe import Prices, Recipe, Teacher
from limbeck.records import Example, Message, Prompt, Question
from limbeck.rubrics import MARK_TOKENS, named, question
from limbeck.settings import Settings

__all__ = ["Estimate", "Range", "estimate", "prices_of"]

SAMPLE = 200
"""Prompts that are counted; their mean stands for all."""
BYTES_A_TOKEN = 4.0
"""Of English text, where the teacher's tokenizer is not here."""
LEAST_ANSWER = 0.1
"""Of the longest, where no label says how long answers are."""
SERVICE_PACE = (100.0, 15.0)
"""Tokens a second of one answer from a service, at best and at worst."""
SERVICE_WAIT = (0.2, 1.5)
"""Seconds before a service's first token."""
LEAST_MARK = 20
"""Tokens of a mark with a short sentence."""
WORDS_OF_A_QUESTION = 60
"""Tokens of the words with which a prompt like another is asked for, the other left out."""
MACHINE_PACE = (3e10, 2e9)
"""Multiplications and additions a second on one core, at best and at worst."""


@dataclass(frozen=True)
class Range:
    """From the least to the most that is to be expected."""

    low: float
    high: float


@dataclass(frozen=True)
class Judging:
    """What a judge's part of a job may take."""

    judge: str
    questions: int
    """An answer each, or as many as there are samples of it."""
    prompt_tokens: int
    response_tokens: Range
    usd: Range | None
    """None where there are no prices."""

    @property
    def line(self) -> str:
        """For a person."""
        cost = f"{self.usd.low:.4g} to {self.usd.high:.4g} USD" if self.usd else "cost unknown: there are no prices"
        low, high = self.response_tokens.low, self.response_tokens.high
        tokens = f"about {self.prompt_tokens:,} tokens of questions, {low:,.0f} to {high:,.0f} of marks"
        return f"judge:    {self.judge} gives {self.questions:,} marks; {tokens}; {cost}"


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
    prompt_tokens: int
    response_tokens: Range
    seconds: Range
    usd: Range | None
    """None where there are no prices."""
    judged: Judging | None = None
    """The judge's part, where the recipe has one."""

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return asdict(self)

    @property
    def lines(self) -> list[str]:
        """The estimate for a person, a line each."""
        tokens = self.response_tokens
        cost = f"{self.usd.low:.4g} to {self.usd.high:.4g} USD" if self.usd else "unknown: there are no prices"
        return [
            f"rows:     {self.rows:,}, of which {self.teacher} answers {self.answered:,} and is examined on"
            f" {self.examined:,}",
            f"tokens:   about {self.prompt_tokens:,} of prompts, {tokens.low:,.0f} to {tokens.high:,.0f} of answers",
            f"time:     {_duration(self.seconds.low)} to {_duration(self.seconds.high)} for the teacher's answers",
            f"cost:     {cost}",
            *([self.judged.line] if self.judged else []),
        ]


def estimate(
    recipe: Recipe,
    examples: Sequence[Example],
    golden: Sequence[tuple[str, str]],
    settings: Settings,
    teacher: Teacher | None = None,
) -> Estimate:
    """What a teacher will be asked about ``examples``: the recipe's, the first of several that are tried."""
    teacher = teacher or recipe.tried[0]
    prices = prices_of(teacher, settings)
    asked = [e for e in examples if e.split != "held-out" and not _is_given(e, recipe)]
    held_out = [e for e in examples if e.split == "held-out"][: recipe.evaluation.rows]
    count = _counter(teacher, recipe.student.model, settings)
    demonstrations = tuple(golden[: recipe.synthesis.demonstrations])
    prompt_tokens = sum(
        _total([Question(e.prompt, shown) for e in chosen], count)
        for chosen, shown in ((asked, demonstrations), (held_out, ()))
    )
    made = _to_make(recipe, examples)
    seeds = [e for e in examples if made and e.split != "held-out"]
    bare, framed = (made * _mean([Question(e.prompt, shown) for e in seeds], count) for shown in ((), demonstrations))
    prompt_tokens += round(framed + bare + made * WORDS_OF_A_QUESTION)
    longest = (len(asked) + made) * recipe.asking.max_tokens + len(held_out) * recipe.examining.max_tokens
    labels = [e.label for e in examples if e.label is not None]
    share = _label_share(labels, recipe.asking.max_tokens)
    written = made * recipe.synthesis.augment.max_tokens if recipe.synthesis.augment else 0
    answers = Range(round(share * longest + min(bare, written)), float(longest + written))
    questions = len(asked) + 2 * made + len(held_out)
    usd = prices and Range(prices.cost(prompt_tokens, answers.low), prices.cost(prompt_tokens, answers.high))
    return Estimate(
        teacher.model,
        len(examples),
        len(asked) + made,
        len(held_out),
        prompt_tokens,
        answers,
        _seconds(teacher, questions, prompt_tokens, answers, settings),
        usd or None,
        _judged(recipe, [e for e in examples if e.split != "held-out"], made, teacher, settings),
    )


def prices_of(teacher: Teacher, settings: Settings) -> Prices | None:
    """The recipe's prices, else those the model has: the catalog's for an id, a registered model's own."""
    try:
        return teacher.prices or find(teacher.model, settings).prices
    except (UnknownModel, DamagedArtifact):  # a service's own name
        return None


def _judged(
    recipe: Recipe, examples: Sequence[Example], made: int, teacher: Teacher, settings: Settings
) -> Judging | None:
    plan, votes = recipe.curation.judge, recipe.curation.votes
    if plan is None:
        return None
    judge = plan.model or teacher
    rubric, count = named(plan.rubric), _counter(judge, recipe.student.model, settings)
    told = ("\n\n".join(message.text for message in e.prompt.messages) for e in examples)
    asked = [Question(Prompt((Message("user", question(rubric, text, None, "")),))) for text in told]
    questions = len(examples) + made
    if votes is not None and votes.choose == "judge":
        questions += (votes.samples - 1) * (sum(not _is_given(e, recipe) for e in examples) + made)
    share = _label_share([e.label for e in examples if e.label is not None], recipe.asking.max_tokens)
    answer_tokens = share * recipe.asking.max_tokens
    prompt_tokens = round(questions * (_mean(asked, count) + answer_tokens))
    marks = Range(float(questions * LEAST_MARK), float(questions * MARK_TOKENS))
    prices = prices_of(judge, settings)
    usd = prices and Range(prices.cost(prompt_tokens, marks.low), prices.cost(prompt_tokens, marks.high))
    return Judging(judge.model, questions, prompt_tokens, marks, usd or None)


def _is_given(example: Example, recipe: Recipe) -> bool:
    """Whether a row brings the answer that is learned, so that nobody is asked for one."""
    return recipe.synthesis.use_responses or (example.label is not None and recipe.synthesis.labels == "keep")


def _to_make(recipe: Recipe, examples: Sequence[Example]) -> int:
    """How many prompts the teacher has yet to write."""
    plan = recipe.synthesis.augment
    if plan is None or any(example.origin == "augmented" for example in examples):
        return 0
    return max(0, plan.to - sum(example.split != "held-out" for example in examples))


def _counter(teacher: Teacher, student: str | None, settings: Settings) -> Callable[[Question], int]:
    """How many tokens the teacher reads of a question."""
    name = (teacher.tokenizer or student) if teacher.remote else teacher.model
    try:
        renderer = Renderer(Tokenizer.open(find(name or "", settings).path))
    except (InvalidInput, UnknownModel, DamagedArtifact):
        return lambda asked: round(
            sum(len(message.text.encode()) for message in asked.conversation.messages) / BYTES_A_TOKEN
        )
    return lambda asked: len(renderer.prompt(asked.conversation))


def _total(questions: Sequence[Question], count: Callable[[Question], int]) -> int:
    return round(_mean(questions, count) * len(questions))


def _mean(questions: Sequence[Question], count: Callable[[Question], int]) -> float:
    sample = random.Random(0).sample(questions, min(SAMPLE, len(questions)))  # noqa: S311 (a sample, no secret)
    return sum(map(count, sample)) / len(sample) if sample else 0.0


def _label_share(labels: Sequence[str], longest: int) -> float:
    """How long answers are at least, as a share of the longest."""
    if not labels:
        return LEAST_ANSWER
    tokens = sum(len(label.encode()) for label in labels) / BYTES_A_TOKEN / len(labels) + 1
    return min(1.0, tokens / longest)


def _seconds(teacher: Teacher, questions: int, prompt_tokens: int, answers: Range, settings: Settings) -> Range:
    if teacher.remote:
        low, high = (
            (questions * wait + tokens / pace) / teacher.concurrency
            for wait, pace, tokens in zip(SERVICE_WAIT, SERVICE_PACE, (answers.low, answers.high), strict=True)
        )
        return Range(low, high)
    # Every weight is multiplied and added once a token (Kaplan et al. 2020, arXiv:2001.08361, section 2.1).
    work = 2.0 * parameters(find(teacher.model, settings))
    low, high = (
        work * (prompt_tokens + tokens) / (pace * settings.threads)
        for pace, tokens in zip(MACHINE_PACE, (answers.low, answers.high), strict=True)
    )
    return Range(low, high)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
