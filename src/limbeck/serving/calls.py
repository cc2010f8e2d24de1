"""Tool calls as text: how tools are told to a model, and how its calls are read while it still writes.

The form is that of Hermes and Qwen: tools as JSON between `<tools>` marks of the system prompt, a call as
`<tool_call>{"name": …, "arguments": {…}}</tool_call>`, a result between `<tool_response>` marks. A model whose own
template speaks it is rendered by its template (`serving.chat`); any other is told the form in its system prompt.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.serving.base import TokenLogprob

__all__ = [
    "MARK",
    "Call",
    "CallBegins",
    "CallInput",
    "CallReader",
    "Text",
    "Tool",
    "call_schema",
    "describe",
    "object_of",
    "written",
]

MARK, UNMARK = "<tool_call>", "</tool_call>"

HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')
"""What comes before a call's input, where the name comes first, as it was asked for."""


@dataclass(frozen=True)
class Tool:
    """Something a model may call."""

    name: str
    description: str
    schema: Mapping[str, Any]
    """JSON schema of its input."""

    @property
    def function(self) -> dict[str, Any]:
        """As chat templates take it."""
        told = {"name": self.name, "description": self.description, "parameters": self.schema}
        return {"type": "function", "function": told}


@dataclass(frozen=True)
class Call:
    """One use of a tool, whole."""

    id: str
    name: str
    input: Any


@dataclass(frozen=True)
class Text:
    """Some more of the answer's text, with the log-probabilities of its tokens where they were asked for."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class CallBegins:
    """A call of a tool begins; its input follows."""

    id: str
    name: str


@dataclass(frozen=True)
class CallInput:
    """Some more of a call's input: a part of a JSON text."""

    json: str


def describe(tools: Sequence[Tool]) -> str:
    """A system prompt that tells ``tools``, in the words of Qwen2.5's template, which many models were trained on."""
    told = "\n".join(json.dumps(tool.function, ensure_ascii=False) for tool in tools)
    return (
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        f"You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n{told}\n</tools>\n\n"
        f"For each function call, return a json object with function name and arguments within {MARK}{UNMARK} XML"
        f' tags:\n{MARK}\n{{"name": <function-name>, "arguments": <args-json-object>}}\n{UNMARK}'
    )


def written(call: Call) -> str:
    """A call as a model writes it."""
    return f"{MARK}\n{json.dumps({'name': call.name, 'arguments': call.input}, ensure_ascii=False)}\n{UNMARK}"


def call_schema(tools: Sequence[Tool]) -> dict[str, Any]:
    """The JSON schema of one call of one of ``tools``; their own schemas become definitions of this one."""
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, "arguments": {"$ref": f"#/$defs/{tool.name}"}},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    definitions = {tool.name: _moved(tool.schema, f"#/$defs/{tool.name}") for tool in tools}
    return {**(calls[0] if len(calls) == 1 else {"anyOf": calls}), "$defs": definitions}


def _moved(schema: Any, place: str) -> Any:
    """``schema`` with its references to itself made to hold at ``place`` of a larger one."""
    if isinstance(schema, Mapping):
        return {
            key: place + one[1:] if key == "$ref" and isinstance(one, str) and one[:1] == "#" else _moved(one, place)
            for key, one in schema.items()
        }
    if isinstance(schema, list | tuple):
        return [_moved(one, place) for one in schema]
    return schema


class CallReader:
    """Cuts what a model writes into text and calls, as it comes.

    A call's input is told while it is written. What stands between the marks and is no call of a known tool is told
    as text, marks and all, and is ``malformed``; so is a call whose input does not parse, or breaks off.
    """

    def __init__(self, names: Sequence[str], forced: bool) -> None:
        """``forced``: the answer is one call and nothing else; its mark was put at the end of the prompt."""
        self.calls = 0
        """Whole calls so far."""
        self.malformed = False
        self._names = frozenset(names)
        self._forced = forced
        self._held = ""
        """Read and not yet told."""
        self._input = _Input()
        self._read = self._head if forced else self._text

    def feed(self, text: str) -> Iterator[Text | CallBegins | CallInput]:
        """What can be told after some more text."""
        self._held += text
        before = None
        while before != (before := (self._read, self._held)):
            yield from self._read()

    def end(self) -> Iterator[Text | CallBegins | CallInput]:
        """What was held back when the answer ended."""
        if self._read == self._head and not self._forced:
            yield from self._block(self._held, closed=False)
        elif self._read in (self._text, self._head) and self._held:
            yield Text(self._held)
        if self._read == self._within or (self._forced and not self.calls):
            self.malformed = True

    def _text(self) -> Iterator[Text]:
        before, mark, after = self._held.partition(MARK)
        if mark:
            told, self._held, self._read = before.rstrip(), after, self._head
        else:
            told = before[: len(before) - _undecided(before)]
            self._held = before[len(told) :]
        if told:
            yield Text(told)

    def _head(self) -> Iterator[Text | CallBegins | CallInput]:
        found = HEAD.match(self._held)
        if found and found[1] in self._names:
            yield CallBegins(_new_id(), found[1])
            self._held, self._input, self._read = self._held[found.end() :], _Input(), self._within
        elif UNMARK in self._held and not self._forced:
            block, _, self._held = self._held.partition(UNMARK)
            self._read = self._text
            yield from self._block(block, closed=True)

    def _within(self) -> Iterator[CallInput]:
        some = self._input.take(self._held)
        self._held = self._held[len(some) :]
        if some:
            yield CallInput(some)
        if self._input.closed:
            self._read = self._tail
            if self._input.parses:
                self.calls += 1
            else:
                self.malformed = True

    def _tail(self) -> Iterator[Text]:
        _, mark, after = self._held.partition(UNMARK)
        if mark and not self._forced:
            self._held, self._read = after, self._text
        yield from ()

    def _block(self, block: str, closed: bool) -> Iterator[Text | CallBegins | CallInput]:
        """All that stood between the marks, where it did not begin as a call should."""
        found = object_of(block) or {}
        given = found.get("arguments", found.get("parameters"))
        name = found.get("name")
        if isinstance(name, str) and name in self._names and isinstance(given, dict):
            yield CallBegins(_new_id(), name)
            yield CallInput(json.dumps(given, ensure_ascii=False))
            self.calls += 1
        else:
            self.malformed = True
            yield Text(MARK + block + UNMARK * closed)


class _Input:
    """A JSON object as it grows, followed just far enough to know where it ends."""

    def __init__(self) -> None:
        self.closed = False
        self._whole = ""
        self._depth = 0
        self._in_string = self._escaped = False

    def take(self, text: str) -> str:
        """As much of ``text`` as belongs to the object."""
        for place, character in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped, self._in_string = character == "\\", character != '"'
            elif character == '"':
                self._in_string = True
            else:
                self._depth += (character in "{[") - (character in "}]")
                if self._depth == 0:
                    self.closed = True
                    text = text[: place + 1]
                    break
        self._whole += text
        return text

    @property
    def parses(self) -> bool:
        """Whether it is JSON."""
        return object_of(self._whole) is not None


def object_of(text: str) -> dict[str, Any] | None:
    """The JSON object that ``text`` is; None where it is none, or holds what JSON cannot be made of again.

    Python reads NaN, numbers without end and halves of a character, and no client does.
    """
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _undecided(text: str) -> int:
    """How many characters at the end of ``text`` may begin a mark, with the space before them."""
    for length in range(min(len(MARK) - 1, len(text)), -1, -1):
        if text.endswith(MARK[:length]):
            return len(text) - len(text[: len(text) - length].rstrip())
    return 0


def _new_id() -> str:
    return f"tooluse_{secrets.token_urlsafe(16)}"
