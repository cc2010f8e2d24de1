"""OpenAI's chat completions and completions: what imported models take as a body, and the OpenAI endpoint's own form.

Members that ask for something not done here are refused when they do ask for it (``n`` above 1, penalties, audio);
those that change no answer (``user``, ``metadata``, ``store``) are taken and ignored.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from limbeck.errors import InvalidInput
from limbeck.serving.base import TokenLogprob
from limbeck.serving.calls import Call, CallBegins, CallInput, Text, Tool
from limbeck.serving.chat import Answer, Completion, Conversation, Event, Finish, Media, Result, Sampling, Turn
from limbeck.wire.bodies.base import JSON, Body, told_at_once
from limbeck.wire.bodies.formats import ResponseFormat, StructuredOutputs

__all__ = ["CHAT_FORM", "COMPLETION_FORM", "ChatCompletion", "TextCompletion"]

CHAT_FORM = '"messages" and "max_tokens" (OpenAIChatCompletion)'
COMPLETION_FORM = '"prompt" and "max_tokens" (OpenAICompletion)'

FINISH_REASONS = {
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}
"""OpenAI's words for why an answer ended; all others are ``stop``."""

Zero = Annotated[float, Field(ge=0, le=0)]


class StreamOptions(Body):
    """``stream_options``."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Asking(Body):
    """What both forms have."""

    model: str = ""
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(ge=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    n: Literal[1] | None = None
    stop: str | tuple[str, ...] | None = None
    seed: int | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    logit_bias: Annotated[dict[str, float] | None, Field(max_length=0)] = None
    user: str | None = None
    metadata: Annotated[dict[str, str] | None, Field(max_length=16)] = None

    def sampling(self, max_tokens: int | None, logprobs: int) -> Sampling:
        """How the answer is to be made."""
        structured = self.structured_outputs
        schema = self.response_format.schema_asked if self.response_format else None
        return Sampling(
            max_tokens=max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            seed=None if self.seed is None else self.seed % 2**31,
            stop=(self.stop,) if isinstance(self.stop, str) else self.stop or (),
            json_schema=schema or (structured.json_asked if structured else None),
            grammar=structured.grammar_asked if structured else None,
            logprobs=logprobs,
        )


def _the_only(prompt: Any) -> Any:
    """A list of one prompt is that prompt, as OpenAI has it."""
    return prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt


class CompletionBody(Asking):
    """A text to go on with."""

    prompt: Annotated[str, BeforeValidator(_the_only), Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] = 16
    logprobs: Annotated[int | None, Field(ge=0, le=5)] = None
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    suffix: None = None


class Function(Body):
    """A function's name, and what is told of it."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool | None = None


class FunctionTool(Body):
    """A tool."""

    type: Literal["function"]
    function: Function


class Named(Body):
    """``{"type": "function", "function": {"name": …}}``."""

    class Name(Body):
        """Which function."""

        name: str

    type: Literal["function"]
    function: Name


class Called(Body):
    """A call in an assistant's turn."""

    class Function(Body):
        """Which function, and its input as JSON text."""

        name: str
        arguments: str

    id: str
    type: Literal["function"] = "function"
    function: Function


class ChatMessage(Body):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[Called] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None

    @model_validator(mode="after")
    def _says_something(self) -> ChatMessage:
        if self.content is None and not self.tool_calls:
            raise ValueError("content: expected text, or tool_calls of an assistant")
        if self.role == "tool" and not self.tool_call_id:
            raise ValueError("tool_call_id: expected the id of the call that was answered")
        for call in self.tool_calls or ():
            if not isinstance(_parsed(call.function.arguments), dict):
                raise ValueError(f"tool_calls: {call.id}: arguments: expected a JSON object as text")
        return self

    def turn(self, place: str) -> Turn:
        """As a neutral turn; ``place`` is where it stands."""
        parts: list[str | Call | Result | Media] = []
        content = [{"type": "text", "text": self.content}] if isinstance(self.content, str) else self.content or []
        for number, one in enumerate(content):
            text = one.get("text")
            known = one.get("type") == "text" and isinstance(text, str)
            parts.append(str(text) if known else Media(str(one.get("type")), f"{place}.content.{number}"))
        if self.role == "tool":
            media = [part for part in parts if isinstance(part, Media)]
            said = "\n".join(part for part in parts if isinstance(part, str))
            return Turn("user", (Result(self.tool_call_id or "", said), *media))
        for call in self.tool_calls or ():
            parts.append(Call(call.id, call.function.name, _parsed(call.function.arguments)))
        return Turn("system" if self.role == "developer" else self.role, tuple(parts))


class ChatBody(Asking):
    """A conversation."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | Named | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    parallel_tool_calls: bool | None = None
    store: bool | None = None
    service_tier: str | None = None
    reasoning_effort: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    modalities: list[Literal["text"]] | None = None

    def conversation(self) -> Conversation:
        """As a neutral conversation. A tool that must not be called is not told."""
        choice = self.tool_choice or "auto"
        tools = tuple(
            Tool(one.function.name, one.function.description, one.function.parameters)
            for one in (self.tools or () if choice != "none" else ())
        )
        names = tuple(tool.name for tool in tools)
        if choice == "required" and not names:
            raise InvalidInput("tool_choice: required, and no tools are given; give tools, or leave it out")
        forced = names if choice == "required" else (choice.function.name,) if isinstance(choice, Named) else ()
        turns = _together([message.turn(f"messages.{number}") for number, message in enumerate(self.messages)])
        logprobs = max(1, self.top_logprobs or 0) if self.logprobs else 0
        return Conversation(
            turns, self.sampling(self.max_completion_tokens or self.max_tokens, logprobs), tools, forced
        )


def _together(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns, results of tools that were called beside each other as one: templates want speakers to alternate."""
    joined: list[Turn] = []
    for turn in turns:
        last = joined[-1] if joined else None
        if last is not None and all(isinstance(part, Result) for part in (*last.parts, *turn.parts)):
            joined[-1] = replace(last, parts=(*last.parts, *turn.parts))
        else:
            joined.append(turn)
    return tuple(joined)


class _Written:
    """What is the same in every object of one answer."""

    def __init__(self, prefix: str, kind: str, asked: Asking) -> None:
        self._same = {
            "id": f"{prefix}-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": asked.model,
        }
        self.streamed = asked.stream
        self.model = asked.model
        self._usage_asked = bool(asked.stream_options and asked.stream_options.include_usage)

    def _object(self, kind: str, choices: list[JSON], **more: Any) -> JSON:
        return {**self._same, "object": kind, "choices": choices, **more}

    def _usage(self, finish: Finish) -> JSON:
        return {
            "prompt_tokens": finish.input_tokens,
            "completion_tokens": finish.output_tokens,
            "total_tokens": finish.input_tokens + finish.output_tokens,
        }


class ChatCompletion(_Written):
    """One conversation, and its answer as OpenAI's chat completions have it."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        """Raises `Refused` with every fault."""
        with told_at_once("OpenAIChatCompletion"):
            asked = ChatBody.model_validate(body)
        super().__init__("chatcmpl", "chat.completion", asked)
        self.question = asked.conversation()
        self._logprobs = bool(asked.logprobs)
        self._top = asked.top_logprobs or 0

    def whole(self, answer: Answer) -> JSON:
        """See `Asked.whole`."""
        message: JSON = {"role": "assistant", "content": answer.text or (None if answer.calls else "")}
        if answer.calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _text(call.input)}}
                for call in answer.calls
            ]
        choice = self._choice({"message": message}, answer.logprobs, _reason(answer.finish))
        return self._object("chat.completion", [choice], usage=self._usage(answer.finish))

    async def parts(self, events: AsyncIterator[Event]) -> AsyncGenerator[JSON, None]:
        """See `Asked.parts`: chunks, the last but one with the reason, the last with the usage if it was asked for."""
        yield self._chunk({"role": "assistant", "content": ""})
        calls = -1
        async for event in events:
            if isinstance(event, Text):
                yield self._chunk({"content": event.text}, event.logprobs)
            elif isinstance(event, CallBegins):
                calls += 1
                begun = {"id": event.id, "type": "function", "function": {"name": event.name, "arguments": ""}}
                yield self._chunk({"tool_calls": [{"index": calls, **begun}]})
            elif isinstance(event, CallInput):
                yield self._chunk({"tool_calls": [{"index": calls, "function": {"arguments": event.json}}]})
            else:
                yield self._chunk({}, reason=_reason(event))
                if self._usage_asked:
                    yield self._object("chat.completion.chunk", [], usage=self._usage(event))

    def _chunk(self, delta: JSON, logprobs: tuple[TokenLogprob, ...] = (), reason: str | None = None) -> JSON:
        return self._object("chat.completion.chunk", [self._choice({"delta": delta}, logprobs, reason)])

    def _choice(self, said: JSON, logprobs: tuple[TokenLogprob, ...], reason: str | None) -> JSON:
        told = None
        if self._logprobs:
            told = {
                "content": [
                    {
                        **_token(token.text, token.logprob),
                        "top_logprobs": [_token(text, logprob) for _, text, logprob in token.top[: self._top]],
                    }
                    for token in logprobs
                ],
                "refusal": None,
            }
        return {"index": 0, **said, "logprobs": told, "finish_reason": reason}


class TextCompletion(_Written):
    """One text, and its continuation as OpenAI's completions have it."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        """Raises `Refused` with every fault."""
        with told_at_once("OpenAICompletion"):
            asked = CompletionBody.model_validate(body)
        super().__init__("cmpl", "text_completion", asked)
        self._top = asked.logprobs
        self.question = Completion(
            asked.prompt,
            asked.sampling(asked.max_tokens, 0 if asked.logprobs is None else max(1, asked.logprobs)),
        )

    def whole(self, answer: Answer) -> JSON:
        """See `Asked.whole`."""
        choice = self._choice(answer.text, answer.logprobs, _reason(answer.finish), 0)
        return self._object("text_completion", [choice], usage=self._usage(answer.finish))

    async def parts(self, events: AsyncIterator[Event]) -> AsyncGenerator[JSON, None]:
        """See `Asked.parts`."""
        place = 0
        async for event in events:
            if isinstance(event, Text):
                yield self._object("text_completion", [self._choice(event.text, event.logprobs, None, place)])
                place += len(event.text)
            elif isinstance(event, Finish):
                yield self._object("text_completion", [self._choice("", (), _reason(event), place)])
                if self._usage_asked:
                    yield self._object("text_completion", [], usage=self._usage(event))

    def _choice(self, text: str, logprobs: tuple[TokenLogprob, ...], reason: str | None, place: int) -> JSON:
        told = None
        if self._top is not None:
            offsets = []
            for token in logprobs:
                offsets.append(place)
                place += len(token.text)
            told = {
                "tokens": [token.text for token in logprobs],
                "token_logprobs": [token.logprob for token in logprobs],
                "top_logprobs": [{text: one for _, text, one in token.top[: self._top]} for token in logprobs],
                "text_offset": offsets,
            }
        return {"index": 0, "text": text, "logprobs": told, "finish_reason": reason}


def _reason(finish: Finish) -> str:
    return FINISH_REASONS.get(finish.reason, "stop")


def _token(text: str, logprob: float) -> JSON:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None
