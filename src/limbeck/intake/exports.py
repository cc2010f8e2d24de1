"""Rows as other services export them, each turned into a chat row, or told why it cannot be.

| from | told by | becomes |
|---|---|---|
| OpenAI stored completions | ``"object": "chat.completion"`` | ``messages`` with the first choice as the answer |
| OpenAI fine-tuning | ``weight`` on an assistant's turn | a last answer of weight 0 is left out |
| OpenPipe datasets | ``tools``, ``tool_choice``, ``split`` beside ``messages`` | ``messages``; the split is made anew |
| Kiln, ShareGPT | ``conversations`` | ``messages`` |

A list of stored completions has no messages in it (they are another request's answer); put them beside each as
``messages``. Rows with tools are refused: calls of functions are not learned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from limbeck.intake.faults import described

__all__ = ["as_chat"]

Tell = Callable[[str, str, str], Any]
"""Takes a fault: the field, what was found, what was expected."""

_SPEAKERS = {"human": "user", "gpt": "assistant", "system": "system"}
"""ShareGPT's names."""

_COMPLETION = (
    "id", "object", "created", "model", "choices", "messages", "metadata", "usage", "request_id", "service_tier",
    "system_fingerprint", "tools", "tool_choice", "temperature", "top_p", "seed", "presence_penalty", "response_format",
    "frequency_penalty", "input_user", "parallel_tool_calls",
)  # fmt: skip
"""What a stored completion may say of itself."""


def as_chat(row: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """``row`` as a chat row, if it is one of another service's; as it is otherwise."""
    if row.get("object") == "chat.completion":
        return _stored(row, tell)
    if "conversations" in row and "messages" not in row:
        rest = {key: value for key, value in row.items() if key != "conversations"}
        return {**rest, "messages": _conversations(row["conversations"], tell)}
    if isinstance(row.get("messages"), list):
        return _without_weights(_without_tools(row, tell), tell)
    return row


def _stored(row: dict[str, Any], tell: Tell) -> dict[str, Any]:
    for key in row:
        if key not in _COMPLETION:
            tell(key, "an unknown key", f"only {', '.join(_COMPLETION)}")
    messages = row.get("messages")
    if not isinstance(messages, list):
        tell("messages", "nothing", "what was asked, as GET /chat/completions/ID/messages gives it")
        messages = []
    try:
        said = row["choices"][0]["message"]
        answer = {"role": "assistant", "content": said["content"]}
        if said.get("tool_calls"):
            tell("choices[0].message.tool_calls", "calls of functions", "text")
    except (KeyError, IndexError, TypeError, AttributeError):
        tell("choices", "no message", "a choice with a message")
        answer = {"role": "assistant", "content": ""}
    turns = [
        {key: value for key, value in turn.items() if key in ("role", "content")} if isinstance(turn, dict) else turn
        for turn in messages
    ]
    metadata = {"metadata": row["metadata"]} if row.get("metadata") else {}
    return _without_tools({"messages": [*turns, answer], "tools": row.get("tools"), **metadata}, tell)


def _without_tools(row: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """The row without what OpenAI and OpenPipe say beside the messages, if that is nothing that must be learned."""
    if row.get("tools"):
        tell("tools", "functions", "none (calls of functions are not learned)")
    beside = ("tools", "tool_choice", "parallel_tool_calls", "split")
    return {key: value for key, value in row.items() if key not in beside}


def _without_weights(row: dict[str, Any], tell: Tell) -> dict[str, Any]:
    turns = list(row["messages"])
    if not any(isinstance(turn, dict) and "weight" in turn for turn in turns):
        return row
    last = len(turns) - 1
    kept = []
    for at, turn in enumerate(turns):
        if not isinstance(turn, dict) or "weight" not in turn:
            kept.append(turn)
            continue
        weight = turn["weight"]
        if turn.get("role") != "assistant" or isinstance(weight, bool) or weight not in (0, 1):
            tell(f"messages[{at}].weight", described(weight), "0 or 1, on the assistant's turns alone")
        elif weight == 0 and at != last:
            tell(f"messages[{at}].weight", "0", "1 (leave the weights out and say training.answers: last)")
        if weight != 0 or at != last:
            kept.append({key: value for key, value in turn.items() if key != "weight"})
    return {**row, "messages": kept}


def _conversations(turns: Any, tell: Tell) -> Any:
    if not isinstance(turns, list):
        tell("conversations", "no list", "a list of turns")
        return turns
    made = []
    for at, turn in enumerate(turns):
        if isinstance(turn, dict) and set(turn) == {"from", "value"}:
            speaker = turn["from"] if isinstance(turn["from"], str) else ""
            if speaker not in _SPEAKERS:
                tell(f"conversations[{at}].from", described(turn["from"]), ", ".join(_SPEAKERS))
            made.append({"role": _SPEAKERS.get(speaker, "user"), "content": turn["value"]})
        else:
            made.append(turn)
    return made
