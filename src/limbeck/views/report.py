"""The data report: one page that shows what a job's student learned from, and what it did not, and why."""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.curation.duplicates import near_duplicates
from limbeck.curation.text import language_of
from limbeck.errors import DamagedArtifact, UnknownModel
from limbeck.models.catalog import find
from limbeck.page import render
from limbeck.settings import Settings
from limbeck.storage.workspace import read_json
from limbeck.teachers.estimate import money
from limbeck.views.figures import bars, histogram, scatter
from limbeck.views.map import chart
from limbeck.views.rows import UNJUDGED, Row, covering, read_lines, rows

__all__ = ["report"]

SAMPLES = 4
"""Rows shown of each verdict."""
PAIRS = 12
"""Near-duplicates and refused rows shown."""
ALIKE = 0.7
"""From this similarity two prompts are shown as near-duplicates: one word in ten is another."""
SHOWN = 600
"""Characters shown of a text."""


def report(job: Path, settings: Settings) -> str:
    """The page for the job in a folder, as far as it has come."""
    found = list(rows(job))
    taught = [row for row in found if row["response"] is not None]
    places, clusters = chart([row["prompt"] for row in found])
    verdicts = Counter(row["verdict"] for row in found)
    return render(
        __package__ or "",
        "report.html.j2",
        job=job.name,
        counts=_counts(found, verdicts),
        verdicts=bars(verdicts.most_common(), "examples by verdict", good="kept"),
        origins=bars(Counter(row["origin"] or "not answered" for row in found).most_common(), "answers by origin"),
        prompt_origins=bars(Counter(row["prompt_origin"] for row in found).most_common(), "prompts by origin"),
        made=_made(job),
        lengths=histogram(
            [
                ("prompts", [len(row["prompt"]) for row in found]),
                ("responses", [len(row["response"]) for row in taught]),
            ],
            "characters of prompts and responses, in columns that double",
        ),
        languages=bars(_languages(found, taught), "languages, where they can be told"),
        map=scatter(
            [(place.x, place.y, place.cluster, place.text) for place in places],
            clusters,
            f"{len(places):,} prompts by their words; point at one to read it",
        ),
        alike=_alike(found),
        folded=[row for row in found if row["copies"] > 1][:PAIRS],
        refused=_refused(job),
        samples=_samples(found, verdicts),
        cost=_cost(job, found, settings),
        shown=SHOWN,
    )


def _counts(found: Sequence[Row], verdicts: Mapping[str, int]) -> list[tuple[str, int]]:
    splits = Counter(row["split"] for row in found)
    kept = sum(row["split"] == "train" and row["verdict"] == "kept" for row in found)
    masked = sum(str(row["detail"] or "").startswith("masked: ") for row in found)
    own = {"kept", "held-out", UNJUDGED}
    return [
        ("examples", len(found)),
        ("trained on", kept),
        ("watched while training", splits["validation"]),
        ("held out", splits["held-out"]),
        ("dropped", sum(count for verdict, count in verdicts.items() if verdict not in own)),
        ("masked", masked),
    ]


def _languages(found: Sequence[Row], taught: Sequence[Row]) -> list[tuple[str, int]]:
    told = Counter(language_of(row["prompt"]) for row in found)
    said = Counter(language_of(row["response"]) for row in taught)
    named = [(f"prompts: {code}", count) for code, count in told.most_common(8) if code]
    return named + [(f"responses: {code}", count) for code, count in said.most_common(8) if code]


def _alike(found: Sequence[Row]) -> list[tuple[Row, Row, float]]:
    pairs = near_duplicates([row["prompt"] for row in found], ALIKE)
    closest = sorted(pairs.items(), key=lambda one: -one[1][1])
    return [(found[other], found[place], alike) for place, (other, alike) in closest[:PAIRS]]


def _refused(job: Path) -> dict[str, Any]:
    """What intake took of the files' rows, and what it did not, with the reasons."""
    path = job / "1-intake" / "report.csv"
    fates: Counter[str] = Counter()
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            fates.update(row["status"] for row in csv.DictReader(file))
    cover = covering(job, reasons=True)
    faults = list(read_lines(job / "1-intake" / "refused.jsonl"))
    reasons = Counter(f"{fault['field']}: expected {fault['expected']}" for fault in faults)
    return {
        "plot": bars(fates.most_common(), "rows of the files", good="accepted"),
        "reasons": [(cover(reason), count) for reason, count in reasons.most_common(PAIRS)],
        "first": [cover(fault["message"]) for fault in faults[:PAIRS]],
    }


def _made(job: Path) -> dict[str, Any] | None:
    """What came of asking for similar prompts, and what of it was refused; None where nobody asked."""
    path = job / "2-augmented" / "summary.json"
    if not path.exists():
        return None
    summary = read_json(path)
    # What nobody trains on is not masked either, so where privacy is asked for it is not shown.
    private = (read_json(job / "recipe.json").get("curation") or {}).get("privacy", "keep") != "keep"
    refused = [] if private else list(read_lines(path.parent / "refused.jsonl"))
    return {
        "sentence": summary["sentence"],
        "reasons": bars(sorted(summary["refused"].items(), key=lambda one: -one[1]), "made prompts refused"),
        "samples": random.Random(0).sample(refused, min(PAIRS, len(refused))),  # noqa: S311 (a sample, not a secret)
    }


def _samples(found: Sequence[Row], verdicts: Mapping[str, int]) -> list[tuple[str, int, list[Row]]]:
    dice = random.Random(0)  # noqa: S311 (a sample, not a secret)
    chosen = []
    for verdict in sorted(verdicts, key=lambda one: (one != "kept", one)):
        own = [row for row in found if row["verdict"] == verdict]
        chosen.append((verdict, len(own), dice.sample(own, min(SAMPLES, len(own)))))
    return chosen


def _cost(job: Path, found: Sequence[Row], settings: Settings) -> dict[str, Any] | None:
    """The tokens that stand in the answers; their price, where the teacher has one. None where nobody answered.

    Other samples and a judge's marks are not among them: the store of answers has those.
    """
    asked = [row for row in found if row["prompt_tokens"] is not None and row["teacher"]]
    if not asked:
        return None
    written = sum(row["response_tokens"] or 0 for row in asked if row["origin"] != "given")
    read = sum(row["prompt_tokens"] + (row["response_tokens"] or 0) for row in asked) - written  # labels are read
    prices = _prices(job, asked[0]["teacher"], settings)
    return {
        "teacher": asked[0]["teacher"],
        "answers": len(asked),
        "prompt_tokens": read,
        "response_tokens": written,
        "usd": None if prices is None else money(prices.cost(read, written)),
    }


def _prices(job: Path, teacher: str, settings: Settings) -> Any:
    from limbeck.recipe import Prices

    said = (read_json(job / "recipe.json").get("teacher") or {}).get("prices")
    if said:
        return Prices(**said)
    try:
        return find(teacher, settings).prices
    except (UnknownModel, DamagedArtifact):
        return None
