"""What advice is made of: the counts of a job's data and models, and one piece of advice.

A model's class stands for the three sizes of Amazon's guides, which publish no numbers of weights: a model whose id
says Micro, Lite or Pro is what it says; of any other the number of weights decides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from limbeck.records import Report

__all__ = ["Advice", "Counts", "ModelClass", "Outcome", "Stance", "model_class"]

ModelClass = Literal["micro", "lite", "pro"]

LITE, PRO = 10e9, 50e9
"""From so many weights on a model is reckoned as Lite, and as Pro. A choice of ours: no sizes are published."""

SMALL = 1e9
"""Below so many weights our own measurements apply."""

Stance = Literal["fine", "consider", "mind"]
"""The job does what is advised; it could be done better; it will not do what it seems to say."""


@dataclass(frozen=True)
class Counts:
    """What there is to learn from, and who learns."""

    rows: int
    """Valid rows of the prompt files, those folded into others among them."""
    prompts: int
    """Different prompts."""
    training: int
    """Those of them that are trained on."""
    labelled: int
    """Different prompts with an answer."""
    contradictions: int = 0
    """Rows whose answer is not the one kept for the same prompt."""
    systems: int = 0
    """Different system prompts."""
    without_system: int = 0
    """Different prompts that have none."""
    golden: int = 0
    """Pairs shown to the teacher."""
    validation: int = 0
    held_out: int = 0
    unseen_words: float = 0.0
    """Share of the held-out prompts' words that no trained prompt has."""
    student_parameters: int | None = None
    teacher_parameters: int | None = None

    @property
    def copies(self) -> float:
        """Rows a prompt."""
        return self.rows / self.prompts if self.prompts else 1.0


@dataclass(frozen=True)
class Outcome:
    """What was measured when the job was done, by part played."""

    metric: str
    scores: dict[str, float]
    """Means of the metric."""
    latency: dict[str, float]
    """Median seconds a request."""
    tolerance: float

    @classmethod
    def of(cls, report: Report) -> Outcome:
        """What a report says, of the parts that were scored by the metric its verdict goes by."""
        metric = report.details["metric"]
        return cls(
            metric,
            {part: found[metric]["value"] for part, found in report.models.items() if metric in found},
            {part: found["latency"]["p50"] for part, found in report.models.items() if "latency" in found},
            report.details["tolerance"],
        )


@dataclass(frozen=True)
class Advice:
    """One piece of advice, with its reason and the rule it comes from."""

    rules: tuple[str, ...]
    """T1 to T20, as the reference numbers them; M1 is of our own measuring."""
    about: str
    """The key of the recipe, or the part of the data, that it is about."""
    stance: Stance
    text: str
    reason: str
    source: str
    """Who says so."""
    value: Any = None
    """The value advised, where there is one."""
    measured: str = ""
    """What was measured here, where that is something else."""

    @property
    def brief(self) -> str:
        """What to do, for a log: the reasons are in the job's folder."""
        but = f" Measured here: {self.measured}." if self.measured else ""
        return f"{self.about}: {self.text} ({'/'.join(self.rules)}).{but}"

    def __str__(self) -> str:
        """One line: for a terminal, for a log."""
        but = f" Measured here: {self.measured}." if self.measured else ""
        return f"{self.about}: {self.text} ({self.reason}; {self.source}, {'/'.join(self.rules)}).{but}"


def model_class(name: str, parameters: int | None) -> ModelClass:
    """Micro, Lite or Pro: by name, or by size; Micro where nothing is known."""
    said = re.search(r"\b(micro|lite|pro)\b", name.lower())
    if said:
        return said[1]  # type: ignore[return-value]
    size = parameters or 0
    return "pro" if size >= PRO else "lite" if size >= LITE else "micro"
