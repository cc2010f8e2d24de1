"""The commands that use what was made: `evaluate`, `invoke`, `export`, `models`, `jobs`.

The library imports torch, which takes seconds: those that compute import it when they are called.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from limbeck.cli.bars import watcher
from limbeck.cli.targets import writable
from limbeck.cli.terminal import AsJson, Home, decoded, print_json, print_table, stoppable, tell
from limbeck.errors import InvalidRecipe
from limbeck.models.catalog import catalog, custom_models, find, system_of
from limbeck.records import Quantization
from limbeck.settings import Settings
from limbeck.storage.workspace import job_states
from limbeck.views.lineage import heirs
from limbeck.views.rows import job_folder

__all__ = ["evaluate", "export", "invoke", "jobs", "models", "remove"]


def evaluate(
    model: Annotated[str, typer.Argument(help="Catalog id, registered name or folder.")],
    rows: Annotated[Path, typer.Argument(help="JSONL of labelled rows.")],
    system: Annotated[str | None, typer.Option(help="System prompt for rows without one.")] = None,
    max_tokens: Annotated[int, typer.Option(help="The longest answer, in tokens.", min=1)] = 256,
    to: Annotated[
        Path | None, typer.Option(callback=writable, help="Write every answer here, with its reference and score.")
    ] = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Measure a model on labelled rows: quality with intervals, latency, cost."""
    with tell.status("loading PyTorch"):
        from limbeck import library

    with stoppable("the answers so far are kept; the same command goes on") as stop:
        found = library.evaluate(
            model,
            rows,
            max_response_tokens=max_tokens,
            system=system,
            to=to,
            home=home,
            progress=watcher(tell),
            stop=stop,
        )
    if as_json:
        print_json(found)
        return
    for metric in ("exact_match", "token_f1"):
        score = found[metric]
        interval = f"95% interval {100 * score['low']:.1f} to {100 * score['high']:.1f}"
        print(f"{metric.replace('_', ' ')}: {100 * score['value']:.1f}% ({interval}, {score['rows']} rows)")
    timed = found["latency"]
    percentiles = f"p50 {1000 * timed['p50']:.1f} ms, p95 {1000 * timed['p95']:.1f} ms"
    print(f"latency: {percentiles}, {timed['tokens_per_second']:.1f} tokens/s")
    if "cost_per_1000_requests" in found:
        from limbeck.teachers.estimate import money

        print(f"cost: {money(found['cost_per_1000_requests'])} USD for 1,000 requests")
    for remark in found["remarks"]:
        print(remark)


def invoke(
    model: Annotated[str, typer.Argument(help="Catalog id, registered name or folder.")],
    prompt: Annotated[str, typer.Argument(help="What to ask; - reads it from standard input.")],
    system: Annotated[
        str | None, typer.Option(help="System prompt; by default the one the model learned with.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="The longest answer, in tokens.", min=1)] = 256,
    temperature: Annotated[float, typer.Option(help="0 is greedy.", min=0.0, max=2.0)] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
    home: Home = None,
) -> None:
    """Ask a model, hosted as `serve` would host it; the answer is streamed."""
    from limbeck.serving.chat import Conversation, Sampling, Turn
    from limbeck.serving.launch import answer_once

    text = _standard_input().removesuffix("\n") if prompt == "-" else prompt
    if not text.strip():
        raise InvalidRecipe("prompt", ["found nothing; expected text"])
    settings = Settings.read(home)
    source, told = find(model, settings), system_of(model, settings) if system is None else system
    turns = (*((Turn("system", (told,)),) if told else ()), Turn("user", (text,)))
    question = Conversation(turns, Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed))

    async def write() -> None:
        with tell.status(f"loading {model}") as loading:
            async for piece in answer_once(source, question, settings):
                loading.stop()
                sys.stdout.write(piece)
                sys.stdout.flush()

    asyncio.run(write())
    sys.stdout.write("\n")


def _standard_input() -> str:
    """All of it. Raises `InvalidInput` for what is no UTF-8."""
    return decoded(sys.stdin.buffer.read(), "standard input").removeprefix("\ufeff")


def export(
    model: Annotated[str, typer.Argument(help="Catalog id, registered name, folder or GGUF file.")],
    to: Annotated[Path, typer.Option(help="A folder to make: safetensors, GGUF file, Modelfile, parity.json.")],
    quantization: Annotated[Quantization, typer.Option(help="Bits a weight in the GGUF file.")] = "f16",
    prompts: Annotated[
        Path | None, typer.Option(help="JSONL to measure on; by default what the model's own job held out.")
    ] = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Write a model for other engines (llama.cpp, Ollama, LM Studio), and measure what that loses."""
    with tell.status("loading PyTorch"):
        from limbeck import library

    parity = library.export(model, to, quantization=quantization, prompts=prompts, home=home)
    if as_json:
        print_json({"model": model, "folder": str(to), **parity.to_json()})
        return
    print(f"{to}: {parity}")


def models(as_json: AsJson = False, home: Home = None) -> None:
    """List the catalog and the registered models."""
    settings = Settings.read(home)
    rows = [
        {
            "model": entry.id,
            "kind": "remote" if entry.elsewhere else "base",
            "base": None,
            "parameters": None,
            "licence": entry.licence,
            "verdict": None,
        }
        for entry in catalog(settings).values()
    ]
    for model in custom_models(settings).values():
        verdict = None if not model.report else "ship" if model.report.get("ship") else "do not ship"
        rows.append(
            {
                "model": model.name,
                "kind": model.kind,
                "base": model.base,
                "parameters": model.lineage.get("parameters"),
                "licence": None,
                "verdict": verdict,
            }
        )
    if as_json:
        print_json(rows)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("model", overflow="fold")  # to be copied: never cut off
    for name in ("kind", "made from", "size", "licence or verdict"):
        table.add_column(name)
    for row in rows:
        size = f"{row['parameters'] / 1e6:.1f} M" if isinstance(row["parameters"], int) else "–"
        said = row["licence"] or row["verdict"] or "–"
        table.add_row(str(row["model"]), str(row["kind"]), str(row["base"] or "–"), size, str(said))
    print_table(table)


def jobs(as_json: AsJson = False, home: Home = None) -> None:
    """List the jobs of this home and how far they are."""
    rows = list(job_states(Settings.read(home).jobs))
    if as_json:
        print_json(rows)
        return
    table = Table("job", "kind", "state", "stages done", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row["name"], row["kind"], row["state"], ", ".join(row["stages"]) or "–")
    print_table(table)


def remove(
    job: Annotated[str, typer.Argument(help="A job's name, as `limbeck jobs` has it.")], home: Home = None
) -> None:
    """Delete a job and the model it made; what the teacher answered is kept, for jobs to come."""
    from limbeck.steps.job import remove as remove_job  # loads what knows patterns and phone numbers

    settings = Settings.read(home)
    folder = job_folder(job, settings)
    left = heirs(folder, settings)
    remove_job(folder, settings)
    tell.print(f"{job}: removed", markup=False, highlight=False, soft_wrap=True)
    if left:
        told = f"{', '.join(left)} learned from it and stay; what they learned can no more be traced to its rows"
        tell.print(told, markup=False, highlight=False, soft_wrap=True)
