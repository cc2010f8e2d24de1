"""Lessons in the ids of a vocabulary that was trimmed to what they have (`limbeck.models.trimming`).

Legend: T response tokens, K candidates.

Tokens of the lessons are all kept. Of the teacher's candidates some are not: what it gave those counts to the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from limbeck.models.packing import Tokens
from limbeck.records import SoftLabels, SoftLabelsLater
from limbeck.training.crossing import NOBODY
from limbeck.training.examples import TrainingExample

__all__ = ["Renumbering"]


class Renumbering:
    """From a whole vocabulary's ids to those of a part of it."""

    def __init__(self, place: Mapping[int, int]) -> None:
        """``place``: the new id of each token that is kept."""
        self._place = place
        self._new = np.full(max(place) + 2, NOBODY, np.int32)  # the last stands for all beyond
        self._new[list(place)] = list(place.values())

    def examples(self, lessons: Iterable[TrainingExample]) -> list[TrainingExample]:
        """The lessons in new ids. Soft labels that lie in a file stay there until they are looked at."""
        return [
            replace(
                one,
                tokens=Tokens(
                    tuple(self._place[token] for token in one.tokens.ids), one.tokens.response_start, one.tokens.read
                ),
                soft_labels=None if one.soft_labels is None else self._later(one.soft_labels),
            )
            for one in lessons
        ]

    def labels(self, soft: SoftLabels) -> SoftLabels:
        """Soft labels in new ids, `NOBODY` for a candidate that is gone."""
        soft = soft.opened()
        new_TK = self._new[np.minimum(soft.top_ids_TK, len(self._new) - 1)]
        return SoftLabels(new_TK, soft.top_logprobs_TK, soft.tail_logprob_T)

    def _later(self, soft: SoftLabels) -> SoftLabels:
        return SoftLabelsLater(soft.k, lambda: self.labels(soft))
