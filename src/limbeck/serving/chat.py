"""Conversations to tokens and back: a question becomes a `Generate`, the pieces of the answer become events.

Knows no protocol: Bedrock's operations, the bodies of model families and OpenAI's endpoint all turn what they are
asked into a `Question` and write their answers from these events. Knows no engine and reaches no torch.

What a sender leaves out is decided here: `Sampling.max_tokens` is `MAX_TOKENS`, and no answer goes beyond the model's
context. A model takes text only, so far: other media travel as `Media` to the place where they are refused.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, cast

from jinja2 import TemplateError

from limbeck.errors import InvalidInput, ModelFailed
from limbeck.models.catalog import ModelSource
from limbeck.models.chat import Renderer
from limbeck.models.cutting import provide
from limbeck.models.header import context_tokens
from limbeck.models.tokenizer import Tokenizer
from limbeck.serving.base import Done, Generate, Replica, TokenLogprob
from limbeck.serving.calls import (
    MARK,
    Call,
    CallBegins,
    CallInput,
    CallReader,
    Text,
    Tool,
    call_schema,
    describe,
    object_of,
    written,
)

__all__ = [
    "MAX_TOKENS",
    "Answer",
    "ChatModel",
    "Completion",
    "Conversation",
    "Event",
    "Finish",
    "Media",
    "Prepared",
    "Question",
    "Result",
    "Sampling",
    "StopReason",
    "Turn",
    "answer",
    "collect",
]

SCHEMA_LEVELS = 100
"""The deepest JSON schema: what walks one, here and in llama.cpp, does so by recursion."""

MAX_TOKENS = 2048
"""Of an answer, when nobody says: at 50 tokens a second it comes within the minute that clients wait."""

StopReason = Literal[
    "end_turn", "tool_use", "max_tokens", "stop_sequence", "malformed_tool_use", "model_context_window_exceeded"
]
"""Why an answer ended, in Bedrock's words."""


@dataclass(frozen=True)
class Media:
    """Something that is not text."""

    kind: str
    """``image``, ``document``, ``video``, ``audio``, …"""
    place: str
    """Where it stood in the request."""


@dataclass(frozen=True)
class Result:
    """What a tool said to a call."""

    call_id: str
    text: str
    failed: bool = False


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[str | Call | Result | Media, ...]

    @property
    def text(self) -> str:
        """Its words."""
        return "\n".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True)
class Sampling:
    """How an answer is to be made."""

    max_tokens: int | None = None
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    """None is a new one for every answer."""
    stop: tuple[str, ...] = ()
    json_schema: Mapping[str, Any] | None = None
    grammar: str | None = None
    logprobs: int = 0


@dataclass(frozen=True)
class Conversation:
    """Turns that wait for the assistant."""

    turns: tuple[Turn, ...]
    sampling: Sampling
    tools: tuple[Tool, ...] = ()
    must_call: tuple[str, ...] = ()
    """Tools of which the answer has to call one; empty leaves it to the model."""


@dataclass(frozen=True)
class Completion:
    """A text to go on with as it stands, control tokens honored, no template around it."""

    text: str
    sampling: Sampling


Question = Conversation | Completion


@dataclass(frozen=True)
class Prepared:
    """A question ready for a replica, and what is needed to read the answer."""

    generate: Generate
    shortened: bool
    """Whether the model's context leaves less room than was asked for."""
    tools: tuple[str, ...] = ()
    forced: bool = False

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the question is."""
        return len(self.generate.token_ids)


@dataclass(frozen=True)
class Finish:
    """The end of an answer: why, what it took, and how long."""

    reason: StopReason
    input_tokens: int
    output_tokens: int
    milliseconds: int
    """Since the request came."""
    first_milliseconds: int
    """Until the first piece was there."""
    stop_sequence: str | None = None


Event = Text | CallBegins | CallInput | Finish


@dataclass(frozen=True)
class Answer:
    """An answer, whole."""

    parts: tuple[str | Call, ...]
    finish: Finish
    logprobs: tuple[TokenLogprob, ...] = ()

    @property
    def text(self) -> str:
        """Its words."""
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def calls(self) -> tuple[Call, ...]:
        """Its calls of tools."""
        return tuple(part for part in self.parts if isinstance(part, Call))


class ChatModel:
    """One model's side of a conversation: its tokenizer, its template, its context."""

    def __init__(self, source: ModelSource) -> None:
        self.source = source
        path = provide(source)
        self.context_tokens = context_tokens(path)
        self.tokenizer = Tokenizer.open(path)

    @cached_property
    def renderer(self) -> Renderer:
        """Conversations to tokens. Raises `InvalidInput` for a model without a chat template."""
        return Renderer(self.tokenizer)

    def prepare(self, question: Question) -> Prepared:
        """The question as tokens. Raises `InvalidInput` where the model does not take it."""
        sampling, tokens = question.sampling, self.tokens(question)
        tools: tuple[Tool, ...] = ()
        schema, forced = sampling.json_schema, False
        if isinstance(question, Conversation):
            tools, schema, forced = question.tools, _constraint(question), bool(question.must_call)
        room = self.context_tokens - len(tokens)
        if room < 1:
            raise InvalidInput(
                f"Input is too long for requested model: the prompt is {len(tokens)} tokens, and the model's context"
                f" is {self.context_tokens}, answer included"
            )
        wanted = sampling.max_tokens or MAX_TOKENS
        generate = Generate(
            token_ids=tuple(tokens),
            max_tokens=min(wanted, room),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=secrets.randbits(31) if sampling.seed is None else sampling.seed,
            stop=sampling.stop,
            json_schema=schema,
            grammar=sampling.grammar,
            logprobs=sampling.logprobs,
        )
        return Prepared(generate, room < wanted, tuple(tool.name for tool in tools), forced)

    def tokens(self, question: Question) -> list[int]:
        """The tokens of the question, however many they are. Raises `InvalidInput` as `prepare` does."""
        _check_depths(question)
        if isinstance(question, Conversation):
            return self._conversation_tokens(question)
        return self._completion_tokens(question.text)

    def _completion_tokens(self, text: str) -> list[int]:
        bos = self.tokenizer.bos_token
        return self.tokenizer.encode(text, add_special_tokens=not (bos and text.startswith(bos)))

    def _conversation_tokens(self, asked: Conversation) -> list[int]:
        refused = [part for turn in asked.turns for part in turn.parts if isinstance(part, Media)]
        if refused:
            told = "; ".join(f"{part.place} is {part.kind}" for part in refused)
            raise InvalidInput(f"{told}: this model takes text only")
        if self._speaks_calls:
            turns = [shown for turn in asked.turns for shown in _for_template(turn)]
            tools = [tool.function for tool in asked.tools] or None
            tokens = self.renderer.conversation(turns, tools)
        else:
            turns = [{"role": turn.role, "content": _in_words(turn)} for turn in asked.turns]
            tokens = self.renderer.conversation(_with_tools(turns, asked.tools))
        # The answer's first mark is written for the model, so that what follows is a call and nothing else.
        begun = self.tokenizer.encode(f"{MARK}\n", add_special_tokens=False) if asked.must_call else []
        return tokens + begun

    @cached_property
    def _speaks_calls(self) -> bool:
        """Whether the model's own template tells tools, and writes calls as `CallReader` reads them."""
        probe = Tool("probe_tool", "a probe", {"type": "object", "properties": {}})
        call = Call("probe", probe.name, {})
        turns = [Turn("user", ("?",)), Turn("assistant", (call,)), Turn("user", (Result(call.id, "!"),))]
        shown = [one for turn in turns for one in _for_template(turn)]
        try:
            text = self.renderer.tokenizer.apply_chat_template(shown, tools=[probe.function], tokenize=False)
        except (TemplateError, TypeError):
            return False
        return probe.description in text and re.search(rf'{MARK}\s*\{{"name": ?"{probe.name}"', text) is not None


async def answer(replica: Replica, prepared: Prepared, began: float) -> AsyncGenerator[Event, None]:
    """The answer as events, `Finish` last. ``began``: when the request came, on the monotonic clock.

    Raises what the replica raises. Closing it frees the replica's slot.
    """
    reader = CallReader(prepared.tools, prepared.forced) if prepared.tools else None
    done, first = None, None
    logprobs: list[TokenLogprob] = []
    generated = cast(AsyncGenerator[Any, None], replica.generate(prepared.generate))
    async with aclosing(generated):
        async for piece in generated:
            first = first or _milliseconds(began)
            if isinstance(piece, Done):
                done = piece
                break
            logprobs += piece.logprobs
            if not piece.text:
                continue
            for event in reader.feed(piece.text) if reader else [Text(piece.text)]:
                if isinstance(event, Text):
                    event = replace(event, logprobs=tuple(logprobs))
                logprobs.clear()  # those of a call's tokens are told to nobody
                yield event
    if done is None or first is None:
        raise ModelFailed("the model stopped in the middle of its answer")
    if reader:
        for event in reader.end():
            yield event
    # What hosts a model may have a smaller context than the model.
    reason = _reason(done, reader, prepared.shortened or done.response_tokens < prepared.generate.max_tokens)
    now = _milliseconds(began)
    yield Finish(reason, done.prompt_tokens, done.response_tokens, now, first, done.stop_sequence)


async def collect(events: AsyncIterator[Event]) -> Answer:
    """The answer that ``events`` tell. A call whose input does not parse is shown as the text it is."""
    parts: list[str | tuple[CallBegins, str]] = []
    logprobs: list[TokenLogprob] = []
    async for event in events:
        last = parts[-1] if parts else None
        if isinstance(event, Finish):
            return Answer(tuple(map(_whole, parts)), event, tuple(logprobs))
        if isinstance(event, Text):
            logprobs += event.logprobs
            if isinstance(last, str):
                parts[-1] = last + event.text
            else:
                parts.append(event.text)
        elif isinstance(event, CallBegins):
            parts.append((event, ""))
        elif isinstance(last, tuple):
            parts[-1] = (last[0], last[1] + event.json)
    raise ModelFailed("the model stopped in the middle of its answer")


def _whole(part: str | tuple[CallBegins, str]) -> str | Call:
    if isinstance(part, str):
        return part
    begun, given = part
    arguments = object_of(given)
    if arguments is None:
        return f'{MARK}\n{{"name": "{begun.name}", "arguments": {given}'
    return Call(begun.id, begun.name, arguments)


def _check_depths(asked: Question) -> None:
    """Raise `InvalidInput` for a schema too deep to be walked, here or in the process that hosts the model."""
    schemas = {"the format": asked.sampling.json_schema}
    if isinstance(asked, Conversation):
        schemas |= {f"tool {tool.name}": tool.schema for tool in asked.tools}
    for what, schema in schemas.items():
        level = [schema]
        for _ in range(SCHEMA_LEVELS):
            level = [part for one in level for part in _parts(one)]
        if level:
            raise InvalidInput(
                f"{what}: its JSON schema has more than {SCHEMA_LEVELS} levels of objects and lists; expected fewer:"
                " $defs and $ref say it flatly"
            )


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()


def _constraint(asked: Conversation) -> Mapping[str, Any] | None:
    """The JSON schema the answer is held to."""
    if asked.tools and (asked.sampling.json_schema or asked.sampling.grammar):
        raise InvalidInput("an answer held to a format cannot also call tools; leave out the format or the tools")
    if not asked.must_call:
        return asked.sampling.json_schema
    unknown = sorted(set(asked.must_call) - {tool.name for tool in asked.tools})
    if unknown:
        raise InvalidInput(f"the tool to be called is {unknown[0]}, which is none of the tools given")
    return call_schema([tool for tool in asked.tools if tool.name in asked.must_call])


def _for_template(turn: Turn) -> list[dict[str, Any]]:
    """A turn as templates with tools take it: calls beside the words, each result a turn of its own."""
    results = [part for part in turn.parts if isinstance(part, Result)]
    calls = [part for part in turn.parts if isinstance(part, Call)]
    shown: list[dict[str, Any]] = [
        {"role": "tool", "tool_call_id": result.call_id, "content": _outcome(result)} for result in results
    ]
    if calls:
        called = [
            {"type": "function", "id": call.id, "function": {"name": call.name, "arguments": call.input}}
            for call in calls
        ]
        shown.append({"role": turn.role, "content": turn.text, "tool_calls": called})
    elif turn.text or not results:
        shown.append({"role": turn.role, "content": turn.text})
    return shown


def _in_words(turn: Turn) -> str:
    """A turn as one text, for a template that knows no tools."""
    words = []
    for part in turn.parts:
        if isinstance(part, Call):
            words.append(written(part))
        elif isinstance(part, Result):
            words.append(f"<tool_response>\n{_outcome(part)}\n</tool_response>")
        elif isinstance(part, str):
            words.append(part)
    return "\n".join(words)


def _outcome(result: Result) -> str:
    return f"error: {result.text}" if result.failed else result.text


def _with_tools(turns: list[dict[str, Any]], tools: tuple[Tool, ...]) -> list[dict[str, Any]]:
    if not tools:
        return turns
    if turns[0]["role"] == "system":
        return [{**turns[0], "content": f"{turns[0]['content']}\n\n{describe(tools)}"}, *turns[1:]]
    return [{"role": "system", "content": describe(tools)}, *turns]


def _reason(done: Done, reader: CallReader | None, shortened: bool) -> StopReason:
    if done.reason == "length":
        return "model_context_window_exceeded" if shortened else "max_tokens"
    if reader and reader.malformed:
        return "malformed_tool_use"
    if reader and reader.calls:
        return "tool_use"
    return "stop_sequence" if done.reason == "stop_sequence" else "end_turn"


def _milliseconds(began: float) -> int:
    """Since ``began``; one at least, so that no latency reads as unmeasured."""
    return max(1, round((time.monotonic() - began) * 1000))
