"""What a source comes to, in the numbers that advice goes by. Left in the folder: `counts.json`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from limbeck.advice import Counts
from limbeck.records import Example
from limbeck.storage.workspace import read_json, write_json

__all__ = ["count", "read_counts", "unseen_words", "write_counts"]

FILE = "counts.json"

_WORD = re.compile(r"[^\W_]+")
"""Letters and digits of any script, as `str.isalnum` has them."""


def count(examples: Sequence[Example], files: Collection[str], contradictions: int, golden: int) -> Counts:
    """The counts of ``examples``; what is held out, and rows of other files than ``files``, are no prompts."""
    watched = [example for example in examples if example.split == "validation"]
    given = [example for example in examples if example.split != "held-out" and example.file in files]
    held_out = [example for example in examples if example.split == "held-out"]
    training = [example for example in given if example.split == "train"]
    systems = {example.prompt.system for example in examples}
    return Counts(
        rows=sum(example.copies for example in given),
        prompts=len(given),
        training=len(training),
        labelled=sum(example.label is not None for example in given),
        contradictions=contradictions,
        systems=len(systems - {None}),
        without_system=sum(example.prompt.system is None for example in examples),
        golden=golden,
        validation=len(watched),
        held_out=len(held_out),
        unseen_words=unseen_words(
            (turn.text for example in training for turn in example.prompt.turns),
            (turn.text for example in held_out for turn in example.prompt.turns),
        ),
    )


def unseen_words(learned: Iterable[str], examined: Iterable[str]) -> float:
    """The share of the words of ``examined`` that ``learned`` has nowhere; case does not count."""
    known = {word for text in learned for word in _words(text)}
    asked = [word for text in examined for word in _words(text)]
    return sum(word not in known for word in asked) / len(asked) if asked else 0.0


def write_counts(folder: Path, counts: Counts) -> None:
    """Put them beside the rows they were counted on."""
    write_json(folder / FILE, asdict(counts))


def read_counts(folder: Path) -> Counts:
    """Counts as `write_counts` wrote them."""
    return Counts(**read_json(folder / FILE))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
