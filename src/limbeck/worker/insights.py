"""The report on a job's input, as Amazon Bedrock's prompt insights: every row, accepted or rejected, and why.

    file,line,status,reason
    prompts.jsonl,1,accepted,
    prompts.jsonl,2,accepted,its answer is not learned: truncated: cut off after 256 tokens
    prompts.jsonl,3,rejected,"refused: prompt: found 7, expected text"
    check,2,failed,2 prompts accepted; expected 100 to 15000
    total,3,accepted,2

Bedrock's says "accepted" of every row of a set that then fails by their number; the line `check` is that number's
verdict. Where the number alone refused the job, the rows are told all the same. A reason may quote a row; where privacy
is asked for, what is private in it is masked.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from limbeck import curation
from limbeck.intake import Row, names_of, read_rows
from limbeck.intake.collect import MAXIMUM_ROWS
from limbeck.intake.documents import MAXIMUM_DOCUMENTS
from limbeck.recipe import Recipe

__all__ = ["insights"]

WAYS = {"accepted": "accepted", "folded": "accepted", "guarded": "rejected", "refused": "rejected"}
"""Bedrock's two words for what becomes of a row, for ours."""

Fate = tuple[str, str, str, str]
"""File, line, status in our words, reason."""


def insights(folder: Path, recipe: Recipe) -> str | None:
    """The report as CSV for the job in ``folder``; None where there is nothing yet to tell."""
    fates = list(_told(folder) if (folder / "1-intake" / "report.csv").exists() else _surveyed(recipe))
    if not fates:
        return None
    dropped, fit = _dropped(folder), curation.cover_reason(recipe.curation)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("file", "line", "status", "reason"))
    for file, line, status, reason in fates:
        shown = "" if status == "accepted" else f"{status}: {reason}"
        writer.writerow((file, line, WAYS[status], fit(shown or dropped.get((file, line), ""))))
    accepted = sum(WAYS[status] == "accepted" for *_, status, _ in fates)
    names = names_of(recipe.source.files)
    prompts = {names[path] for path in recipe.source.prompt_files}
    counted = sum(WAYS[status] == "accepted" for file, _, status, _ in fates if file in prompts)
    read = recipe.kind == "continued-pre-training"
    most = MAXIMUM_DOCUMENTS if read else MAXIMUM_ROWS
    passed = "passed" if recipe.minimum_rows <= counted <= most else "failed"
    bounds = f"{counted} {'documents' if read else 'prompts'} accepted; expected {recipe.minimum_rows} to {most}"
    writer.writerow(("check", counted, passed, bounds))
    writer.writerow(("total", len(fates), "accepted", accepted))
    return out.getvalue()


def _told(folder: Path) -> Iterator[Fate]:
    with (folder / "1-intake" / "report.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield row["file"], row["line"], row["status"], row["reason"]


def _surveyed(recipe: Recipe) -> Iterator[Fate]:
    """The rows of a job that was refused before any was taken."""
    if recipe.kind == "continued-pre-training":
        return
    names = names_of(recipe.source.files)
    for path in recipe.source.prompt_files:
        if not path.exists():
            continue
        for row in read_rows(path, recipe.source.droppable, recipe.source.named_columns, names[path]):
            if isinstance(row, Row):
                yield names[path], str(row.line), "accepted", ""
            else:
                reason = "; ".join(f"{fault.field}: found {fault.found}, expected {fault.expected}" for fault in row)
                yield names[path], str(row[0].line), "refused", reason


def _dropped(folder: Path) -> Mapping[tuple[str, str], str]:
    """Why curation does not let an accepted row's answer be learned, by file and line."""
    path = folder / "3-curation" / "dropped.jsonl"
    if not path.exists():
        return {}
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return {
        (row["file"], str(row["line"])): f"its answer is not learned: {row['verdict']}: {row['detail']}".rstrip(": ")
        for row in rows
    }
