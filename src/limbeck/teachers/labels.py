"""Log-probabilities as OpenAI's chat completions tell them, turned into soft labels, if that can be done exactly.

    "logprobs": {"content": [{"token", "logprob", "bytes", "top_logprobs": [{"token", "logprob", "bytes"}, …]}, …]}

A distribution is of use only over the student's own tokens, so every token told must be found in the tokenizer: by
its id where the service tells one (llama.cpp's ``id``, vLLM's ``token_id:123``), and then its bytes must be that id's;
else by its bytes, where exactly one token has them. Nothing is guessed: an answer of which one token is not found, or
whose tokens do not spell its text, or whose end no token tells of, is text alone, and the reason is kept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from limbeck.models.token_bytes import TokenBytes
from limbeck.records import SoftLabels, digest

__all__ = ["LEAST_MASS", "Labels", "Unmatched", "tail"]

LEAST_MASS = 1e-6
"""What the candidates leave is rounding error below this, and told as none."""

_NUMBERED = re.compile(r"token_id:(\d{1,9})")


class Unmatched(Exception):
    """Why an answer is text alone."""


@dataclass(frozen=True)
class Labels:
    """Reads the log-probabilities of one teacher's answers."""

    tokens: TokenBytes
    end_ids: frozenset[int]
    """Tokens that end an answer."""

    @cached_property
    def digest(self) -> str:
        """Changes if and only if what is read may."""
        spelled = {token: stands_for.hex() for token, stands_for in self.tokens.bytes_of.items()}
        return digest([spelled, self.tokens.special, sorted(self.end_ids)])

    def read(self, told: Any, text: str, ended: bool, k: int) -> tuple[tuple[int, ...], SoftLabels]:
        """The answer's tokens and its soft labels. ``ended``: by itself, so its last token is one of `end_ids`.

        Raises `Unmatched`.
        """
        content = told.get("content") if isinstance(told, Mapping) else None
        if not isinstance(content, list) or not content:
            raise Unmatched("the service tells no log-probabilities")
        ids = tuple(self._token(entry) for entry in content)
        body = ids[:-1] if ids[-1] in self.end_ids else ids
        if ended and len(body) == len(ids):
            raise Unmatched("the service tells no log-probability of the token that ends the answer")
        spelled = b"".join(self.tokens.bytes_of.get(token, b"") for token in body)
        if text.encode() not in (spelled, spelled.removeprefix(b" ")):
            raise Unmatched("the tokens told do not spell the answer")
        rows = [self._candidates(entry, place, k) for place, entry in enumerate(content)]
        top_logprobs_TK = np.array([[logprob for _, logprob in row] for row in rows], np.float32)
        top_ids_TK = np.array([[token for token, _ in row] for row in rows], np.int32)
        return ids, SoftLabels(top_ids_TK, top_logprobs_TK, tail(top_logprobs_TK))

    def _candidates(self, entry: Mapping[str, Any], place: int, k: int) -> list[tuple[int, float]]:
        found = entry.get("top_logprobs")
        if not isinstance(found, list) or len(found) < k:
            count = len(found) if isinstance(found, list) else 0
            raise Unmatched(f"{count} candidates at position {place}; expected {k}")
        row = sorted(((self._token(one), _logprob(one)) for one in found), key=lambda pair: -pair[1])[:k]
        if len({token for token, _ in row}) < k or math.fsum(math.exp(logprob) for _, logprob in row) > 1.01:
            raise Unmatched(f"the candidates at position {place} are no distribution")
        return row

    def _token(self, entry: Any) -> int:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("token"), str):
            raise Unmatched("its log-probabilities have another form")
        name, stands_for = entry["token"], _bytes(entry)
        numbered = _NUMBERED.fullmatch(name)
        if numbered:
            told: Any = int(numbered[1])
            stands_for = None
        else:
            told = entry.get("id")
        if type(told) is int:
            special = self.tokens.special.get(told)
            known = self.tokens.bytes_of.get(told, None if special is None else b"")
            if known is None or not (stands_for in (None, known) or name == special):
                raise Unmatched(f'token {told} is "{name}" there, and another in the tokenizer')
            return told
        found = self.tokens.find(name.encode(errors="replace") if stands_for is None else stands_for)
        if found is None:
            raise Unmatched(f'"{name}" is no token of the tokenizer, or several')
        return found


def tail(top_logprobs_TK: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """log of the mass outside the candidates, which nobody tells: what is missing from 1.

    Less exact than a log-sum-exp over the rest where the candidates hold nearly everything: there it is the rounding
    error of the sum, and no mass at all below `LEAST_MASS`.
    """
    rest_T = 1.0 - np.exp(top_logprobs_TK.astype(np.float64)).sum(axis=1)
    with np.errstate(divide="ignore"):
        logarithm_T: np.ndarray[Any, np.dtype[np.float32]] = np.log(np.where(rest_T > LEAST_MASS, rest_T, 0.0)).astype(
            np.float32
        )
    return logarithm_T


def _bytes(entry: Mapping[str, Any]) -> bytes | None:
    told = entry.get("bytes")
    if told is None:
        return None
    if not isinstance(told, Sequence) or not all(type(byte) is int and 0 <= byte < 256 for byte in told):
        raise Unmatched("its log-probabilities have another form")
    return bytes(told)


def _logprob(entry: Mapping[str, Any]) -> float:
    told = entry.get("logprob")
    if type(told) not in (int, float) or not -1e4 < told <= 1e-3:  # type: ignore[operator]
        raise Unmatched("a log-probability that is none")
    return min(float(told), 0.0)  # type: ignore[arg-type]
