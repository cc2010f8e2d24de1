"""From an example to every model that learned from it, over all jobs of a home.

A model learned from an example if its job kept the example's answer among those it trains on. Models that such a model
taught, or that started from its weights, learned from it at second hand, and so on: through models, too, that were
deleted since. Nothing is deleted here: what must be forgotten is listed, with the files it lies in, so that a person
can decide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck.errors import InvalidInput, Unknown
from limbeck.settings import Settings
from limbeck.storage.workspace import MANIFEST, read_json
from limbeck.views.rows import UNJUDGED, Row, rows, senders

__all__ = ["Fate", "fates", "heirs", "lineage", "matching"]

EXAMINED = "5-evaluation"
"""The last stage before there is a model."""

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


def heirs(job: Path, settings: Settings) -> tuple[str, ...]:
    """The models that were taught by what a job made, or made from it, and so on, nearest first."""
    models = list(_registered(settings))
    made = [model for model in models if model.job.resolve() == job.resolve()]
    return tuple(dict.fromkeys(name for model in made for name in _heirs(model, models)))


def matching(what: str) -> Callable[[Row], bool]:
    """Rows meant by a hash (an id, or its beginning) or by a metadata value, `key=value`."""
    key, equals, value = what.partition("=")
    if not equals:
        return _named(what)
    # A prompt that several sent is one row; each of them may ask for it to be forgotten.
    return lambda row: any(sent.get(key) == value for sent in (row["metadata"] or {}, *(row["others"] or ())))


def fates(meant: Callable[[Row], bool], settings: Settings) -> Iterator[Fate]:
    """What became of the rows that are meant, and of the prompts written from them, job by job."""
    models = [*_registered(settings), *_deleted(settings)]
    for path in sorted(settings.jobs.glob("*/recipe.json")):
        job = path.parent
        model = next((one for one in models if one.job == job), None)
        named = _as_sent(meant, job)
        seeds = {one for row in rows(job) if named(row) for one in (row["id"], row["prompt_unmasked"]) if one}
        for row in rows(job):
            if named(row) or row["prompt_parent"] in seeds:
                use = _use(row)
                if model is not None and use == "trained":
                    yield Fate(job.name, row, use, model.name, _heirs(model, models))
                else:
                    yield Fate(job.name, row, use, None, ())


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
        return UNJUDGED if row["verdict"] == UNJUDGED else "dropped"
    return "trained" if row["split"] == "train" else "watched"


@dataclass(frozen=True)
class _Made:
    """A model that a job made."""

    name: str
    job: Path
    known_as: frozenset[str]
    """What jobs that it taught, or that began with it, call it by."""
    parents: frozenset[str]
    """What taught it or was its beginning."""


def _registered(settings: Settings) -> Iterator[_Made]:
    for path in sorted(settings.models.glob("*.json")):
        facts = read_json(path)
        parents = {str(facts.get("base")), str(facts["lineage"].get("taught_by"))}
        place = settings.home / facts["path"]
        yield _Made(path.stem, place.parent, frozenset({path.stem, str(place)}), frozenset(parents))


def _deleted(settings: Settings) -> Iterator[_Made]:
    """Models of finished jobs whose folder is gone. Their recipes tell who taught them: of a trial, all who might."""
    for path in sorted(settings.jobs.glob("*/recipe.json")):
        job, recipe = path.parent, read_json(path)
        place = job / "6-model"
        if place.exists() or not (job / EXAMINED / MANIFEST).exists():
            continue
        teachers = [recipe.get("teacher"), *((recipe.get("trial") or {}).get("teachers") or ())]
        writer = (recipe["synthesis"].get("augment") or {}).get("writer")
        parents = {str(one["model"]) for one in (*teachers, writer, recipe["student"]) if one}
        name = recipe["name"]
        yield _Made(f"{name} (deleted)", job, frozenset({name, str(place)}), frozenset(parents))


def _heirs(model: _Made, models: Sequence[_Made]) -> tuple[str, ...]:
    """Models taught by ``model`` or made from it, by those, and so on, nearest first."""
    found = [model]
    for parent in found:  # which grows meanwhile
        found += [one for one in models if one not in found and one.parents & parent.known_as]
    return tuple(one.name for one in found[1:])
