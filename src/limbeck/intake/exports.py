"""Rows as other services export them, each turned into a chat row, or told why it cannot be.

| from | told by | becomes |
|---|---|---|
| OpenAI stored completions | ``"object": "chat.completion"`` | ``messages`` with the first choice as the answer |
| OpenAI fine-tuning | ``weight`` on an assistant's turn | a last answer of weight 0 is left out |
| OpenPipe datasets | ``tools``, ``tool_choice``, ``split`` beside ``messages`` | ``messages``; the split is made anew |
| Kiln, ShareGPT | ``conversations`` | ``messages``, ``system`` as the first; ``id`` and ``source`` are left out |

A list of stored completions has no messages in it (they are another request's answer); put them beside each as
``messages``. Rows with tools are refused: calls of functions are not learned; so are answers that were broken off,
which would teach to break off. In a turn of any of them ``developer`` is ``system``, text in blocks is their text, and
what says nothing of the words (``name``, ``annotations``) is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limbeck.intake.faults import Faults, described
from limbeck.intake.invocations import text_in

__all__ = ["as_chat"]

_SPEAKERS = {"human": "user", "gpt": "assistant", "system": "system"}
"""ShareGPT's names."""

_BESIDE_TEXT = {
    "name": "",
    "annotations": "",
    "refusal": "a refusal",
    "tool_calls": "calls of functions",
    "function_call": "a call of a function",
    "audio": "speech",
}
"""What OpenAI says in a turn beside its text: nothing that must be learned, or what it is where there is something."""

_BROKEN_OFF = ("length", "content_filter")
"""Why a stored answer ended that would have gone on."""

_TOLD = "…"
"""In place of a text that has been told as a fault: the row is refused already."""

_COMPLETION = (
    "id", "object", "created", "model", "choices", "messages", "metadata", "usage", "request_id", "service_tier",
    "system_fingerprint", "tools", "tool_choice", "temperature", "top_p", "seed", "presence_penalty", "response_format",
    "frequency_penalty", "input_user", "parallel_tool_calls",
)  # fmt: skip
"""What a stored completion may say of itself."""


def as_chat(row: dict[str, Any], faults: Faults) -> dict[str, Any]:
    """``row`` as a chat row, if it is one of another service's; as it is otherwise."""
    if row.get("object") == "chat.completion":
        row = _stored(row, faults)
    elif "conversations" in row and "messages" not in row:
        row = _conversation(row, faults)
    if not isinstance(row.get("messages"), list):
        return row
    row = _without_weights(_without_tools(row, faults), faults)
    if "schemaVersion" in row or isinstance(row.get("system"), list):
        return row
    return {**row, "messages": [_turn(turn, f"messages[{at}]", faults) for at, turn in enumerate(row["messages"])]}


def _stored(row: dict[str, Any], faults: Faults) -> dict[str, Any]:
    faults.unknown("", row, _COMPLETION)
    messages = row.get("messages")
    if not isinstance(messages, list):
        faults.add("messages", "nothing", "what was asked, as GET /chat/completions/ID/messages gives it")
        messages = []
    try:
        said = row["choices"][0]["message"]
    except (KeyError, IndexError, TypeError):
        said = None
    if not isinstance(said, dict):
        faults.add("choices", "no message", "a choice with a message")
        said = {"content": _TOLD}
    elif (reason := row["choices"][0].get("finish_reason")) in _BROKEN_OFF:
        faults.add("choices[0].finish_reason", described(reason), "an answer that came to its end")
    answer = _turn({**_as_stored(said), "role": "assistant"}, "choices[0].message", faults)
    turns = [_as_stored(turn) if isinstance(turn, dict) else turn for turn in messages]
    metadata = {"metadata": row["metadata"]} if row.get("metadata") else {}
    return {"messages": [*turns, answer], "tools": row.get("tools"), **metadata}


def _as_stored(turn: Mapping[str, Any]) -> dict[str, Any]:
    """A turn without its ids and whatever else a store says of it."""
    return {key: value for key, value in turn.items() if key in ("role", "content", *_BESIDE_TEXT)}


def _conversation(row: dict[str, Any], faults: Faults) -> dict[str, Any]:
    """A row of ShareGPT's or Kiln's; which row it was, and of what source, says nothing of the words."""
    system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    turns = row["conversations"]
    if isinstance(turns, list):
        turns = [*system, *(_spoken(turn, f"conversations[{at}]", faults) for at, turn in enumerate(turns))]
    else:
        faults.add("conversations", "no list", "a list of turns")
    rest = {key: value for key, value in row.items() if key not in ("conversations", "id", "source", "system")}
    return {**rest, "messages": turns}


def _spoken(turn: Any, where: str, faults: Faults) -> Any:
    if not isinstance(turn, dict) or "from" not in turn:
        return turn
    speaker = turn["from"] if isinstance(turn["from"], str) else ""
    if speaker not in _SPEAKERS:
        faults.add(f"{where}.from", described(turn["from"]), ", ".join(_SPEAKERS))
    rest = {key: value for key, value in turn.items() if key not in ("from", "value")}
    return {"role": _SPEAKERS.get(speaker, "user"), "content": turn.get("value"), **rest}


def _turn(turn: Any, where: str, faults: Faults) -> Any:
    """A turn as role and text, as far as it is one of text alone; what else is in it stays, to be told."""
    if not isinstance(turn, dict):
        return turn
    said = {key: value for key, value in turn.items() if key not in _BESIDE_TEXT}
    if said.get("role") == "developer":
        said["role"] = "system"
    beside = {key: what for key, what in _BESIDE_TEXT.items() if what and turn.get(key)}
    for key, what in beside.items():
        faults.add(f"{where}.{key}", what, "text alone")
    content = said.get("content")
    if isinstance(content, list) and any(isinstance(block, dict) and "type" in block for block in content):
        said["content"] = _joined(content, f"{where}.content", faults)
    elif beside and content is None:
        said["content"] = _TOLD
    return said


def _joined(blocks: list[Any], where: str, faults: Faults) -> str:
    """The text of OpenAI's typed blocks."""
    odd = False
    for at, block in enumerate(blocks):
        if isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str):
            faults.unknown(f"{where}[{at}].", block, ("type", "text", "annotations", "cache_control"))
            continue
        odd = True
        found = f"a block of type {described(block.get('type'))}" if isinstance(block, dict) else described(block)
        faults.add(f"{where}[{at}]", found, '{"type": "text", "text": "…"}')
    return _TOLD if odd else text_in(blocks)


def _without_tools(row: dict[str, Any], faults: Faults) -> dict[str, Any]:
    """The row without what OpenAI and OpenPipe say beside the messages, if that is nothing that must be learned."""
    if row.get("tools"):
        faults.add("tools", "functions", "none (calls of functions are not learned)")
    beside = ("tools", "tool_choice", "parallel_tool_calls", "split")
    return {key: value for key, value in row.items() if key not in beside}


def _without_weights(row: dict[str, Any], faults: Faults) -> dict[str, Any]:
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
            faults.add(f"messages[{at}].weight", described(weight), "0 or 1, on the assistant's turns alone")
        elif weight == 0 and at != last:
            faults.add(f"messages[{at}].weight", "0", "1 (leave the weights out and say training.answers: last)")
        if weight != 0 or at != last:
            kept.append({key: value for key, value in turn.items() if key != "weight"})
    return {**row, "messages": kept}
