"""Llama's native body: a prompt with whatever control tokens it brings, and its continuation.

    {"prompt": …, "max_gen_len": …, "temperature": …, "top_p": …}

For imported models this is the form AWS calls BedrockCompletion, which has log-probabilities and a response format
besides. Left out, max_gen_len is 512, temperature 0.5 and top_p 0.9, as Llama on Bedrock has them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from limbeck.serving.base import TokenLogprob
from limbeck.serving.calls import Text
from limbeck.serving.chat import Answer, Completion, Event, Finish, Sampling
from limbeck.wire.bodies.base import JSON, Body, told_at_once
from limbeck.wire.bodies.formats import ResponseFormat

__all__ = ["FORM", "IMPORTED_FORM", "Llama"]

FORM = '"prompt" and "max_gen_len" (Llama)'
IMPORTED_FORM = '"prompt" and "max_gen_len" (BedrockCompletion)'

END = ("prompt_token_count", "generation_token_count", "stop_reason")


class LlamaBody(Body):
    """What a base or custom model takes."""

    prompt: Annotated[str, Field(min_length=1)]
    max_gen_len: Annotated[int, Field(ge=1)] = 512
    temperature: Annotated[float, Field(ge=0, le=1)] = 0.5
    top_p: Annotated[float, Field(ge=0, le=1)] = 0.9


class ImportedBody(LlamaBody):
    """What an imported model takes besides."""

    top_k: Annotated[int, Field(ge=0)] = 0
    stop: Annotated[tuple[str, ...], BeforeValidator(lambda stop: (stop,) if isinstance(stop, str) else stop)] = ()
    return_logprobs: bool = False
    response_format: ResponseFormat | None = None


class Llama:
    """One prompt, and its answer as Llama gives it."""

    def __init__(self, body: Mapping[str, Any], imported: bool) -> None:
        """Raises `Refused` with every fault."""
        with told_at_once("BedrockCompletion" if imported else "Llama body"):
            asked = ImportedBody.model_validate(body) if imported else LlamaBody.model_validate(body)
        more = asked if isinstance(asked, ImportedBody) else ImportedBody(prompt=asked.prompt)
        self._logprobs = more.return_logprobs
        sampling = Sampling(
            max_tokens=asked.max_gen_len,
            temperature=asked.temperature,
            top_p=asked.top_p,
            top_k=more.top_k,
            stop=more.stop,
            json_schema=more.response_format.schema_asked if more.response_format else None,
            logprobs=int(more.return_logprobs),
        )
        self.question = Completion(asked.prompt, sampling)

    def whole(self, answer: Answer) -> JSON:
        """See `Asked.whole`."""
        told = self._piece(answer.text, answer.logprobs)
        return {**told, **_end(answer.finish)}

    async def parts(self, events: AsyncIterator[Event]) -> AsyncGenerator[JSON, None]:
        """See `Asked.parts`: the same members; counts and reason are null until the last."""
        not_yet = dict.fromkeys(END)
        async for event in events:
            if isinstance(event, Text):
                yield {**self._piece(event.text, event.logprobs), **not_yet}
            elif isinstance(event, Finish):
                yield {**self._piece("", ()), **_end(event)}

    def _piece(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> JSON:
        told: JSON = {"generation": text}
        if self._logprobs:
            told["logprobs"] = [{str(token.token_id): token.logprob} for token in logprobs]
        return told


def _end(finish: Finish) -> JSON:
    cut = finish.reason in ("max_tokens", "model_context_window_exceeded")
    return dict(zip(END, (finish.input_tokens, finish.output_tokens, "length" if cut else "stop"), strict=True))
