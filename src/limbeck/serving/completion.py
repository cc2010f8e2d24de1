"""Asking a replica's process for an answer: llama.cpp's own `/completion`, streamed over loopback.

Both kinds of process speak it (llama.cpp's server, and `reference_process`), so this is the one client. A connection
serves one answer: llama.cpp ends it after a stream, whatever its headers promise. Closing it early is how an answer
is canceled.

    request     prompt as token ids, n_predict, sampling, n_probs, json_schema or grammar; see `CompletionReplica`
    event       {"content", "tokens_predicted", "completion_probabilities"}, a line that begins "data: "
    last event  {"stop": true, "content", "stop_type", "tokens_predicted"}

Checked against llama.cpp b11549 (tools/server/README.md, "POST /completion").
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from pydantic_core import from_json, to_json

from limbeck.errors import InvalidInput, LimbeckError, ModelFailed, ModelTimedOut
from limbeck.inference.process import Process
from limbeck.serving.base import Done, Generate, Piece, TokenLogprob
from limbeck.serving.exchange import BrokenOff, Stalled, exchange
from limbeck.serving.stops import Stops

__all__ = ["CompletionReplica", "NeverAsked"]

SEED_MASK = 0x7FFF_FFFF
"""llama.cpp takes 32 bits, and reads the highest of them all set as "any seed"."""

_EVENT_END = b"\n\n"


class NeverAsked(ModelFailed):
    """The process was gone before it saw the request: another one may be asked."""


class CompletionReplica:
    """A model in a process of its own."""

    def __init__(self, process: Process, stall_seconds: float) -> None:
        """``stall_seconds``: a process that says nothing for so long is taken to hang."""
        self.process = process
        self._stall_seconds = stall_seconds
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.alive

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    async def close(self) -> None:
        """End the process; answers under way break off."""
        self._closed = True
        await self.process.close()

    async def generate(self, asked: Generate) -> AsyncGenerator[Piece | Done, None]:
        """The answer in pieces, `Done` last; see `base.Replica`."""
        prompt_tokens = len(asked.token_ids)
        if prompt_tokens >= self.process.context_tokens:
            raise InvalidInput(
                f"a prompt of {prompt_tokens:,} tokens; {self.process.what} reads at most"
                f" {self.process.context_tokens - 1:,}"
            )
        stops, shown = Stops(asked.stop), _Shown()
        async with aclosing(self._events(await self._request(asked))) as events:
            async for event in events:
                text, stop = stops.feed(event["content"])
                last = event["stop"] and stop is None
                if last:
                    text += stops.rest()
                logprobs = shown.logprobs(text, event.get("completion_probabilities", ()))
                if text:
                    yield Piece(text, logprobs)
                if stop is not None:
                    yield Done("stop_sequence", prompt_tokens, event["tokens_predicted"], stop)
                    return
                if last:
                    ended = event["stop_type"] == "eos"
                    tokens = event["tokens_predicted"] - ended
                    yield Done("end" if ended else "length", prompt_tokens, tokens)

    async def _request(self, asked: Generate) -> dict[str, Any]:
        """The body of the request. Raises `InvalidInput` for what this kind of replica cannot do."""
        greedy = asked.temperature == 0
        return {
            "prompt": asked.token_ids,
            "n_predict": asked.max_tokens,
            # These samplers in this order and no other: no penalties, no min-p; nucleus after temperature, as in
            # transformers and in `inference.engine`.
            "samplers": ["top_k"] if greedy else ["top_k", "temperature", "top_p"],
            "temperature": 1.0 if greedy else asked.temperature,
            "top_k": 1 if greedy else asked.top_k,
            "top_p": asked.top_p,
            "seed": asked.seed & SEED_MASK,
            "n_probs": asked.logprobs,
            "cache_prompt": True,
            "stream": True,
            # Without them the last event repeats the prompt.
            "response_fields": ["stop", "content", "stop_type", "tokens_predicted"],
        }

    async def _events(self, request: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        if not self.alive or self._closed:
            raise NeverAsked(f"{self.process.what}: its process has ended")
        body, headers = to_json(request), {"Authorization": f"Bearer {self.process.key}"}
        try:
            async with exchange(self.process.port, "/completion", headers, body, self._stall_seconds) as answer:
                if await answer.wait_for_head() != 200:
                    raise self._refusal(await answer.read_all())
                waiting = b""
                while chunk := await answer.read():
                    *lines, waiting = (waiting + chunk).split(_EVENT_END)
                    for line in lines:
                        event = from_json(line.partition(b": ")[2])
                        if "error" in event:
                            raise self._refusal(line.partition(b": ")[2])
                        yield event
                        if event["stop"]:
                            return
        except ConnectionRefusedError:
            raise NeverAsked(str(await self.process.failure())) from None
        except Stalled:
            raise ModelTimedOut(
                f"{self.process.what}: not a token for {self._stall_seconds:g} seconds; the answer was given up"
            ) from None
        except (BrokenOff, OSError):
            raise await self.process.failure() from None
        raise await self.process.failure()

    def _refusal(self, body: bytes) -> LimbeckError:
        """The error for what the process refused to do, or could not go on with."""
        try:
            error = json.loads(body)["error"]
            kind, message = error["type"], error["message"]
        except (ValueError, KeyError, TypeError):
            kind, message = "unknown", body.decode(errors="replace")
        if kind == "invalid_request_error":
            return InvalidInput(f"{self.process.what} refuses the request: {message}")
        return ModelFailed(f"{self.process.what}: {message}")


class _Shown:
    """Which tokens' text has been shown: a token is told of with the piece that holds its first character.

    A character of several tokens comes from llama.cpp as one token, the last of them, with the whole text. Tokens
    without text (the end of the turn) and those of a stop sequence are not told of.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[int, TokenLogprob]] = []
        self._said = self._shown = 0  # characters

    def logprobs(self, text: str, found: Sequence[Mapping[str, Any]]) -> tuple[TokenLogprob, ...]:
        for token in found:
            if token["bytes"]:
                self._waiting.append((self._said, _logprob(token)))
                self._said += len(self._waiting[-1][1].text)
        self._shown += len(text)
        count = sum(start < self._shown for start, _ in self._waiting)
        ready, self._waiting = self._waiting[:count], self._waiting[count:]
        return tuple(token for _, token in ready)


def _logprob(token: Mapping[str, Any]) -> TokenLogprob:
    top = tuple((other["id"], other["token"], other["logprob"]) for other in token["top_logprobs"])
    return TokenLogprob(token["id"], token["token"], token["logprob"], top)
