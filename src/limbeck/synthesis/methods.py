"""How a teacher is asked for prompts, and how its replies are read: strictly, but fairly to a small one.

| method       | asked for                                                                                     |
|--------------|-----------------------------------------------------------------------------------------------|
| `similar`    | `AT_ONCE` others like `SHOWN` that it is shown, three of four of them given and the rest made  |
|              | (Self-Instruct; Wang et al. 2022, arXiv:2212.10560, section 2.2)                               |
| `paraphrase` | the same in other words                                                                       |
| `vary`       | one attribute changed: intent, tone, length, difficulty, language                             |
| `evolve`     | made deeper or broader (Evol-Instruct; Xu et al. 2023, arXiv:2304.12244, section 3.2)          |

The words are in `instructions`. What a reply must not be is `admission`'s to say.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from limbeck.recipe import Augment
from limbeck.recipe.rounds import AT_ONCE
from limbeck.records import Answer, Example, Prompt
from limbeck.synthesis.instructions import REWRITING, TRANSLATE, rewriting, writing_others

__all__ = ["Request", "read", "request"]

SHOWN = 8
"""Prompts shown at once, as in Self-Instruct."""
CHARACTERS = 4000
"""The most that those shown have together, the first excepted: about 1,000 tokens, half of a small model's window."""

NUMBERED = re.compile(r"^[ \t]*(?:[*#_]{1,3}[ \t]*)?(?:(?:new )?request[ \t]*)?#?(\d{1,2})[ \t]*[.:)\]]", re.M | re.I)
"""What begins an entry of a list: `1.`, `2)`, `**3.**`, `Request 4:`."""
BULLET = re.compile(r"^[ \t]*[-*•][ \t]+", re.M)
PREAMBLE = re.compile(
    r"\A(?:(?:sure|certainly|of course|okay|ok|here(?:'s| is| are))\b[^\n]{0,120}:[ \t]*\n+"
    r"|\**(?:the )?(?:new |rewritten |revised )?(?:request|version)\**[ \t]*:\**[ \t]*)",
    re.I,
)
"""What teachers say before they do as asked: `Sure! Here is the new request:`, `New request:`."""
QUOTES = (('"', '"'), ("“", "”"), ("'", "'"), ("`", "`"), ("**", "**"))


@dataclass(frozen=True)
class Request:
    """One thing asked of the teacher."""

    method: str
    """With what was changed: `vary: tone, annoyed`."""
    prompt: Prompt
    parent: Example
    """The given example that it starts from."""
    shown: tuple[str, ...]
    """The ids of all prompts that the teacher sees."""
    words: str
    """The message without the prompts in it."""
    several: bool
    """Whether the reply is a list."""


def request(
    method: str, parent: Example, given: Sequence[Example], made: Sequence[Example], plan: Augment, dice: random.Random
) -> Request:
    """What the teacher is asked by ``method``, starting from ``parent``; ``given`` and ``made`` are of its cluster."""
    if method == "similar":
        fresh = dice.sample(made, min(SHOWN // 4, len(made)))
        others = [example for example in given if example is not parent]
        shown = _fitting([parent, *fresh, *dice.sample(others, min(SHOWN - 1 - len(fresh), len(others)))])
        dice.shuffle(shown)
        prompt = writing_others([_text(example) for example in shown], AT_ONCE, plan.task)
        words = writing_others((), AT_ONCE, plan.task).messages[0].text
        return Request(method, prompt, parent, tuple(example.id for example in shown), words, several=True)
    told, instruction = _instruction(method, plan, dice)
    prompt = rewriting(instruction, _text(parent), plan.task)
    words = rewriting(instruction, "", plan.task).messages[0].text
    return Request(told, prompt, parent, (parent.id,), words, several=False)


def read(reply: Answer, asked: Request) -> tuple[list[str], list[tuple[str, str]]]:
    """The prompts in a reply, and the parts that are none, each with the reason."""
    text, cut = reply.text.strip(), reply.finish_reason != "stop"
    if not text:
        return [], [("", "empty")]
    if not asked.several:
        return ([], [(text, "cut off")]) if cut else ([_bare(text)], [])
    entries = _entries(text)
    if not entries:
        return [], [(text, "not a list")]
    lost = [(entries.pop(), "cut off")] if cut else []
    return [_bare(entry) for entry in entries], lost


def _fitting(examples: Sequence[Example]) -> list[Example]:
    """The first, and of the others as many in turn as go into `CHARACTERS`."""
    chosen, room = [examples[0]], CHARACTERS - len(_text(examples[0]))
    for example in examples[1:]:
        if len(_text(example)) <= room:
            chosen.append(example)
            room -= len(_text(example))
    return chosen


def _instruction(method: str, plan: Augment, dice: random.Random) -> tuple[str, str]:
    """The method with what is changed in particular, and the words for it."""
    if method != "vary":
        change = dice.choice(list(REWRITING[method]))
        return f"{method}: {change}", REWRITING[method][change]
    attribute = dice.choice([*plan.attributes, *(["language"] if plan.languages else [])])
    if attribute == "language":
        language = dice.choice(plan.languages)
        return f"vary: language, {language}", TRANSLATE.replace("{language}", language)
    change = dice.choice(list(REWRITING[attribute]))
    return f"vary: {attribute}, {change}", REWRITING[attribute][change]


def _entries(text: str) -> list[str]:
    """The entries of a numbered list, whose numbers go up by one, or of one with bullets."""
    starts: list[re.Match[str]] = []
    for found in NUMBERED.finditer(text):
        if not starts or int(found[1]) == int(starts[-1][1]) + 1:
            starts.append(found)
    if not starts:
        return [part.strip() for part in BULLET.split(text)[1:] if part.strip()]
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return [text[start.end() : end].strip() for start, end in zip(starts, ends, strict=True)]


def _bare(text: str) -> str:
    """A prompt without what stands around it: a preamble, the stars of bold print, quotation marks."""
    text = PREAMBLE.sub("", PREAMBLE.sub("", text.strip(), count=1), count=1).strip()
    if text.startswith("**") and text.count("**") == 1:
        text = text[2:].strip()  # the other half went with the number
    for opening, closing in QUOTES:
        inner = text[len(opening) : -len(closing)]
        if (
            len(text) > 2
            and text.startswith(opening)
            and text.endswith(closing)
            and opening not in inner
            and closing not in inner
        ):
            return inner.strip()
    return text


def _text(example: Example) -> str:
    return example.prompt.messages[-1].text
