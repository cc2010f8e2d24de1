"""A teacher's distributions carried over to a student that writes in other tokens.

Legend: T response tokens, K candidates.

Two tokenizers cut one text in different places. A response token of the student is *covered* where the teacher has a
token of just the same bytes at the same place: then both were asked the same question after the same text. There each
candidate of the teacher becomes the student's token of the same bytes, the end of a turn the end of a turn, and a
candidate the student has no one token for counts to the rest. What is compared is exact as far as tokens of equal bytes
mean the same in both vocabularies.

Everywhere else nothing is guessed: a token that is not covered, or of whose candidates the student has none, has no
distribution, and is learned as text (`targets.Candidates`). Universal logit distillation compares only how likely the
first, second, third … candidate is, so for it all candidates stay, and a token is covered wherever a teacher's token
begins at the same place.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from limbeck.models.chat import Renderer
from limbeck.models.token_bytes import TokenBytes
from limbeck.records import SoftLabels

__all__ = ["NOBODY", "Crossing", "coverage"]

NOBODY = -1
"""The id of a candidate that is no one token of the student's."""


class Crossing:
    """From one teacher's tokens to one student's. Raises `NotYet` for a tokenizer whose bytes cannot be told."""

    def __init__(self, teacher: Renderer, student: Renderer, by_rank: bool) -> None:
        """``by_rank``: for objectives that compare ranks, not tokens."""
        self._teacher, self._student = TokenBytes(teacher.tokenizer), TokenBytes(student.tokenizer)
        self._ends = teacher.stop_ids, student.stop_ids
        self._by_rank = by_rank
        known = {token: self._student.find(stands_for) for token, stands_for in self._teacher.bytes_of.items()}
        known |= dict.fromkeys(teacher.stop_ids, student.end_id)
        self._map = np.full(max(known) + 1, NOBODY, np.int32)
        for token, counterpart in known.items():
            if counterpart is not None and (counterpart not in self._student.special or token in teacher.stop_ids):
                self._map[token] = counterpart

    def carry(self, soft: SoftLabels, theirs: Sequence[int], ours: Sequence[int], text: str) -> SoftLabels:
        """The soft labels of the teacher's tokens ``theirs``, for the student's tokens ``ours`` of the same text."""
        soft = soft.opened()  # once: what was packed is unpacked whole
        at = {span: place for place, span in enumerate(_spans(theirs, self._teacher, self._ends[0], text))}
        if self._by_rank:
            at = {(begin, begin): place for (begin, _), place in at.items()}
        ids_TK = np.full((len(ours), soft.k), NOBODY, np.int32)
        logprobs_TK = np.full((len(ours), soft.k), -np.inf, np.float32)
        tail_T = np.zeros(len(ours), np.float32)
        for place, (begin, end) in enumerate(_spans(ours, self._student, self._ends[1], text)):
            found = at.get((begin, begin if self._by_rank else end))
            if found is not None:
                ids = soft.top_ids_TK[found]
                ids_TK[place] = np.where(ids < len(self._map), self._map[np.minimum(ids, len(self._map) - 1)], NOBODY)
                logprobs_TK[place], tail_T[place] = soft.top_logprobs_TK[found], soft.tail_logprob_T[found]
                if not self._by_rank:
                    _add_up(ids_TK[place], logprobs_TK[place])
        return SoftLabels(ids_TK, logprobs_TK, tail_T)


def _add_up(ids_K: npt.NDArray[np.int32], logprobs_K: npt.NDArray[np.float32]) -> None:
    """Let candidates that became one token, as all that end an answer do, be one: the last has their mass together."""
    order_K = np.argsort(ids_K, kind="stable")
    sorted_K = ids_K[order_K]
    for at in np.flatnonzero((sorted_K[1:] == sorted_K[:-1]) & (sorted_K[1:] != NOBODY)):
        before, place = order_K[at], order_K[at + 1]
        logprobs_K[place] = np.logaddexp(logprobs_K[before], logprobs_K[place])
        logprobs_K[before], ids_K[before] = -np.inf, NOBODY


def coverage(soft: Sequence[SoftLabels], by_rank: bool) -> str:
    """How many tokens learn from distributions, and how many from the text, in words."""
    told_TK = [np.isfinite(one.top_logprobs_TK) & (by_rank | (one.top_ids_TK != NOBODY)) for one in soft]
    whole, covered = sum(map(len, told_TK)), sum(int(told.any(axis=1).sum()) for told in told_TK)
    return (
        f"{covered:,} of {whole:,} response tokens ({covered / max(1, whole):.1%}) learn from distributions;"
        f" the other {whole - covered:,} learn from the text, since its tokenizer cuts them otherwise or has none of"
        " their candidates"
    )


def _spans(tokens: Sequence[int], of: TokenBytes, ends: frozenset[int], text: str) -> list[tuple[int, int]]:
    """Where each token begins and ends in the text's bytes; nothing where the tokens do not spell it."""
    pieces = [b"" if token in ends else of.bytes_of.get(token, b"") for token in tokens]
    spelled = b"".join(pieces)
    if spelled == b" " + text.encode():  # some tokenizers put a space before every text
        pieces[0] = pieces[0][1:]
    elif spelled != text.encode():
        return []
    return list(pairwise(np.cumsum([0, *map(len, pieces)]).tolist()))
