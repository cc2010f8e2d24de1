"""The words with which a teacher is asked to mend a text: read them here, say others in the recipe.

`synthesis.improve_instruction` takes the place of `IMPROVE`; `synthesis.refine.instruction` has no default. Either is
put into `FRAME`; one that holds ``{prompt}`` and ``{answer}`` itself is the whole message.
"""

from __future__ import annotations

from limbeck.records import Message, Prompt

__all__ = ["FRAME", "IMPROVE", "MARK", "marking", "mending"]

IMPROVE = (
    "Below are a request and an answer that may be wrong, incomplete or badly worded. Correct it: keep what is right,"
    " mend what is not, and keep to the form of the answer. If it needs no correction, repeat it word for word."
)

FRAME = """\
{instruction}

Request:
{prompt}

Answer:
{answer}

Write only the new answer, with nothing before or after it."""

MARK = """\
Below are a request and an answer. How good is the answer? 5 is right and complete, in the form that was asked for; 1 is
wrong or of no use.

Request:
{prompt}

Answer:
{answer}

Write only the number, 1, 2, 3, 4 or 5."""
"""How a judge is asked for a mark."""

SPEAKERS = {"system": "Instructions", "user": "User", "assistant": "Assistant"}


def mending(instruction: str, prompt: Prompt, answer: str) -> Prompt:
    """The conversation in which a teacher is asked to write ``answer`` to ``prompt`` anew."""
    own = "{prompt}" in instruction and "{answer}" in instruction
    text = instruction if own else FRAME.replace("{instruction}", instruction)
    return _filled(text, prompt, answer)


def marking(prompt: Prompt, answer: str) -> Prompt:
    """The conversation in which a judge is asked how good ``answer`` to ``prompt`` is."""
    return _filled(MARK, prompt, answer)


def _filled(text: str, prompt: Prompt, answer: str) -> Prompt:
    # The parts are joined, not replaced one after another: a request may hold the word {answer} itself.
    before, _, after = text.partition("{prompt}")
    filled = before.replace("{answer}", answer) + _told(prompt) + after.replace("{answer}", answer)
    return Prompt((Message("user", filled),))


def _told(prompt: Prompt) -> str:
    if len(prompt.messages) == 1:
        return prompt.messages[0].text
    return "\n".join(f"{SPEAKERS[message.role]}: {message.text}" for message in prompt.messages)
