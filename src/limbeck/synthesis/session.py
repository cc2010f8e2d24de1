"""One teacher being asked: who answers, how, what it sees, and where its answers are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from limbeck.records import Answer, Example, GenerationSettings, Question
from limbeck.storage.workspace import Workspace
from limbeck.synthesis.framing import Framing
from limbeck.teachers import Teacher, ask
from limbeck.teachers.labels import LEAST_MASS

__all__ = ["Session", "likelihood", "token_logprobs"]


@dataclass(frozen=True)
class Session:
    """A teacher with all that asking it takes."""

    teacher: Teacher
    settings: GenerationSettings
    framing: Framing
    store: Path
    work: Workspace

    def put(self, questions: Sequence[Question], name: str) -> list[Answer]:
        """The answers to ``questions``, each asked once ever; ``name`` is what progress shows."""
        if not questions:
            return []
        return ask(self.teacher, questions, self.settings, self.store, self.work.progress, self.work.stop, name)

    def key(self, example: Example) -> str:
        """Where the teacher's own answer to ``example`` is kept in the store."""
        return self.framing.question(example).key(self.teacher.stored_as(self.settings), self.settings)


def likelihood(answer: Answer) -> float | None:
    """The log-probability of an answer that was read; None where its teacher cannot be read."""
    found = token_logprobs(answer)
    return None if found is None else float(found[0].sum())


def token_logprobs(answer: Answer) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]] | None:
    """The log-probability of each token, and whether it is among the likeliest.

    For one that is not, that of all those outside together: more than its own. Where that is told as none, the last
    candidate's or `LEAST_MASS`, whichever is less: not -inf, which cannot be compared.
    """
    soft = answer.soft_labels
    if soft is None:
        return None
    found_TK = soft.top_ids_TK == np.asarray(answer.token_ids)[:, None]
    seen_T = found_TK.any(axis=1)
    inside_T = np.where(found_TK, soft.top_logprobs_TK, -np.inf).max(axis=1)
    most_T = np.minimum(soft.top_logprobs_TK.min(axis=1), np.float32(np.log(LEAST_MASS)))
    outside_T = np.where(np.isneginf(soft.tail_logprob_T), most_T, soft.tail_logprob_T)
    return np.where(seen_T, inside_T, outside_T), seen_T
