"""Converse: its conversations understood, its answers written. Nova's native bodies are the same in other clothes.

Requests come as `wire.read` leaves them, so shapes, ranges and patterns hold already; what is checked here is what
the shapes do not say. Left out, temperature is 0.7 and topP 0.9, as Nova has them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any

from limbeck.serving.calls import Call, CallBegins, CallInput, Text, Tool
from limbeck.serving.chat import Answer, Conversation, Event, Finish, Media, Result, Sampling, Turn
from limbeck.wire.bodies.base import JSON
from limbeck.wire.operations import Refused

__all__ = ["TEMPERATURE", "TOP_P", "Converse", "blocks", "usage"]

TEMPERATURE, TOP_P = 0.7, 0.9

NOT_HERE = ("guardrailConfig", "promptVariables")
"""Members of a request that ask for something Limbeck does not have."""

IGNORED = ("cachePoint", "reasoningContent")
"""Blocks that ask nothing of an answer: nothing is cached between requests, and no model here reads old reasoning."""

STOP_SEQUENCE = "/stop_sequence"
"""The one field of a model's own answer that Converse does not have."""


class Converse:
    """One conversation, and its answer as Converse has it."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        """Raises `Refused` with every fault."""
        faults = [f"Value at '{name}': Limbeck has no such thing; leave it out" for name in NOT_HERE if asked.get(name)]
        turns = _turns(asked, faults)
        tools, must_call = _tools(asked.get("toolConfig", {}), faults)
        if not tools and any(isinstance(part, Call | Result) for turn in turns for part in turn.parts):
            faults.append("The toolConfig field must be defined when using toolUse and toolResult content blocks")
        sampling = _sampling(asked, faults)
        self._fields = asked.get("additionalModelResponseFieldPaths", [])
        faults += [
            f"Value '{path}' at 'additionalModelResponseFieldPaths' failed to satisfy constraint: Member must begin"
            " with /"
            for path in self._fields
            if not path.startswith("/")
        ]
        if faults:
            raise Refused(faults)
        self.question = Conversation(tuple(turns), sampling, tools, must_call)
        self._echoed = {name: asked[name] for name in ("performanceConfig", "serviceTier") if name in asked}

    def whole(self, answer: Answer) -> JSON:
        """See `Asked.whole`."""
        return {
            "output": {"message": {"role": "assistant", "content": blocks(answer)}},
            **self._stop(answer.finish),
            "usage": usage(answer.finish),
            "metrics": {"latencyMs": answer.finish.milliseconds},
            **self._echoed,
        }

    async def parts(self, events: AsyncIterator[Event]) -> AsyncGenerator[JSON, None]:
        """See `Asked.parts`: one event a piece, under its name."""
        yield {"messageStart": {"role": "assistant"}}
        index, inside = -1, None  # the open block, and the kind of event that opened it
        async for event in events:
            begins = isinstance(event, CallBegins | Finish) or (isinstance(event, Text) and inside is not Text)
            if begins and inside is not None:
                yield {"contentBlockStop": {"contentBlockIndex": index}}
            if begins:
                index, inside = index + 1, type(event)
            if isinstance(event, Text):
                yield {"contentBlockDelta": {"delta": {"text": event.text}, "contentBlockIndex": index}}
            elif isinstance(event, CallBegins):
                start = {"toolUse": {"toolUseId": event.id, "name": event.name}}
                yield {"contentBlockStart": {"start": start, "contentBlockIndex": index}}
            elif isinstance(event, CallInput):
                yield {"contentBlockDelta": {"delta": {"toolUse": {"input": event.json}}, "contentBlockIndex": index}}
            else:
                yield {"messageStop": self._stop(event)}
                metrics = {"latencyMs": event.milliseconds}
                yield {"metadata": {"usage": usage(event), "metrics": metrics, **self._echoed}}

    def _stop(self, finish: Finish) -> JSON:
        told: JSON = {"stopReason": finish.reason}
        if STOP_SEQUENCE in self._fields:
            told["additionalModelResponseFields"] = {STOP_SEQUENCE[1:]: finish.stop_sequence}
        return told


def blocks(answer: Answer) -> list[JSON]:
    """The answer's content; an answer without a word is one block without a word."""
    return [
        {"toolUse": {"toolUseId": part.id, "name": part.name, "input": part.input}}
        if isinstance(part, Call)
        else {"text": part}
        for part in answer.parts
    ] or [{"text": ""}]


def usage(finish: Finish) -> JSON:
    """Tokens, as they were counted."""
    return {
        "inputTokens": finish.input_tokens,
        "outputTokens": finish.output_tokens,
        "totalTokens": finish.input_tokens + finish.output_tokens,
    }


def _turns(asked: Mapping[str, Any], faults: list[str]) -> list[Turn]:
    system = []
    for number, block in enumerate(asked.get("system", ()), 1):
        system += _part(block, f"system.{number}.member", faults)
    turns = [Turn("system", tuple(system))] if system else []
    said = None
    for number, message in enumerate(asked.get("messages", ()), 1):
        place = f"messages.{number}.member"
        role = message["role"]
        if role != "system":
            if said is None and role != "user":
                faults.append("A conversation must start with a user message")
            elif said == role:
                faults.append(f"A conversation must alternate between user and assistant roles; {place} does not")
            said = role
        if not message["content"]:
            faults.append(f"The content field in the Message object at {place} is empty")
        parts: list[str | Call | Result | Media] = []
        for inner, block in enumerate(message["content"], 1):
            parts += _part(block, f"{place}.content.{inner}.member", faults)
        turns.append(Turn(role, tuple(parts)))
    if said != "user" and not faults:
        faults.append("A conversation must end with a user message")
    called = {part.id for turn in turns for part in turn.parts if isinstance(part, Call)}
    answered = {part.call_id for turn in turns for part in turn.parts if isinstance(part, Result)}
    faults += [f"toolResult {one}: no toolUse block has this id" for one in sorted(answered - called)]
    return turns


def _part(block: Mapping[str, Any], place: str, faults: list[str]) -> list[str | Call | Result | Media]:
    """What one block says: one part, or nothing."""
    kind, value = _only(block)
    if kind == "text" or (kind == "guardContent" and "text" in value):
        text = value if kind == "text" else value["text"]["text"]
        if not text.strip():
            faults.append(f"The text field in the ContentBlock object at {place} is blank")
        return [text]
    if kind == "toolUse":
        return [Call(value["toolUseId"], value["name"], value["input"])]
    if kind == "toolResult":
        inner = [
            _result(one, f"{place}.toolResult.content.{number}.member")
            for number, one in enumerate(value["content"], 1)
        ]
        text = "\n".join(one for one in inner if isinstance(one, str))
        result = Result(value["toolUseId"], text, value.get("status") == "error")
        return [result, *(one for one in inner if isinstance(one, Media))]
    if kind == "citationsContent":
        return ["".join(one.get("text", "") for one in value.get("content", ()))]
    return [] if kind in IGNORED else [Media(kind, place)]


def _result(block: Mapping[str, Any], place: str) -> str | Media:
    kind, value = _only(block)
    if kind == "json":
        return json.dumps(value, ensure_ascii=False)
    return str(value) if kind == "text" else Media(kind, place)


def _only(block: Mapping[str, Any]) -> tuple[str, Any]:
    """The one member of a union, and what it holds."""
    return next(iter(block.items()), ("nothing", None))


def _tools(config: Mapping[str, Any], faults: list[str]) -> tuple[tuple[Tool, ...], tuple[str, ...]]:
    """The tools, and those of them that must be called."""
    tools = []
    for number, one in enumerate(config.get("tools", ()), 1):
        if "toolSpec" in one:
            spec = one["toolSpec"]
            schema = spec["inputSchema"].get("json")
            if not isinstance(schema, dict):
                faults.append(
                    f"Value at 'toolConfig.tools.{number}.member.toolSpec.inputSchema.json' must be an object"
                )
                continue
            tools.append(Tool(spec["name"], spec.get("description", ""), schema))
        elif "cachePoint" not in one:
            faults.append(f"Value at 'toolConfig.tools.{number}.member': only toolSpec is known here")
    names = tuple(tool.name for tool in tools)
    if len(set(names)) != len(names):
        faults.append("Value at 'toolConfig.tools': two tools have one name")
    choice = config.get("toolChoice", {})
    forced = names if "any" in choice else (choice["tool"]["name"],) if "tool" in choice else ()
    faults += [f"Value '{name}' at 'toolConfig.toolChoice.tool.name' is no tool" for name in set(forced) - set(names)]
    return tuple(tools), forced


def _sampling(asked: Mapping[str, Any], faults: list[str]) -> Sampling:
    config = asked.get("inferenceConfig", {})
    top_k, seed = _additional(asked.get("additionalModelRequestFields") or {}, faults)
    return Sampling(
        max_tokens=config.get("maxTokens"),
        temperature=config.get("temperature", TEMPERATURE),
        top_p=config.get("topP", TOP_P),
        top_k=top_k,
        seed=seed,
        stop=tuple(config.get("stopSequences", ())),
        json_schema=_schema(asked.get("outputConfig", {}), faults),
    )


def _additional(fields: Any, faults: list[str]) -> tuple[int, int | None]:
    """topK and seed, which Converse itself does not have: ``{"inferenceConfig": {"topK": 5}}`` or ``{"top_k": 5}``."""
    known: dict[str, Sequence[str]] = {"top_k": ("top_k",), "seed": ("seed",), "inferenceConfig": ("topK", "seed")}
    given: dict[str, Any] = {}
    for name, value in fields.items() if isinstance(fields, dict) else [("", fields)]:
        inner = value.items() if name == "inferenceConfig" and isinstance(value, dict) else [(name, value)]
        for key, number in inner:
            where = f"additionalModelRequestFields.{name}" + (f".{key}" if key != name else "")
            if key not in known.get(name, ()):
                faults.append(f"extraneous key [{where}] is not permitted; known are top_k, seed, inferenceConfig.topK")
            elif not isinstance(number, int) or isinstance(number, bool) or number < 0:
                faults.append(f"Value '{number}' at '{where}' must be a whole number from 0")
            else:
                given[{"topK": "top_k"}.get(key, key)] = number
    return given.get("top_k", 0), given.get("seed")


def _schema(config: Mapping[str, Any], faults: list[str]) -> JSON | None:
    if "textFormat" not in config:
        return None
    try:
        found = json.loads(config["textFormat"]["structure"]["jsonSchema"]["schema"])
    except (ValueError, RecursionError) as error:
        faults.append(f"Value at 'outputConfig.textFormat.structure.jsonSchema.schema' is not JSON: {error}")
        return None
    if not isinstance(found, dict):
        faults.append("Value at 'outputConfig.textFormat.structure.jsonSchema.schema' must be a JSON object")
        return None
    return found
