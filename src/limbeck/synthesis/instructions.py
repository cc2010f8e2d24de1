"""The words with which a teacher is asked to mend a text, to mark one, or to write prompts like those it is shown.

`synthesis.improve_instruction` takes the place of `IMPROVE`; `synthesis.refine.instruction` has no default. Either is
put into `FRAME`; one that holds ``{prompt}`` and ``{answer}`` itself is the whole message. `OTHERS` asks for several
new prompts, `ANOTHER` for one made from one, by an instruction of `REWRITING`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from limbeck.records import Message, Prompt

__all__ = ["FRAME", "IMPROVE", "MARK", "REWRITING", "TRANSLATE", "marking", "mending", "rewriting", "writing_others"]

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

OTHERS = """\
Below are requests that people sent to an assistant. Write {count} new requests of the same kind, each about something
else than those below and than the others. Do not answer them.
{task}
{requests}

Write only the {count} new requests, numbered 1 to {count}."""

ANOTHER = """\
{instruction} Do not answer the request.
{task}
Request:
{request}

Write only the new request, with nothing before or after it."""

TASK = """
What the requests are for: {task}
"""

REWRITING: Mapping[str, Mapping[str, str]] = {
    "paraphrase": {
        "words": "Say the request below in other words, with the same meaning and every detail.",
        "order": "Say the request below in other words, telling its details in another order, with the same meaning.",
    },
    "intent": {
        "another": "Write a request about the same thing as below, by somebody who wants something else.",
    },
    "tone": {
        "polite": "Write the request below anew as a very polite person would.",
        "annoyed": "Write the request below anew as somebody who is annoyed would.",
        "casual": "Write the request below anew as somebody would who chats with a friend.",
        "hurried": "Write the request below anew as somebody in a hurry would.",
    },
    "length": {
        "short": "Write the request below anew, as short as it can be said.",
        "long": "Write the request below anew at greater length: with a sentence or two of how it came about.",
    },
    "difficulty": {
        "easier": "Write a request like the one below that is easier to fulfill.",
        "harder": "Write a request like the one below that is harder to fulfill.",
    },
    "evolve": {
        "constraint": "Write the request below anew with one more constraint or requirement.",
        "deepen": "Write the request below anew so that it asks for more depth and detail about its subject.",
        "concrete": "Write the request below anew with what is general in it made concrete.",
        "reasoning": "Write the request below anew so that it takes one more step of thought to fulfill.",
        "breadth": "Write a quite different and rarer request in the same field as the one below.",
    },
}
"""How one request is made from another, by what is changed and to what. Under `evolve` are the operations of
Evol-Instruct (Xu et al. 2023, arXiv:2304.12244, section 3.2), in words that a small teacher can follow."""

TRANSLATE = "Write the request below anew in {language}, as a native speaker would say it."

SPEAKERS = {"system": "Instructions", "user": "User", "assistant": "Assistant"}


def mending(instruction: str, prompt: Prompt, answer: str) -> Prompt:
    """The conversation in which a teacher is asked to write ``answer`` to ``prompt`` anew."""
    own = "{prompt}" in instruction and "{answer}" in instruction
    text = instruction if own else FRAME.replace("{instruction}", instruction)
    return _filled(text, prompt, answer)


def marking(prompt: Prompt, answer: str) -> Prompt:
    """The conversation in which a judge is asked how good ``answer`` to ``prompt`` is."""
    return _filled(MARK, prompt, answer)


def writing_others(requests: Sequence[str], count: int, task: str | None) -> Prompt:
    """The conversation in which a teacher is asked for ``count`` requests like those."""
    shown = "\n".join(f"{number}. {request}" for number, request in enumerate(requests, 1))
    return _asking(OTHERS.replace("{count}", str(count)), "{requests}", shown, task)


def rewriting(instruction: str, request: str, task: str | None) -> Prompt:
    """The conversation in which a teacher is asked for one request made from another."""
    return _asking(ANOTHER.replace("{instruction}", instruction), "{request}", request, task)


def _asking(text: str, place: str, shown: str, task: str | None) -> Prompt:
    # A request may hold the word {task} itself, so it is put in last.
    told = text.replace("{task}", TASK.replace("{task}", task) if task else "")
    before, _, after = told.rpartition(place)
    return Prompt((Message("user", before + shown + after),))


def _filled(text: str, prompt: Prompt, answer: str) -> Prompt:
    # All in one pass, not one after another: a request may hold the word {answer} itself.
    told = {"{prompt}": _told(prompt), "{answer}": answer}
    return Prompt((Message("user", re.sub(r"\{prompt\}|\{answer\}", lambda place: told[place[0]], text)),))


def _told(prompt: Prompt) -> str:
    if len(prompt.messages) == 1:
        return prompt.messages[0].text
    return "\n".join(f"{SPEAKERS[message.role]}: {message.text}" for message in prompt.messages)
