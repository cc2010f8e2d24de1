"""Batches that the student writes itself and the teacher scores: on-policy distillation (GKD, arXiv:2306.13649,
algorithm 1).

A share of the optimizer steps takes its batch's prompts, lets the student as it is now answer them, and compares the
two models' whole distributions at the student's own tokens. No gradient goes through the sampling. Which steps these
are and what is drawn in them depend on the seed, the step and the student's weights alone, so a run that is broken off
and resumed writes the same texts.

Who the teacher is and how it sees a prompt is the caller's affair: it gives a function that scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from limbeck.inference.engine import Engine, common_prefix
from limbeck.models.loading import LoadedModel
from limbeck.models.packing import Tokens
from limbeck.recipe import OnPolicy
from limbeck.records import GenerationSettings
from limbeck.training.examples import TrainingExample

__all__ = ["Sampling", "Score"]

Score = Callable[[Sequence[Tokens]], Callable[[slice], Tensor]]
"""A teacher that reads sequences, and gives its logits_CV at any slice of their response positions, end to end."""


@dataclass(frozen=True)
class Sampling:
    """How a student's own batches come about."""

    student: LoadedModel
    score: Score
    prompts: Sequence[tuple[Sequence[int], Sequence[int]]]
    """For each training example the tokens of its prompt, as the student sees it and as the teacher does."""
    plan: OnPolicy
    max_tokens: int
    """The longest answer."""
    seed: int
    kept: Sequence[int] | None = None
    """Where the student's vocabulary is a part of the teacher's: the teacher's id of each of its tokens."""
    read: int | None = None
    """The most tokens, prompt and answer, that the teacher reads; None for at least as many as the student."""

    def takes(self, step: int) -> bool:
        """Whether the batch of ``step`` is the student's own."""
        return bool(np.random.default_rng([self.seed, step]).random() < self.plan.share)

    def batch(
        self, step: int, chosen: Sequence[int], check: Callable[[], None] = lambda: None
    ) -> list[TrainingExample]:
        """What the student answers now to the prompts of the ``chosen`` examples. ``check`` may raise to stop."""
        prompts = [self.prompts[i] for i in chosen]
        seen = [own for own, _ in prompts]
        settings = GenerationSettings(self.max_tokens, self.plan.temperature, self.plan.top_p, self.seed)
        keys = [f"on-policy {step} {place}" for place in range(len(chosen))]
        self.student.model.eval()
        # A new engine each time: one would keep the prefix as weights of an earlier step read it.
        answers = Engine(self.student).generate(seen, settings, keys, common_prefix(seen), check)
        made = []
        for answer, (own, teachers) in zip(answers, prompts, strict=True):
            written = answer.token_ids[: self._room(own, teachers)]
            named = written if self.kept is None else tuple(self.kept[token] for token in written)
            read_as = Tokens((*teachers, *named), len(teachers))
            made.append(TrainingExample(Tokens((*own, *written), len(own)), None, read_as))
        return made

    def _room(self, own: Sequence[int], teachers: Sequence[int]) -> int:
        """The most tokens of an answer that both read after their prompts; the last one is only predicted."""
        student = self.student.sequence_tokens
        return 1 + max(0, min(student - len(own), (self.read or student) - len(teachers)))

    def scored(self, read_as: Sequence[Tokens]) -> Callable[[slice], Tensor]:
        """The teacher's logits_CV at any slice of what the student wrote, of the student's tokens alone."""
        logits = self.score(read_as)
        if self.kept is None:
            return logits
        kept = torch.tensor(self.kept, device=self.student.model.device)
        return lambda chunk: logits(chunk).index_select(-1, kept)
