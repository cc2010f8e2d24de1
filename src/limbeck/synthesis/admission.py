"""Which of the prompts that a teacher wrote are taken, and why the others are not.

| reason                    | refused is what                                                                   |
|---------------------------|-----------------------------------------------------------------------------------|
| `held-out copy`           | has the words of a held-out prompt, whatever their case and marks                  |
| `near a held-out prompt`  | is as alike to one as the bound, or has it whole within itself                     |
| `copy`, `near-duplicate`  | is so to a prompt that was given, or made before                                   |
| `speaks of the request`   | talks of what was asked, as no given prompt does, or repeats the instruction       |
| `no words`                | has marks alone                                                                    |
| `too short`, `too long`   | has less than half the characters of the shortest given, over three times the most |

It has seen the held-out prompts; the teacher has not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from limbeck.likeness import Seen
from limbeck.records import Example, normalize

__all__ = ["Admission"]

ASIDE = re.compile(
    r"\b(?:given|original|rewritten|new|following|above|below) requests?\b|\A(?:new )?request:"
    r"|\bas an? (?:ai|language) ",
    re.I,
)
"""How a text gives away that it is about the task: the filter of Evol-Instruct (arXiv:2304.12244, section 3.3) in our
own instructions' words."""
ECHO = 8
"""Words in a row that a prompt has from the instruction by no accident."""
INSIDE = 5
"""Words from which a held-out prompt within another is no accident."""
SHORTER, LONGER = 0.5, 3.0


class Admission:
    """Says of one text after another whether it is taken; those that are count as seen from then on."""

    def __init__(self, examples: Sequence[Example], bound: float) -> None:
        texts = {held: [_text(e) for e in examples if (e.split == "held-out") == held] for held in (True, False)}
        self._held = {normalize(text) for text in texts[True]}
        self._known = {normalize(text) for text in texts[False]}
        self._near_held, self._near = Seen(bound), Seen(bound)
        for text in texts[True]:
            self._near_held.add(text)
        for text in texts[False]:
            self._near.add(text)
        lengths = [len(text) for text in texts[False]]
        self._least, self._most = SHORTER * min(lengths), LONGER * max(lengths)
        self._usual = {found.casefold() for text in texts[False] for found in ASIDE.findall(text)}
        self._inside = [words for words in sorted(self._held) if words.count(" ") + 1 >= INSIDE]

    def fault(self, text: str, instruction: str) -> tuple[str, str] | None:
        """Why ``text`` is refused, and the particulars; None if it is taken. ``instruction`` asked for it."""
        words = normalize(text)
        if not any(character.isalnum() for character in words):
            return "no words", ""
        if words in self._held:
            return "held-out copy", ""
        if words in self._known:
            return "copy", ""
        aside = next((found for found in ASIDE.findall(text) if found.casefold() not in self._usual), None)
        if aside or (aside := _shared(words, instruction)):
            return "speaks of the request", aside
        if not self._least <= len(text) <= self._most:
            reason = "too short" if len(text) < self._least else "too long"
            return reason, f"{len(text)} characters; expected {self._least:.0f} to {self._most:.0f}"
        if any(f" {held} " in f" {words} " for held in self._inside):
            return "near a held-out prompt", "it is within"
        for seen, reason in ((self._near_held, "near a held-out prompt"), (self._near, "near-duplicate")):
            if (near := seen.nearest(text)) is not None:
                return reason, f"alike by {near[1]:.2f}"
        self._known.add(words)
        self._near.add(text)
        return None


def _shared(words: str, instruction: str) -> str | None:
    """A run of `ECHO` words that both have."""
    own, other = words.split(), f" {normalize(instruction)} "
    runs = (" ".join(own[at : at + ECHO]) for at in range(len(own) - ECHO + 1))
    return next((run for run in runs if f" {run} " in other), None)


def _text(example: Example) -> str:
    return example.prompt.messages[-1].text
