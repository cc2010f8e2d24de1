"""The commands. Each reads its flags, calls one function of the library, and prints what came of it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from limbeck import __version__
from limbeck.cli import data
from limbeck.cli.advising import advice_on, lines
from limbeck.cli.bars import watcher
from limbeck.cli.forecast import forecast
from limbeck.cli.surveying import impossible_rules, named_in_vain, parsed_filter, survey_logs
from limbeck.cli.targets import writable
from limbeck.errors import InvalidDataset, InvalidInput, InvalidRecipe, LimbeckError, Stopped
from limbeck.intake import survey
from limbeck.models.catalog import catalog, custom_models
from limbeck.progress import StopSignal
from limbeck.recipe import Recipe, assign
from limbeck.records import Quantization
from limbeck.settings import Settings
from limbeck.storage.keys import BearerKey, Keys
from limbeck.storage.workspace import job_states, read_json

if TYPE_CHECKING:
    from limbeck.recipe import Kind
    from limbeck.records import CustomModel, Report

# The library imports torch, which takes seconds: only the commands that compute import it, when they are called.

__all__ = ["main"]

app = typer.Typer(
    name="limbeck",
    help="Distill language models: prompts in, a small, measured, registered student out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
tell = Console(stderr=True)

Home = Annotated[Path | None, typer.Option(help="Where jobs and models live; by default LIMBECK_HOME or ~/.limbeck.")]
RecipeFile = Annotated[
    Path | None, typer.Argument(help="A recipe in YAML; flags win over what it says.", show_default=False)
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any key of a recipe, for example training.epochs=2.", metavar="KEY=VALUE"),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a job that was broken off.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """The program: runs a command, and tells every error in words."""
    try:
        status = app(standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except LimbeckError as error:
        tell.print(f"limbeck: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as fault:
        if hasattr(fault, "exit_code") and hasattr(fault, "format_message"):  # a wrong flag or argument
            tell.print(f"limbeck: {fault.format_message()}", markup=False, highlight=False)
            sys.exit(2)
        tell.print(f"limbeck: {_keep_trace(fault)}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


@app.command()
def distill(
    recipe: RecipeFile = None,
    name: Annotated[str | None, typer.Option(help="Of the job and of the model it makes.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="JSONL of prompts, with or without answers.")] = None,
    held_out: Annotated[Path | None, typer.Option(help="JSONL to examine the student on.")] = None,
    golden: Annotated[Path | None, typer.Option(help="JSONL of pairs shown to the teacher.")] = None,
    system: Annotated[str | None, typer.Option(help="System prompt for rows without one.")] = None,
    teacher: Annotated[str | None, typer.Option(help="Catalog id, registered name or folder.")] = None,
    student: Annotated[str | None, typer.Option(help="What the student starts from; by default the teacher.")] = None,
    layers: Annotated[int | None, typer.Option(help="Cut the student to so many layers.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest rate.")] = None,
    minimum: Annotated[int | None, typer.Option(help="Accept so few prompts (by default 100).")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take: rows, tokens, time, cost; ask nobody.")
    ] = False,
    as_json: AsJson = False,
    set_: Set = None,
    resume: Resume = False,
    home: Home = None,
) -> None:
    """Teach a student a teacher's answers, measure it, register it."""
    flags = {
        "name": name,
        "source.prompts": prompts,
        "source.held_out": held_out,
        "source.golden": golden,
        "source.system": system,
        "source.minimum": minimum,
        "teacher.model": teacher,
        "student.model": student,
        "student.shrink.layers": layers,
        "training.epochs": epochs,
        "training.learning_rate": learning_rate,
    }
    if dry_run:
        settings = Settings.read(home)
        _print_forecast(_recipe("distillation", recipe, _given(flags, set_), resume, settings), settings, as_json)
        return
    _run("distillation", recipe, flags, set_, resume, home)


@app.command()
def fine_tune(
    recipe: RecipeFile = None,
    name: Annotated[str | None, typer.Option(help="Of the job and of the model it makes.")] = None,
    pairs: Annotated[Path | None, typer.Option(help="JSONL of labelled pairs.")] = None,
    held_out: Annotated[Path | None, typer.Option(help="JSONL to examine the model on.")] = None,
    system: Annotated[str | None, typer.Option(help="System prompt for rows without one.")] = None,
    model: Annotated[
        str | None, typer.Option(help="What it starts from: catalog id, registered name or folder.")
    ] = None,
    layers: Annotated[int | None, typer.Option(help="Cut it to so many layers first.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest rate.")] = None,
    minimum: Annotated[int | None, typer.Option(help="Accept so few pairs (by default 8).")] = None,
    set_: Set = None,
    resume: Resume = False,
    home: Home = None,
) -> None:
    """Teach a model labelled pairs, measure it, register it."""
    flags = {
        "name": name,
        "source.prompts": pairs,
        "source.held_out": held_out,
        "source.system": system,
        "source.minimum": minimum,
        "student.model": model,
        "student.shrink.layers": layers,
        "training.epochs": epochs,
        "training.learning_rate": learning_rate,
    }
    _run("fine-tuning", recipe, flags, set_, resume, home)


@app.command()
def pretrain(
    recipe: RecipeFile = None,
    name: Annotated[str | None, typer.Option(help="Of the job and of the model it makes.")] = None,
    text: Annotated[Path | None, typer.Option(help='A text file (.txt, .md), or JSONL of {"input": "…"}.')] = None,
    held_out: Annotated[Path | None, typer.Option(help="Text to examine the model on.")] = None,
    model: Annotated[
        str | None, typer.Option(help="What it starts from: catalog id, registered name or folder.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the text.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest rate.")] = None,
    set_: Set = None,
    resume: Resume = False,
    home: Home = None,
) -> None:
    """Let a model read plain text (continued pre-training), measure what it gained and forgot, register it."""
    flags = {
        "name": name,
        "source.prompts": text,
        "source.held_out": held_out,
        "student.model": model,
        "training.epochs": epochs,
        "training.learning_rate": learning_rate,
    }
    _run("continued-pre-training", recipe, flags, set_, resume, home)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Catalog id, registered name or folder.")],
    rows: Annotated[Path, typer.Argument(help="JSONL of labelled rows.")],
    system: Annotated[str | None, typer.Option(help="System prompt for rows without one.")] = None,
    max_tokens: Annotated[int, typer.Option(help="The longest answer, in tokens.", min=1)] = 256,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Measure a model on labelled rows: quality with intervals, latency, cost."""
    from limbeck import library

    with _stoppable("the answers so far are kept; the same command goes on") as stop:
        found = library.evaluate(
            model,
            rows,
            max_response_tokens=max_tokens,
            system=system,
            home=home,
            progress=watcher(tell),
            stop=stop,
        )
    if as_json:
        _print_json(found)
        return
    for metric in ("exact_match", "token_f1"):
        score = found[metric]
        interval = f"95% interval {100 * score['low']:.1f} to {100 * score['high']:.1f}"
        print(f"{metric.replace('_', ' ')}: {100 * score['value']:.1f}% ({interval}, {score['rows']} rows)")
    timed = found["latency"]
    percentiles = f"p50 {1000 * timed['p50']:.1f} ms, p95 {1000 * timed['p95']:.1f} ms"
    print(f"latency: {percentiles}, {timed['tokens_per_second']:.1f} tokens/s")
    if "cost_per_1000_requests" in found:
        print(f"cost: {found['cost_per_1000_requests']:.4f} USD for 1,000 requests")


@app.command()
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
    """Ask a model; the answer is streamed."""
    from limbeck import library

    text = sys.stdin.read() if prompt == "-" else prompt
    if not text.strip():
        raise InvalidRecipe("prompt", ["found nothing; expected text"])
    learned = _system_prompt_of(model, Settings.read(home)) if system is None else system
    for piece in library.load(model, home=home).stream(
        text, system=learned or None, max_tokens=max_tokens, temperature=temperature, seed=seed
    ):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


@app.command()
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
    from limbeck import library

    parity = library.export(model, to, quantization=quantization, prompts=prompts, home=home)
    if as_json:
        _print_json({"model": model, "folder": str(to), **parity.to_json()})
        return
    print(f"{to}: {parity}")


@app.command()
def models(as_json: AsJson = False, home: Home = None) -> None:
    """List the catalog and the registered models."""
    settings = Settings.read(home)
    rows = [
        {"model": entry.id, "kind": "base", "base": "–", "parameters": None, "verdict": entry.licence}
        for entry in catalog(settings).values()
    ]
    for model in custom_models(settings).values():
        verdict = "ship" if model.report.get("ship") else "do not ship"
        parameters = model.lineage.get("parameters")
        rows.append(
            {
                "model": model.name,
                "kind": model.kind,
                "base": model.base,
                "parameters": parameters,
                "verdict": verdict,
            }
        )
    if as_json:
        _print_json(rows)
        return
    table = Table("model", "kind", "made from", "size", "licence or verdict", box=None, pad_edge=False)
    for row in rows:
        size = f"{row['parameters'] / 1e6:.1f} M" if isinstance(row["parameters"], int) else "–"
        table.add_row(str(row["model"]), str(row["kind"]), str(row["base"]), size, str(row["verdict"]))
    _print_table(table)


@app.command()
def jobs(as_json: AsJson = False, home: Home = None) -> None:
    """List the jobs of this home and how far they are."""
    rows = list(job_states(Settings.read(home).jobs))
    if as_json:
        _print_json(rows)
        return
    table = Table("job", "kind", "state", "stages done", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row["name"], row["kind"], row["state"], ", ".join(row["stages"]) or "–")
    _print_table(table)


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(help="JSONL of prompts or pairs, or a recipe in YAML.")],
) -> None:
    """Say everything that is wrong with a file of rows, a line each, or with a recipe. Writes nothing."""
    if file.suffix.lower() in (".yaml", ".yml"):
        recipe = Recipe.read(file)
        tell.print(f"{file.name}: a recipe for {recipe.kind}", markup=False, highlight=False)
        faults = [*impossible_rules(recipe), *named_in_vain(recipe, Settings.read())]
        if (logs := recipe.source.logs) is not None:
            try:
                _tell_counts(logs.uri, survey_logs(logs.uri, logs.filter, recipe.responses_of, None, Settings.read()))
            except InvalidInput as error:
                faults.append(str(error))
        if faults:
            raise InvalidInput("\n".join(faults))
        return
    census = survey(file)
    for fault in census.faults:
        print(fault)
    valid = f"{census.prompts} different prompts, {census.labelled} with an answer"
    rows = f"{census.rows} rows, {census.valid} valid ({valid})"
    tell.print(f"{file.name}: {rows}", markup=False, highlight=False)
    if census.faults or not census.valid:
        raise typer.Exit(2)


@app.command()
def logs(
    uri: Annotated[str, typer.Argument(help="A folder that holds AWSLogs, or s3://BUCKET/PREFIX.")],
    filter_: Annotated[
        str | None, typer.Option("--filter", help='As the API has it, for example {"equals": {"team": "desk"}}.')
    ] = None,
    responses_of: Annotated[str | None, typer.Option(help="Take the responses of exactly this modelId.")] = None,
    to: Annotated[
        Path | None, typer.Option(callback=writable, help="Write the rows here, and beside it what was passed over.")
    ] = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Say how many records of invocation logs can be learned from and why the others cannot; write them as rows."""
    counts = survey_logs(uri, parsed_filter(filter_), responses_of, to, Settings.read(home))
    if as_json:
        _print_json(counts)
    else:
        _tell_counts(uri, counts)
    if not counts.get("taken"):
        raise typer.Exit(2)


@app.command()
def advise(
    recipe: Annotated[Path, typer.Argument(help="A recipe in YAML.")],
    set_: Set = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """What the guides say of a recipe and its data, each advice with its reason; nothing is asked or trained."""
    counts, found = advice_on(Recipe.read(recipe, _given({}, set_)), Settings.read(home))
    if as_json:
        _print_json({"counts": asdict(counts), "advice": [asdict(one) for one in found]})
        return
    for line in lines(found):
        print(line)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8462,
    home: Home = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Take any request; on loopback only.")] = False,
    tls: Annotated[bool, typer.Option("--tls", help="Serve https, with a certificate of its own making.")] = False,
    certificate: Annotated[Path | None, typer.Option(help="PEM of a certificate chain to serve https with.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM of its private key.")] = None,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Leave jobs to `limbeck worker` elsewhere.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Say what is wrong with the configuration, and end.")] = False,
) -> int:
    """Serve AWS's clients: Amazon Bedrock, and as much of S3, STS and IAM as its users need."""
    from limbeck.api import serve as server
    from limbeck.api.tls import Certificate, own_certificate

    settings = Settings.read(home)
    if (certificate is None) != (key is None):
        raise InvalidInput("--certificate and --key go together; --tls alone makes a certificate")
    shown = own_certificate(settings.tls, host) if tls and not certificate else None
    if certificate and key:
        shown = Certificate(certificate, key)
    if check:
        faults = server.check(host, port, not no_auth, settings, shown)
        for fault in faults:
            print(fault)
        return 2 if faults else 0
    ready = f"limbeck {__version__} serves on {'https' if shown else 'http'}://{host}:{port} (Ctrl-C stops)"
    if shown and shown.authority:
        ready += f"\nclients must trust its authority: AWS_CA_BUNDLE={shown.authority}"
    told = lambda: tell.print(ready, highlight=False, soft_wrap=True)  # noqa: E731 (said once)
    server.serve(host, port, not no_auth, settings, told, shown, not no_worker)
    return 0


@app.command()
def worker(home: Home = None) -> None:
    """Take jobs from the service's queue and do them; as many workers as you like, on one database."""
    from limbeck.worker import shift

    settings = Settings.read(home)
    tell.print("a worker takes jobs (Ctrl-C stops)", highlight=False)
    shift.run(settings)


keys_app = typer.Typer(help="The service's keys.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
app.add_typer(data.app, name="data")


@keys_app.command("add")
def keys_add(
    user: str,
    bearer: Annotated[bool, typer.Option("--bearer", help="A key that is sent as it is, over https.")] = False,
    home: Home = None,
) -> None:
    """Make a key and show its secret, this once, in the form of AWS's environment variables."""
    keys = Keys(Settings.read(home).keys)
    if bearer:
        print(f"AWS_BEARER_TOKEN_BEDROCK={keys.add_bearer(user)[1]}")
        return
    made = keys.add(user)
    print(f"AWS_ACCESS_KEY_ID={made.id}\nAWS_SECRET_ACCESS_KEY={made.secret}")


@keys_app.command("list")
def keys_list(home: Home = None) -> None:
    """The keys, without their secrets."""
    table = Table("user", "kind", "key", "created", box=None)
    for key in Keys(Settings.read(home).keys).all():
        table.add_row(key.user, "bearer" if isinstance(key, BearerKey) else "access", key.id, key.created)
    _print_table(table)


@keys_app.command("remove")
def keys_remove(key_id: str, home: Home = None) -> None:
    """Forget a key; requests it signs are refused from then on."""
    Keys(Settings.read(home).keys).remove(key_id)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"limbeck {__version__}")
        raise typer.Exit


def _run(
    kind: Kind,
    file: Path | None,
    flags: dict[str, Any],
    more: list[str] | None,
    resume: bool,
    home: Path | None,
) -> None:
    settings = Settings.read(home)
    recipe = _recipe(kind, file, _given(flags, more), resume, settings)
    from limbeck import library

    verbs = {"distillation": "distill", "fine-tuning": "fine_tune", "continued-pre-training": "pretrain"}
    verb, command = getattr(library, verbs[kind]), verbs[kind].replace("_", "-")
    again = f"limbeck {command} {file or f'--name {recipe.name}'} --resume" + (f" --home {home}" if home else "")
    together = os.environ.get("WORLD_SIZE", "1") != "1"
    try:
        with _stoppable("go on with the same launcher and --resume" if together else f"go on with: {again}") as stop:
            model = verb(recipe, home=home, resume=resume, progress=watcher(tell), stop=stop)
    except InvalidDataset as error:
        raise InvalidInput(f"{error}\n--minimum N accepts fewer") from None
    if not together or os.environ.get("RANK") == "0":  # of several processes that a launcher started, the first
        _print_result(model)


def _print_forecast(recipe: Recipe, settings: Settings, as_json: bool) -> None:
    found = forecast(recipe, settings)
    if as_json:
        _print_json(found.to_json())
        return
    print("\n".join(found.lines))


def _recipe(kind: Kind, file: Path | None, given: dict[str, Any], resume: bool, settings: Settings) -> Recipe:
    """From the file with the flags over it, from flags alone, or, on a resume by name, from the job's folder."""
    if file is not None:
        return Recipe.read(file, given)
    stored = settings.jobs / str(given.get("name")) / "recipe.json"
    if resume and set(given) == {"name"} and stored.exists():
        return Recipe.build(read_json(stored), str(stored))
    values: dict[str, Any] = {"kind": kind}
    for key, value in given.items():
        assign(values, key, value)
    return Recipe.build(values, "flags")


def _given(flags: dict[str, Any], more: list[str] | None) -> dict[str, Any]:
    given = {
        key: str(value.expanduser().resolve()) if isinstance(value, Path) else value
        for key, value in flags.items()
        if value is not None
    }
    for setting in more or []:
        key, found, value = setting.partition("=")
        if not found:
            raise InvalidRecipe("--set", [f'found "{setting}"; expected KEY=VALUE, for example training.epochs=2'])
        given[key] = yaml.safe_load(value)
    return given


@contextmanager
def _stoppable(how_to_go_on: str) -> Iterator[StopSignal]:
    """The first Ctrl-C or SIGTERM asks the work to stop at a safe point; a second Ctrl-C does not wait."""
    stop = StopSignal()

    def ask(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        tell.print("stopping at the next safe point; once more stops at once", highlight=False)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    except Stopped as stopped:
        raise Stopped(f"{stopped}; {how_to_go_on}") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_result(model: CustomModel) -> None:
    from limbeck.evaluation.table import table

    report = _report(model)
    print(table(report))
    print()
    print(f"Model:   {model.name} ({model.path})")
    print(f"Report:  {model.path.parent / '5-evaluation' / 'report.html'}")
    print(f"Verdict: {report.verdict}")


def _report(model: CustomModel) -> Report:
    from limbeck.records import Report

    found = model.report
    return Report(found["models"], found["rows"], found["verdict"], found["ship"], found["details"])


def _system_prompt_of(model: str, settings: Settings) -> str | None:
    """The system prompt a registered model was trained under, if its recipe named one for all rows."""
    for known in custom_models(settings).values():
        if known.name == model:
            found = known.lineage["recipe"]["source"]["system"]
            return str(found) if found else None
    return None


def _tell_counts(uri: str, counts: dict[str, int]) -> None:
    told = ", ".join(f"{number:,} {what}" for what, number in counts.items())
    tell.print(f"{uri}: {sum(counts.values()):,} records: {told}", markup=False, highlight=False)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def _print_table(table: Table) -> None:
    out = Console(soft_wrap=True) if not sys.stdout.isatty() else Console()
    out.print(table, highlight=False)


def _keep_trace(fault: Exception) -> str:
    """Write what a developer needs to a file, and say what a user needs."""
    folder = Settings.read().home / "faults"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / time.strftime("%Y%m%d-%H%M%S.txt")
    path.write_text("".join(traceback.format_exception(fault)), encoding="utf-8")
    return (
        f"a fault of ours, not of your input: {type(fault).__name__}: {fault}\nthe trace is in {path}; please report it"
    )
