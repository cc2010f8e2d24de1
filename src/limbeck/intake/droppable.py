"""The part of a prompt that only the teacher sees: beside the row, or between two marks in it.

    {"prompt": "Does it apply to kettles?", "context": "Warranty terms, page 2: …"}
    {"prompt": "<context>Warranty terms, page 2: …</context> Does it apply to kettles?"}

The second is what invocation logs hold: prompts as an application sent them, long parts and all, with marks of its own
choice. The teacher sees such a prompt as it stands, marks included; the student sees what is left of it. All that
compares prompts (folding, the split, the guard of what is held out) compares what the student sees.
"""

from __future__ import annotations

from dataclasses import replace

from limbeck.errors import InvalidInput
from limbeck.records import Message, Prompt

__all__ = ["Marks", "with_context", "without"]

Marks = tuple[str, str]
"""What a droppable part begins with, and what it ends with."""


def with_context(prompt: Prompt, context: str) -> Prompt:
    """``prompt`` with ``context`` before the words of its last turn."""
    *before, last = prompt.messages
    return Prompt((*before, replace(last, text=f"{context}\n\n{last.text}")))


def without(prompt: Prompt, marks: Marks) -> Prompt:
    """``prompt`` without what stands between ``marks``. A system prompt of which nothing is left goes altogether.

    Raises `InvalidInput` for a part that does not end, and for a turn of which nothing is left.
    """
    messages = [Message(m.role, m.text if m.role == "assistant" else _cut(m.text, marks)) for m in prompt.messages]
    if any(not m.text for m in messages if m.role == "user"):
        raise InvalidInput("a turn that is all droppable")
    return Prompt(tuple(m for m in messages if m.text))


def _cut(text: str, marks: Marks) -> str:
    begin, end = marks
    left, at = [], 0
    while (start := text.find(begin, at)) >= 0:
        stop = text.find(end, start + len(begin))
        if stop < 0:
            raise InvalidInput(f"{begin} without {end}")
        left.append(text[at:start])
        at = stop + len(end)
    if not left:
        return text
    left.append(text[at:])
    parts, gap = [], ""
    for piece, after in zip(left, [*left[1:], ""], strict=True):
        if words := piece.strip():
            parts += [gap, words]
            gap = "\n\n" if "\n" in piece[len(piece.rstrip()) :] or after[:1] == "\n" else " "
    return "".join(parts)
