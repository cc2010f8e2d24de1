"""A judge: a model that marks answers by a rubric. Its mark is constrained to the scale, so it always gives one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from limbeck import rubrics
from limbeck.errors import InvalidInput, LimbeckError
from limbeck.rubrics import Rubric
from limbeck.serving.chat import Conversation, Sampling, Turn
from limbeck.worker.answering import Answering

__all__ = ["RUBRICS", "Judge", "Judged", "Rubric", "rubric_of"]

AT_ONCE = 16


class Judged(Protocol):
    """What is judged: a prompt, and the answer hoped for if one is known."""

    @property
    def where(self) -> str:
        """Its place in what the user gave."""

    @property
    def prompt(self) -> str:
        """The request."""

    @property
    def reference(self) -> str | None:
        """The answer hoped for."""


RUBRICS: Mapping[str, Rubric] = {f"Builtin.{name}": rubric for name, rubric in rubrics.BUILTIN.items()}


def rubric_of(definition: Mapping[str, Any]) -> Rubric:
    """A user's own metric: its instructions, and its scale, by default from 0 to 10."""
    scale: list[tuple[str, float]] = []
    for rating in definition.get("ratingScale", []):
        value = rating["value"]
        number = float(value["floatValue"]) if "floatValue" in value else float(len(scale))
        scale.append((str(rating["definition"]), number))
    return Rubric(definition["instructions"], tuple(scale) or tuple((str(mark), float(mark)) for mark in range(11)))


class Judge:
    """Marks answers, several at once. ``check`` is called between, and may raise to stop."""

    def __init__(self, model: str, models: Answering, check: Callable[[], None]) -> None:
        self._model, self._models, self._check = model, models, check

    async def marks(self, rubric: Rubric, items: Sequence[Judged], answers: Sequence[str]) -> list[tuple[float, str]]:
        """The value of the mark and the explanation, for each answer."""
        schema = {
            "type": "object",
            "properties": {
                "explanation": {"type": "string", "maxLength": 300},
                "mark": {"type": "string", "enum": [mark for mark, _ in rubric.scale]},
            },
            "required": ["explanation", "mark"],
        }
        sampling = Sampling(max_tokens=256, temperature=0.0, json_schema=schema)
        found: list[tuple[float, str]] = []
        for start in range(0, len(items), AT_ONCE):
            self._check()
            some = items[start : start + AT_ONCE]
            asked = [
                Conversation((Turn("user", (rubrics.question(rubric, one.prompt, one.reference, answer),)),), sampling)
                for one, answer in zip(some, answers[start : start + AT_ONCE], strict=True)
            ]
            for one, said in zip(some, await self._models.ask_all(self._model, asked), strict=True):
                if isinstance(said, InvalidInput):
                    raise InvalidInput(f"{one.where}, with its answer before the judge: {said}")
                if isinstance(said, LimbeckError):
                    raise said
                found.append(_mark(rubric, said.text))
        return found


def _mark(rubric: Rubric, text: str) -> tuple[float, str]:
    """The mark in a judge's answer. One cut off before its mark counts as the worst, and says so."""
    mark, explanation = rubrics.read_mark(rubric, text)
    if mark is None:
        return min(value for _, value in rubric.scale), f"the judge did not come to a mark: {text[:200]}"
    return mark, explanation
