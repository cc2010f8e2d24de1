"""Who is examined: a model in this process, or a teacher over the network. All that differs between the two is here.

A model in this process is timed request by request, under the same conditions as the others. A teacher over the
network is never asked again for the clock's sake, since that would cost: its latency is how long the examination's own
requests took, several at once and with the way there and back, and is marked as that. One that answers from a process
beside this one costs nothing: it is asked again, one question after another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from limbeck.evaluation.latency import WARM_UP, Latency
from limbeck.inference.engine import Engine
from limbeck.models.loading import LoadedModel
from limbeck.records import Answer, Example, GenerationSettings, Question
from limbeck.teachers import Teacher
from limbeck.teachers.local import LocalTeacher
from limbeck.teachers.remote import RemoteTeacher

__all__ = ["Candidate"]


def _plainly(example: Example) -> Question:
    return Question(example.prompt, place=example.place)


@dataclass(frozen=True)
class Candidate:
    """The part played (teacher, student before, student after) and who plays it."""

    part: str
    model: LoadedModel | RemoteTeacher
    ask: Callable[[Example], Question] = _plainly
    """How it is asked about a row: a teacher may have a context of its own."""

    @property
    def teacher(self) -> Teacher:
        """Whom to ask."""
        return LocalTeacher(self.model) if isinstance(self.model, LoadedModel) else self.model

    def requester(self, settings: GenerationSettings) -> Callable[[Question], int] | None:
        """One request as a caller makes it: text in, text out, nothing kept from the last; gives its tokens.

        None for a teacher outside this process.
        """
        if not isinstance(self.model, LoadedModel):
            return None
        engine = Engine(self.model)

        def request(question: Question) -> int:
            tokens = engine.renderer.prompt(question.conversation)
            return len(engine.generate([tokens], settings)[0].token_ids)

        return request

    def latency(
        self,
        answers: Sequence[Answer],
        questions: Sequence[Question],
        settings: GenerationSettings,
        check: Callable[[], None],
    ) -> Latency:
        """How long a teacher over the network took for each of ``answers``, or another takes for ``questions``."""
        assert isinstance(self.model, RemoteTeacher), "a model here is timed by its requester"
        alone = self.model.alone()
        if alone is not None:
            asked = [*questions[:WARM_UP], *questions]
            by_place = dict(one for some in alone.answers(asked, settings, check=check) for one in some)
            answers = [by_place[at] for at in range(WARM_UP, len(asked))]
        seconds = [answer.seconds or 0.0 for answer in answers]
        tokens = sum(answer.response_tokens for answer in answers)
        return Latency(
            float(np.quantile(seconds, 0.5)),
            float(np.quantile(seconds, 0.95)),
            tokens / max(sum(seconds), 1e-9) if all(answer.is_counted for answer in answers) else None,
            len(seconds),
            self.model.endpoint.place,
            at_once=alone is None,
        )

    def facts(self, rows: Sequence[Example], answers: Sequence[Answer]) -> dict[str, Any]:
        """Name, size, and the US dollars that 1,000 requests like these cost.

        No cost where there are no prices, and where a service did not tell what it read and wrote.
        """
        known: dict[str, Any] = {"id": self.model.id, "parameters": self.model.parameters}
        if isinstance(self.model, LoadedModel):
            prices, render = self.model.source.prices, self.model.renderer
            tokens_in = sum(len(render.prompt(self.ask(row).conversation)) for row in rows)
            tokens_out = sum(len(render.response(answer.text)) for answer in answers)
        else:
            told = all(answer.prompt_tokens and answer.is_counted for answer in answers)
            prices = self.model.prices if told else None
            tokens_in = sum(answer.prompt_tokens for answer in answers)
            tokens_out = sum(answer.response_tokens for answer in answers)
        if prices is not None:
            cost = prices.cost(tokens_in / len(answers), tokens_out / len(answers))
            known["cost_per_1000_requests"] = 1000 * cost
        return known
