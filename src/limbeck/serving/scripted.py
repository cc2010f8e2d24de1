"""A replica that answers from a function, in memory: the twin of the real ones, for tests of whatever stands on them.

Its tokens are the bytes of UTF-8: prompt and answer of a test can be read. 0 ends the turn.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncGenerator, Callable, Sequence

from limbeck.errors import InvalidInput, ModelFailed
from limbeck.serving.base import Done, Generate, Piece, TokenLogprob
from limbeck.serving.stops import Stops

__all__ = ["ScriptedReplica"]


class ScriptedReplica:
    """Answers with ``script`` of the prompt's tokens, a character at a time."""

    pid: int | None = None

    def __init__(self, script: Callable[[Sequence[int]], str], context_tokens: int = 4096) -> None:
        self._script = script
        self._context_tokens = context_tokens
        self.alive = True
        self.under_way = 0
        """Answers begun and not yet ended."""
        self.asked: list[Generate] = []

    async def close(self) -> None:
        """End it; answers under way break off."""
        self.alive = False

    async def generate(self, asked: Generate) -> AsyncGenerator[Piece | Done, None]:
        """The answer in pieces, `Done` last; see `base.Replica`. The scripted text is certain: log-probability 0."""
        if len(asked.token_ids) >= self._context_tokens:
            raise InvalidInput(
                f"a prompt of {len(asked.token_ids):,} tokens; the script reads at most {self._context_tokens - 1:,}"
            )
        if asked.json_schema is not None or asked.grammar is not None:
            raise InvalidInput("a schema or grammar was given; only models hosted by llama.cpp follow one")
        self.asked.append(asked)
        self.under_way += 1
        try:
            async for said in self._said(asked):
                yield said
        finally:
            self.under_way -= 1

    async def _said(self, asked: Generate) -> AsyncGenerator[Piece | Done, None]:
        tokens = self._script(asked.token_ids).encode()
        room = min(asked.max_tokens, self._context_tokens - len(asked.token_ids))
        stops, characters = Stops(asked.stop), codecs.getincrementaldecoder("utf-8")()
        waiting: list[TokenLogprob] = []
        for count, token in enumerate(tokens[:room], 1):
            await asyncio.sleep(0)
            if not self.alive:
                raise ModelFailed("the script was ended")
            character = characters.decode(bytes([token]))
            if not character:
                continue
            text, stop = stops.feed(character)
            if asked.logprobs:
                waiting.append(TokenLogprob(token, character, 0.0, ((token, character, 0.0),)))
            if text:
                # Characters held back for a stop sequence come with the one that shows it was none.
                shown, waiting = waiting[: len(text)], waiting[len(text) :]
                yield Piece(text, tuple(shown))
            if stop is not None:
                yield Done("stop_sequence", len(asked.token_ids), count, stop)
                return
        if rest := stops.rest():
            yield Piece(rest, tuple(waiting))
        ended = len(tokens) < room
        yield Done("end" if ended else "length", len(asked.token_ids), min(len(tokens), room))
