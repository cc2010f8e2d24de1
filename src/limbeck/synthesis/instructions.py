"""The words with which a teacher is asked to mend a text: read them here, say others in the recipe.

`synthesis.improve_instruction` takes the place of `IMPROVE`; `synthesis.refine.instruction` has no default. Either is
put into `FRAME`; one that holds ``{prompt}`` and ``{answer}`` itself is the whole message.
"""

from __future__ import annotations

from limbeck.records import Message, Prompt

__all__ = ["FRAME", "IMPROVE", "mending"]

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

SPEAKERS = {"system": "Instructions", "user": "User", "assistant": "Assistant"}


def mending(instruction: str, prompt: Prompt, answer: str) -> Prompt:
    """The conversation in which a teacher is asked to write ``answer`` to ``prompt`` anew."""
    own = "{prompt}" in instruction and "{answer}" in instruction
    text = instruction if own else FRAME.replace("{instruction}", instruction)
    before, _, rest = text.partition("{prompt}")
    # The parts are joined, not replaced one after another: a request may hold the word {answer} itself.
    after = rest.replace("{answer}", answer) if "{answer}" in rest else rest
    before = before.replace("{answer}", answer)
    return Prompt((Message("user", before + _told(prompt) + after),))


def _told(prompt: Prompt) -> str:
    if len(prompt.messages) == 1:
        return prompt.messages[0].text
    return "\n".join(f"{SPEAKERS[message.role]}: {message.text}" for message in prompt.messages)
