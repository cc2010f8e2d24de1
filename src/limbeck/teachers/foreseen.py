"""What a distillation will ask of its teacher, kind by kind, before anything is asked: questions and tokens. No torch.

| kind            | questions                                                                                      |
|-----------------|------------------------------------------------------------------------------------------------|
| answers         | the first answer to every prompt that has none, those that are yet to be written included      |
| labels          | labels that are read, so that there are distributions over them                                |
| measured        | `labels: auto`: a sample answered, and read twice                                               |
| mended labels   | `labels: improve`: each written anew, and read; at least none where `auto` decides              |
| refined         | `refine`: each answer written anew, and read                                                    |
| samples         | `votes`: the other answers to each prompt, each refined as the first is                        |
| similar prompts | `augment`: from every reply let in to rounds that yield just enough for another (`recipe.rounds`) |
| trial           | a sample answered by each candidate whose answers are not learned anyway, and the judge's marks |
| examination     | held-out prompts                                                                               |

Prompts are counted as the teacher sees them: with its instructions, demonstrations and droppable parts. A reading is
asked only of a model that is here; it writes nothing. What is read again after masking, or while the student learns,
is not reckoned with. Of answers that are stored those count that are known beforehand: a prompt's first, a label's
reading, the examination's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from limbeck.errors import DamagedArtifact, InvalidInput, UnknownModel
from limbeck.models.catalog import find
from limbeck.models.chat import Renderer
from limbeck.models.tokenizer import Tokenizer
from limbeck.recipe import Recipe, Teacher, rounds
from limbeck.records import Example, Message, Prompt, Question
from limbeck.rubrics import MARK_TOKENS
from limbeck.settings import Settings

__all__ = ["Asked", "Foresight", "Range", "counter", "mean"]

SAMPLE = 200
"""Prompts that are counted; their mean stands for all."""
BYTES_A_TOKEN = 4.0
"""Of English text, where the teacher's tokenizer is not here."""
LEAST_ANSWER = 0.1
"""Of the longest, where no label says how long answers are."""
WORDS_OF_A_QUESTION = 60
"""Tokens of the words with which a prompt like another is asked for, the other left out."""
WORDS_OF_MENDING = 70
"""Tokens of the words with which an answer is asked for anew, or a mark, prompt and answer left out."""
MEASURED = 50
"""Labels that `auto` looks at."""
MARKS = 5
"""Of which a judge that is here reads each, for every answer of a trial."""
LEAST_MARK = 2
"""Tokens of a trial's mark: a number and the end."""


@dataclass(frozen=True)
class Range:
    """From the least to the most that is to be expected."""

    low: float = 0.0
    high: float = 0.0

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def times(self, count: float) -> Range:
        """So many of it."""
        return Range(count * self.low, count * self.high)


@dataclass(frozen=True)
class Asked:
    """Questions of one kind, put to one model."""

    kind: str
    model: Teacher
    questions: int
    prompt_tokens: Range
    response_tokens: Range
    most: int | None = None
    """Questions at most, where what comes of them decides how many; None where it does not."""


class Foresight:
    """One recipe with its rows, and what its teacher will be asked about them."""

    def __init__(
        self,
        recipe: Recipe,
        examples: Sequence[Example],
        golden: Sequence[tuple[str, str]],
        teacher: Teacher,
        settings: Settings,
        stored: Collection[str] = (),
    ) -> None:
        """``stored``: the ids of examples about which nothing is asked at first, since the answer is known."""
        self._recipe, self._plan, self._teacher = recipe, recipe.synthesis, teacher
        self._golden, self._shown = set(golden), tuple(golden[: recipe.synthesis.demonstrations])
        self._count = counter(teacher, recipe.student.model, settings)
        learned = [e for e in examples if e.split != "held-out"]
        self.labelled = [e for e in learned if self._is_read(e)]
        self.answered = [e for e in learned if not (self._is_read(e) or self._plan.use_responses)]
        self.examined = recipe.evaluation.examined(examples)
        self._stored = frozenset(stored)
        self.made = self._to_make(examples)
        """Prompts that are yet to be written."""
        self._seeds = learned if self.made else []
        labels = [e.label for e in examples if e.label is not None]
        self._label = sum(len(label.encode()) for label in labels) / BYTES_A_TOKEN / len(labels) + 1 if labels else 0.0
        longest = recipe.asking.max_tokens
        self.share = min(1.0, self._label / longest) if labels else LEAST_ANSWER
        """How long answers are at least, of the longest."""
        self.answer = Range(self.share * longest, float(longest))
        """Tokens of an answer."""

    @property
    def all(self) -> list[Asked]:
        """Every kind that is asked."""
        kinds = (self._answers, self._labels, self._samples, self._similar, self._trial, self._examination)
        return [asked for kind in kinds for asked in kind() if asked.questions]

    def _answers(self) -> Iterator[Asked]:
        left = self._left(self.answered)
        count = len(left) + self.made
        yield self._asked("answers", count, self._read(left), self.answer.times(count))
        count = len(self.answered) + self.made
        if self._plan.refine is not None:
            yield self._mended("refined", count, self.answer, self._long)

    def _labels(self) -> Iterator[Asked]:
        seen, label = self._framed(self.labelled), Range(self._label, self._label)
        if self._plan.use_responses:
            return
        if not self._teacher.remote:
            left = self._left(self.labelled)
            yield self._asked("labels", len(left), (self._framed(left) + label).times(len(left)), Range())
        mended = [e for e in self.labelled if not self._is_golden(e)]
        if self._plan.labels == "auto":
            sample, readings = min(MEASURED, len(mended)), 0 if self._teacher.remote else 2
            read = seen.times(sample) + (seen + label).times(readings * sample)
            yield self._asked("measured", sample * (1 + readings), read, self.answer.times(sample))
        if self._plan.labels in ("auto", "improve"):
            asked = self._mended("mended labels", len(mended), label, seen)
            yield asked if self._plan.labels == "improve" else _at_least_none(asked)

    def _samples(self) -> Iterator[Asked]:
        votes = self._recipe.curation.votes
        if votes is None:
            return
        count = (votes.samples - 1) * (len(self.answered) + self.made)
        yield self._asked("samples", count, self._long.times(count), self.answer.times(count))
        if self._plan.refine is not None:
            yield self._mended("samples refined", count, self.answer, self._long)

    def _similar(self) -> Iterator[Asked]:
        plan = self._plan.augment
        if plan is not None and self.made:
            bare = mean([Question(e.prompt) for e in self._seeds], self._count)
            least, most = rounds.fewest(self.made, plan.methods), rounds.most(self.made)
            read = Range(float(least), float(most)).times(bare + WORDS_OF_A_QUESTION)
            written = Range(least * min(bare, plan.max_tokens), float(most * plan.max_tokens))
            yield Asked("similar prompts", plan.writer or self._teacher, least, read, written, most)

    def _trial(self) -> Iterator[Asked]:
        trial = self._recipe.trial
        if trial is None:
            return
        learned = [e for e in (*self.answered, *self.labelled) if e.split == "train"]
        labelled = [e for e in learned if e.label is not None]
        rows = (labelled or learned)[: trial.rows]
        seen, count = self._framed(rows), len(rows)
        again = any(self._is_read(e) for e in rows)  # what the best of them said is else its answer for good
        for model in trial.teachers:
            if again or model != self._teacher:
                yield Asked("trial", model, count, seen.times(count), self.answer.times(count))
        if trial.judge is not None and not labelled:
            marks = count * len(trial.teachers) * (1 if trial.judge.remote else MARKS)
            said = Range(LEAST_MARK, MARK_TOKENS) if trial.judge.remote else Range()
            read = (self._plain(rows) + self.answer).times(marks)
            yield Asked("trial", trial.judge, marks, read, said.times(marks))

    def _examination(self) -> Iterator[Asked]:
        sees = self._recipe.evaluation.teacher_sees
        has_context = self._plan.teacher_system is not None or any(e.whole is not None for e in self.examined)
        with_context = sees == "context" or (sees is None and has_context)
        left = self._left(self.examined)
        plain = mean([Question(e.prompt) for e in left], self._count)
        seen = self._framed(left) if with_context else Range(plain, plain)
        count, longest = len(left), self._recipe.examining.max_tokens
        answer = Range(self.share * longest, float(longest))
        yield self._asked("examination", count, seen.times(count), answer.times(count))

    def _asked(self, kind: str, questions: int, read: Range, written: Range) -> Asked:
        return Asked(kind, self._teacher, questions, read, written)

    def _mended(self, kind: str, count: int, text: Range, seen: Range) -> Asked:
        """``count`` texts written anew, and what came of it read after the prompt as it is ``seen``."""
        bare = self._plain([*self.answered, *self.labelled, *self._seeds])
        readings = 0 if self._teacher.remote else count
        read = (bare + text).times(count) + (seen + self.answer).times(readings)
        return self._asked(kind, count + readings, read, self.answer.times(count))

    @property
    def stored(self) -> int:
        """Rows about which nothing is asked at first, since the answer is known."""
        read = [] if self._teacher.remote else self.labelled
        return sum(e.id in self._stored for e in (*self.answered, *read, *self.examined))

    def _left(self, examples: Sequence[Example]) -> list[Example]:
        return [e for e in examples if e.id not in self._stored]

    @property
    def _long(self) -> Range:
        """Tokens of a prompt that is answered, as the teacher sees it."""
        total = len(self.answered) + self.made
        return self._read(self.answered).times(1 / total) if total else Range()

    def _read(self, own: Sequence[Example]) -> Range:
        """Tokens of the prompts of ``own`` and of those that are yet to be written, as the teacher sees them."""
        return self._framed(own).times(len(own)) + self._framed(self._seeds).times(self.made)

    def _framed(self, examples: Sequence[Example]) -> Range:
        """As `synthesis.Framing` puts a prompt."""
        system = self._plan.teacher_system
        told = () if system is None else (Message("system", system),)
        prompts = (e.whole or e.prompt for e in examples)
        asked = [Question(Prompt((*told, *p.turns)) if told else p, self._shown) for p in prompts]
        tokens = mean(asked, self._count)
        return Range(tokens, tokens)

    def _plain(self, examples: Sequence[Example]) -> Range:
        """Within the words with which a text is to be mended, or marked."""
        tokens = mean([Question(e.whole or e.prompt) for e in examples], self._count) + WORDS_OF_MENDING
        return Range(tokens, tokens)

    def _is_read(self, example: Example) -> bool:
        """Whether a row brings an answer that the teacher does not give anew without having seen it."""
        if example.label is None or self._plan.use_responses:
            return False
        return self._plan.labels != "ignore" or self._is_golden(example)

    def _is_golden(self, example: Example) -> bool:
        return (example.prompt.messages[-1].text, example.label) in self._golden

    def _to_make(self, examples: Sequence[Example]) -> int:
        plan = self._plan.augment
        if plan is None or any(example.origin == "augmented" for example in examples):
            return 0
        return max(0, plan.to - sum(example.split != "held-out" for example in examples))


def counter(teacher: Teacher, student: str | None, settings: Settings) -> Callable[[Question], int]:
    """How many tokens the teacher reads of a question."""
    name = (teacher.tokenizer or student) if teacher.remote else teacher.model
    try:
        renderer = Renderer(Tokenizer.open(find(name or "", settings).path))
    except (InvalidInput, UnknownModel, DamagedArtifact):
        return lambda asked: round(
            sum(len(message.text.encode()) for message in asked.conversation.messages) / BYTES_A_TOKEN
        )
    return lambda asked: len(renderer.prompt(asked.conversation))


def mean(questions: Sequence[Question], count: Callable[[Question], int]) -> float:
    """Tokens of a question, by a sample of them."""
    sample = random.Random(0).sample(questions, min(SAMPLE, len(questions)))  # noqa: S311 (a sample, no secret)
    return sum(map(count, sample)) / len(sample) if sample else 0.0


def _at_least_none(asked: Asked) -> Asked:
    read, written = Range(0.0, asked.prompt_tokens.high), Range(0.0, asked.response_tokens.high)
    return Asked(asked.kind, asked.model, asked.questions, read, written)
