"""A job's examples, a row each: where it came from, what was answered, and the verdict.

Read from `1-intake/examples.jsonl`, `2-augmented/examples.jsonl`, `2-synthesis/answers.jsonl`, `3-curation/kept.jsonl`
and `dropped.jsonl`; of a job under way, from those it has so far. Of an example without a verdict `verdict` is
"held-out", if it is for the examination, else "none yet". Where the job's recipe asks for privacy, what is private is
shown in none: curation masked it in its own, and here it is in the others.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from limbeck.errors import DamagedArtifact, Unknown
from limbeck.settings import Settings
from limbeck.storage.workspace import read_json

__all__ = ["KEYS", "UNJUDGED", "Row", "covering", "job_folder", "read_lines", "rows", "senders"]

Row = Mapping[str, Any]

KEYS = (
    "id",
    "split",
    "verdict",
    "detail",
    "prompt",
    "response",
    "label",
    "before",
    "origin",
    "parent",
    "teacher",
    "settings",
    "seed",
    "scores",
    "prompt_origin",
    "prompt_parent",
    "prompt_unmasked",
    "prompt_method",
    "file",
    "line",
    "copies",
    "metadata",
    "others",
    "messages",
    "finish_reason",
    "prompt_tokens",
    "response_tokens",
)
"""Of every row, in this order. `prompt` is the text of the last turn."""

UNJUDGED = "none yet"
"""In the place of a verdict, of an example that curation has not seen."""

TEXTS = ("messages", "response", "label", "metadata", "others")
"""What may be private in a row that curation has not seen."""


def job_folder(name: str, settings: Settings) -> Path:
    """The folder of a job. Raises `Unknown` if there is none of that name."""
    folder = settings.jobs / name
    if "/" in name or not (folder / "recipe.json").exists():
        known = sorted(path.parent.name for path in settings.jobs.glob("*/recipe.json"))
        raise Unknown(f'no job "{name}" in {settings.jobs}; there is {", ".join(known[:10]) or "none"}')
    return folder


def rows(job: Path) -> Iterator[dict[str, Any]]:
    """Every example of a job, in the order in which curation has them, those without a verdict last."""
    asked = {row["id"]: row for row in read_lines(job / "2-synthesis" / "answers.jsonl")}
    judged: set[str | None] = set()
    for name in ("kept.jsonl", "dropped.jsonl"):
        for row in read_lines(job / "3-curation" / name):
            # Masked: another id. Jobs of earlier versions have the one before as the parent.
            before = row.get("prompt_unmasked") or row.get("prompt_parent")
            source = str(before) if before in asked and row["id"] not in asked else row["id"]
            judged |= {row["id"], source, row.get("prompt_unmasked")}
            yield _row(row, asked.get(source, {}))
    cover = covering(job)
    for row in _examples(job):
        if row["id"] not in judged:
            answer = asked.get(row["id"], {})
            about = {
                **row,
                "origin": answer.get("origin"),
                "parent": answer.get("parent"),
                "teacher": answer.get("teacher"),
                "response": answer.get("text"),
                "prompt_origin": row.get("origin"),
                "prompt_parent": row.get("parent"),
                "prompt_method": row.get("method"),
                "verdict": "held-out" if row["split"] == "held-out" else UNJUDGED,
            }
            yield _row({**about, **cover({key: about.get(key) for key in TEXTS})}, answer)


def senders(job: Path) -> dict[str, Row]:
    """What callers sent with a job's examples, as they sent it: `metadata` and `others` by the example's id."""
    return {
        row["id"]: {"metadata": row["metadata"], "others": row.get("others")}
        for row in _examples(job)
        if row.get("metadata")
    }


def covering(job: Path, reasons: bool = False) -> Callable[[Any], Any]:
    """What masks the texts in a JSON value, or ``reasons``, where the job's recipe asks for privacy; else they stay."""
    told = read_json(job / "recipe.json").get("curation") or {}
    if told.get("privacy", "keep") == "keep":
        return lambda value: value
    # Loaded here: a second that other jobs need not wait.
    from limbeck.curation import cover, cover_reason
    from limbeck.recipe import Curation

    return (cover_reason if reasons else cover)(Curation.model_validate(told))


def _examples(job: Path) -> Iterator[dict[str, Any]]:
    """What was given, and what the teacher wrote like it."""
    stages = ("1-intake", "2-augmented")
    return itertools.chain.from_iterable(read_lines(job / stage / "examples.jsonl") for stage in stages)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file; none if it is not there (yet). Raises `DamagedArtifact` for a line that is none."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except ValueError:
                raise DamagedArtifact(f"{path} line {number}: not JSON; it was changed since it was written") from None


def _row(about: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    found = {**{key: answer.get(key) for key in ("finish_reason", "prompt_tokens", "response_tokens")}, **about}
    found["prompt"] = about["messages"][-1]["text"]
    return {key: found.get(key) for key in KEYS}
