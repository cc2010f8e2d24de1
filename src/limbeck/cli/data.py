"""`limbeck data`: a job's examples shown, filtered, followed, exported, reported on. No command here loads a model."""

from __future__ import annotations

import json
import re
import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from limbeck.cli.targets import writable
from limbeck.cli.terminal import AsJson, Home, print_table, tell
from limbeck.errors import InvalidInput, NotYet
from limbeck.settings import Settings
from limbeck.storage.workspace import read_json, writing
from limbeck.views import export as exporting
from limbeck.views import lineage as tracing
from limbeck.views.rows import job_folder, rows
from limbeck.views.where import parse

__all__ = ["app"]

app = typer.Typer(help="A job's data: every prompt, answer and verdict.", no_args_is_help=True)

Job = Annotated[str, typer.Argument(help="A job's name; `limbeck jobs` lists them.")]
Where = Annotated[
    list[str] | None,
    typer.Option(help="KEY=VALUE, KEY!=VALUE, KEY>NUMBER (>=, <, <=) or KEY~TEXT; several must all hold."),
]


@app.command()
def show(
    job: Job,
    where: Where = None,
    limit: Annotated[int, typer.Option(help="Rows to show; 0 shows all.", min=0)] = 20,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Show a job's examples with their answers and verdicts."""
    wanted = parse(where or [])
    found = [row for row in rows(_with_examples(job, Settings.read(home))) if wanted(row)]
    shown = found[: limit or None]
    if as_json:
        exporting.write(shown, "jsonl", sys.stdout)
        return
    table = Table("id", "split", "origin", "verdict", "prompt", "response", "why", box=None, pad_edge=False)
    for row in shown:
        texts = (row["id"][:8], row["split"], row["origin"] or "–", row["verdict"])
        table.add_row(*texts, *(_cell(row[key]) for key in ("prompt", "response", "detail")))
    print_table(table)
    print(f"{len(shown)} of {len(found)} rows" + ("; --limit 0 shows all" if len(shown) < len(found) else ""))


@app.command()
def lineage(
    example: Annotated[str, typer.Argument(help="An example's id, or at least its first eight digits.")],
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Follow an example from its row to every model that learned from it."""
    found = tracing.lineage(example, Settings.read(home))
    if as_json:
        for fate in found:
            print(json.dumps(_told(fate), ensure_ascii=False))
        return
    for fate in found:
        row = fate.row
        print(f"{fate.job}: {row['file']} line {row['line']}, {row['split']}")
        print(f"  prompt    {_cell(row['prompt'])}  ({_made(row['prompt_origin'], row['prompt_parent'])})")
        if row["response"] is not None:
            print(f"  response  {_cell(row['response'])}  ({_made(row['origin'], row['parent'], row['teacher'])})")
        scores = ", ".join(f"{name} {value:g}" for name, value in (row["scores"] or {}).items())
        print(f"  verdict   {row['verdict']}" + "".join(f"; {_cell(part)}" for part in (scores, row["detail"]) if part))
        print(f"  use       {_use(fate)}")


@app.command()
def forget(
    what: Annotated[str, typer.Argument(help="An example's id, or KEY=VALUE of the metadata it came with.")],
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """List every job and model that learned from an example. Nothing is deleted."""
    settings = Settings.read(home)
    found = list(tracing.fates(tracing.matching(what), settings))
    if as_json:
        for fate in found:
            print(json.dumps(_told(fate), ensure_ascii=False))
        return
    table = Table("job", "example", "row", "use", "models", box=None, pad_edge=False)
    for fate in found:
        where = f"{fate.row['file']} line {fate.row['line']}"
        models = [fate.model, *fate.heirs] if fate.model else []
        table.add_row(fate.job, fate.row["id"][:8], _cell(where), fate.use, ", ".join(models) or "–")
    print_table(table)
    learned = sorted({name for fate in found if fate.model for name in (fate.model, *fate.heirs)})
    jobs = sorted({fate.job for fate in found})
    print(f"{len(found)} rows in {len(jobs)} jobs; models that learned from them: {', '.join(learned) or 'none'}")
    if found:
        print(f"their text lies in {', '.join(str(settings.jobs / job) for job in jobs)} and in {settings.answers}")


@app.command()
def export(
    job: Job,
    format: Annotated[exporting.Format, typer.Option(help="What a line is.")] = "jsonl",
    to: Annotated[Path | None, typer.Option(callback=writable, help="A file; by default standard output.")] = None,
    where: Where = None,
    home: Home = None,
) -> None:
    """Write a job's examples for another tool. openai and bedrock take what was kept, unless --where says otherwise."""
    conditions = where or (["verdict=kept"] if format in ("openai", "bedrock") else [])
    wanted = parse(conditions)
    found = (row for row in rows(_with_examples(job, Settings.read(home))) if wanted(row))
    if to is None:
        if format == "parquet":
            raise InvalidInput("--format parquet: no file to write; say --to FILE")
        exporting.write(found, format, sys.stdout)
        return
    if format == "parquet":
        count = exporting.write_parquet(found, to)
    else:
        with writing(to) as file:
            count = exporting.write(found, format, file)
    tell.print(f"{to}: {count} rows", markup=False, highlight=False, soft_wrap=True)


@app.command()
def report(
    job: Job,
    to: Annotated[
        Path | None, typer.Option(callback=writable, help="A file; by default data.html in the job's folder.")
    ] = None,
    home: Home = None,
) -> None:
    """Draw a page of a job's data: lengths, languages, a map, duplicates, refusals, verdicts with samples, cost."""
    # Loads scikit-learn, which the other commands need not wait for.
    from limbeck.views.report import report as drawn

    settings = Settings.read(home)
    folder = _with_examples(job, settings)
    path = to or folder / "data.html"
    with writing(path) as file:
        file.write(drawn(folder, settings))
    print(path)


def _with_examples(job: str, settings: Settings) -> Path:
    """The folder of a job that has examples. Raises `NotYet` for one that read documents, `Unknown`."""
    folder = job_folder(job, settings)
    if read_json(folder / "recipe.json")["kind"] == "continued-pre-training":
        place = folder / "1-intake" / "documents.jsonl"
        raise NotYet(f"{job}: it read documents and has no examples; documents are not shown yet, they lie in {place}")
    return folder


def _told(fate: tracing.Fate) -> dict[str, Any]:
    return {"job": fate.job, "use": fate.use, "model": fate.model, "heirs": list(fate.heirs), **fate.row}


def _use(fate: tracing.Fate) -> str:
    if fate.use != "trained":
        return fate.use
    if fate.model is None:
        return "trained; no model is registered yet"
    return f"trained {fate.model}" + (f", and at second hand {', '.join(fate.heirs)}" if fate.heirs else "")


def _made(origin: str | None, parent: str | None, teacher: str | None = None) -> str:
    parts = (origin, teacher and f"of {teacher}", parent and f"from {parent[:8]}")
    return ", ".join(part for part in parts if part) or "unknown"


def _cell(value: Any) -> Text:
    """A text on one line, without what a terminal would obey."""
    text = "–" if value is None else re.sub(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+", " ", str(value))
    short = "".join(islice(text, 80))
    return Text(short + ("…" if len(text) > 80 else ""))
