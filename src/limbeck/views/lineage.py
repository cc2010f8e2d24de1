"""From an example to every model that learned from it, over all jobs of a home.

A model learned from an example if its job kept the example's answer among those it trains on. Models that such a model
taught, or that started from its weights, learned from it at second hand, and so on. Nothing is deleted here: what must
be forgotten is listed, with the files it lies in, so that a person can decide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.errors import InvalidInput, Unknown
from limbeck.settings import Settings
from limbeck.storage.workspace import read_json
from limbeck.views.rows import Row, rows, senders

__all__ = ["Fate", "fates", "lineage", "matching"]

SHORTEST = 8
"""Digits of an id that are enough to name it: among a million examples two share them once in 9,000 cases."""


@dataclass(frozen=True)
class Fate:
    """What became of one example in one job."""

    job: str
    row: Row
    use: str
    """"trained" if a student learned from it, "watched" if its loss was, "examined", "dropped", "none yet"."""
    model: str | None
    """The model that came of it, if the job is finished and learned from it."""
    heirs: tuple[str, ...]
    """Models that learned from that one, directly or not."""


def lineage(example: str, settings: Settings) -> list[Fate]:
    """An example's fate in every job, by its id or the beginning of it. Raises `Unknown` if no job has it."""
    found = list(fates(_named(example), settings))
    if not found:
        raise Unknown(f'no job in {settings.jobs} has an example "{example}"; `limbeck data show JOB` lists ids')
    ids = {str(fate.row[key]) for fate in found for key in ("id", "prompt_unmasked")}
    sources = {one for one in ids if one.startswith(example.lower())}
    if len(sources) > 1:
        raise InvalidInput(f'"{example}" begins {len(sources)} ids: {", ".join(sorted(sources))}; say more of it')
    return found


def matching(what: str) -> Callable[[Row], bool]:
    """Rows meant by a hash (an id, or its beginning) or by a metadata value, `key=value`."""
    key, equals, value = what.partition("=")
    if not equals:
        return _named(what)
    # A prompt that several sent is one row; each of them may ask for it to be forgotten.
    return lambda row: any(sent.get(key) == value for sent in (row["metadata"] or {}, *(row["others"] or ())))


def fates(meant: Callable[[Row], bool], settings: Settings) -> Iterator[Fate]:
    """What became of the rows that are meant, and of the prompts written from them, job by job."""
    models = _models(settings)
    for path in sorted(settings.jobs.glob("*/recipe.json")):
        job = path.parent
        model = next((name for name, facts in models.items() if Path(facts["path"]).parent == job), None)
        named = _as_sent(meant, job)
        seeds = {one for row in rows(job) if named(row) for one in (row["id"], row["prompt_unmasked"]) if one}
        for row in rows(job):
            if named(row) or row["prompt_parent"] in seeds:
                use = _use(row)
                learned = model if use == "trained" else None
                yield Fate(job.name, row, use, learned, tuple(_heirs(learned, models)) if learned else ())


def _as_sent(meant: Callable[[Row], bool], job: Path) -> Callable[[Row], bool]:
    """``meant``, of rows with their metadata as it was sent: where a job asks for privacy they show it masked."""
    sent = senders(job)
    return lambda row: meant({**row, **sent.get(row["prompt_unmasked"] or row["id"], {})})


def _named(text: str) -> Callable[[Row], bool]:
    if not re.fullmatch(rf"[0-9a-fA-F]{{{SHORTEST},64}}", text):
        raise InvalidInput(f'found "{text}"; expected an example\'s id, or at least its first {SHORTEST} digits')
    wanted = text.lower()
    return lambda row: any(str(row[key]).startswith(wanted) for key in ("id", "prompt_unmasked", "prompt_parent"))


def _use(row: Row) -> str:
    if row["split"] == "held-out":
        return "examined"
    if row["verdict"] != "kept":
        return "none yet" if row["verdict"] == "none yet" else "dropped"
    return "trained" if row["split"] == "train" else "watched"


def _models(settings: Settings) -> Mapping[str, Mapping[str, Any]]:
    return {path.stem: read_json(path) for path in sorted(settings.models.glob("*.json"))}


def _heirs(model: str, models: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    """Models taught by ``model`` or made from it, by those, and so on, nearest first."""
    found: list[str] = []
    line = [model]
    while line:
        parent = line.pop(0)
        names = {parent, str(models[parent].get("path"))}
        for name, facts in models.items():
            if name not in (model, *found) and {facts.get("base"), facts["lineage"].get("taught_by")} & names:
                found.append(name)
                line.append(name)
    return found
