"""What a logged request asked and what was answered, in any of the forms of body that Bedrock logs.

Requests and answers of Converse and ConverseStream (an array of events), and of InvokeModel in the forms of Nova,
Llama, Anthropic's messages and OpenAI's chat completions. Text alone can be learned here: a request with an image, a
document or a tool's result is refused with the reason. Marks that change no word (``cachePoint``) are passed over, and
so is what a model thought before it answered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from limbeck.errors import InvalidInput

__all__ = ["answer_in", "metadata_in", "text_in", "turns_in", "was_cut_off"]

_SILENT = ("cachePoint", "reasoningContent")
"""Blocks of Converse that say nothing to whom is asked."""

_CUT_OFF = ("max_tokens", "length", "model_context_window_exceeded")
"""Why an answer ended that would have gone on."""

_CALLING = ("tool_use", "tool_calls", "function_call")
"""Why one ended that called a tool: what it said before that is no answer."""

_THINKING = ("thinking", "redacted_thinking")
"""The same, by the ``type`` of Anthropic's blocks."""


def turns_in(system: Any, messages: Any, prompt: Any) -> list[tuple[str, str]]:
    """The conversation of a request, role and text by turn, from these members of its body.

    Raises `InvalidInput` for what is no conversation of text that ends with the user.
    """
    if isinstance(prompt, str):
        turns = [("user", prompt)]
    elif isinstance(messages, list):
        turns = [(_role(message), text_in(message.get("content"))) for message in messages]
        if system:
            turns.insert(0, ("system", text_in(system)))
    else:
        raise InvalidInput("neither messages nor a prompt in the request")
    _check(turns)
    return turns


def answer_in(response: Any) -> str | None:
    """The text of an answer, whole or in events; None where there is none. Raises `InvalidInput` for another form."""
    if any(map(_calls_a_tool, _parts(response))):
        raise InvalidInput("content that is not text alone")
    answer = _answer(response)
    if "\x00" in answer:
        raise InvalidInput("a NUL character")
    return answer or None


def metadata_in(sent: Mapping[str, Any]) -> dict[str, str]:
    """What was sent along with a request, as text: a value that is none is taken as its JSON, null as nothing."""
    return {_as_text(key): _as_text(value) for key, value in sent.items() if value is not None}


def _as_text(value: Any) -> str:
    if isinstance(value, str) and "\x00" not in value:
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _answer(response: Any) -> str:
    if isinstance(response, list):
        return "".join(_piece(event) for event in response if isinstance(event, dict))
    if not isinstance(response, dict):
        return ""
    if "output" in response:
        return text_in(response["output"]["message"]["content"])
    if "generation" in response:
        return _said(response["generation"])
    if response.get("choices"):
        choice = response["choices"][0]
        return _said(choice["message"]["content"] if "message" in choice else choice.get("text"))
    return _said(response.get("content"))


def was_cut_off(response: Any) -> bool:
    """Whether an answer, whole or in events, ended because it had become as long as was allowed."""
    return any(_stop_reason(part) in _CUT_OFF for part in _parts(response))


def _parts(response: Any) -> list[Any]:
    """The events of a stream, or a whole answer as the only one."""
    return response if isinstance(response, list) else [response]


def _calls_a_tool(part: Any) -> bool:
    choice = _choice(part) or {}
    said = choice.get("message") or choice.get("delta")
    return _stop_reason(part) in _CALLING or (isinstance(said, dict) and bool(said.get("tool_calls")))


def _choice(part: Any) -> dict[str, Any] | None:
    """The first of OpenAI's choices; None in other forms of body."""
    choices = part.get("choices") if isinstance(part, dict) else None
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None


def _stop_reason(part: Any) -> str | None:
    """Why an answer ended, as each form of body, or the event of a stream that says so, has it."""
    if not isinstance(part, dict):
        return None
    if (choice := _choice(part)) is not None:
        part = {"stop_reason": choice.get("finish_reason")}
    for event, name in (("messageStop", "stopReason"), ("delta", "stop_reason")):
        if isinstance(part.get(event), dict):
            part = {"stop_reason": part[event].get(name)}
    found = part.get("stopReason") or part.get("stop_reason")
    return found if isinstance(found, str) else None


def _role(message: Any) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ("system", "developer", "user", "assistant"):
        raise InvalidInput(f'a turn of "{role}"')
    return "system" if role == "developer" else str(role)


def _check(turns: list[tuple[str, str]]) -> None:
    """The user begins, after at most one system prompt; they take turns; the user ends."""
    expected = "user"
    for at, (role, text) in enumerate(turns):
        if role == expected:
            expected = "assistant" if role == "user" else "user"
        elif at or role != "system":
            raise InvalidInput("turns that do not alternate from the user to the user")
        if not text or text.isspace():
            raise InvalidInput("a turn without text")
        if "\x00" in text:
            raise InvalidInput("a NUL character")
    if expected == "user":
        raise InvalidInput("turns that do not alternate from the user to the user")


def text_in(content: Any) -> str:
    """The text of a turn, as a string or in blocks. Raises `InvalidInput` where something else is among them."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidInput("content that is no list of blocks")
    texts: list[str] = []
    for block in content:
        if not isinstance(block, dict):
            raise InvalidInput("content that is no list of blocks")
        if isinstance(block.get("text"), str):
            texts.append(block["text"])
        elif not any(mark in block for mark in _SILENT) and block.get("type") not in _THINKING:
            raise InvalidInput("content that is not text alone")
    return "\n".join(texts)


def _said(content: Any) -> str:
    """The same of an answer, in which nothing may stand."""
    return "" if content is None else text_in(content)


def _piece(event: Mapping[str, Any]) -> str:
    """The text that one event of a stream adds."""
    if "contentBlockDelta" in event:
        return _said(event["contentBlockDelta"].get("delta", {}).get("text"))
    if "generation" in event:
        return _said(event["generation"])
    if event.get("choices"):
        choice = event["choices"][0]
        return _said(choice.get("text") or choice.get("delta", {}).get("content"))
    if event.get("type") == "content_block_delta":
        return _said(event.get("delta", {}).get("text"))
    return ""
