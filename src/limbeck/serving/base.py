"""What a replica is asked, and what it says. Knows neither conversations (tokens go in) nor any engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from limbeck.models.catalog import ModelSource

__all__ = ["Done", "Generate", "Piece", "Pool", "Replica", "TokenLogprob"]


@dataclass(frozen=True)
class Generate:
    """A request for one answer."""

    token_ids: tuple[int, ...]
    """The prompt, rendered."""
    max_tokens: int
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """Sample among so many of the likeliest tokens; 0 is all."""
    seed: int = 0
    stop: tuple[str, ...] = ()
    """Texts at which the answer ends; they are not part of it."""
    json_schema: Mapping[str, Any] | None = None
    """The answer is JSON of this schema, by grammar."""
    grammar: str | None = None
    """The answer fits this grammar, in llama.cpp's GBNF. At most one of the two is given."""
    logprobs: int = 0
    """How many of the likeliest tokens are told at each position, with their log-probabilities."""


@dataclass(frozen=True)
class TokenLogprob:
    """A token of the answer, as text, and its log-probability under the model's own distribution."""

    token_id: int
    text: str
    logprob: float
    top: tuple[tuple[int, str, float], ...] = ()
    """The likeliest tokens there: id, text, log-probability."""


@dataclass(frozen=True)
class Piece:
    """Some more of the answer."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Done:
    """The end of the answer: why, and what it took."""

    reason: Literal["end", "length", "stop_sequence"]
    prompt_tokens: int
    response_tokens: int
    """Tokens generated, the one that ends the turn not counted."""
    stop_sequence: str | None = None


class Replica(Protocol):
    """One model, ready to answer."""

    def generate(self, asked: Generate) -> AsyncIterator[Piece | Done]:
        """The answer in pieces, `Done` last. Raises `ModelFailed`, `ModelTimedOut` or `InvalidInput`.

        Closing the iterator early frees the replica's slot.
        """


class Pool(Protocol):
    """The replicas of this process's family."""

    async def replica(self, source: ModelSource) -> Replica:
        """A replica of the model, loaded if need be. Raises `NotReady` when that takes longer than a client waits."""
