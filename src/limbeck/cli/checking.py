"""The commands that look at files and logs before a job is made: `validate`, `logs`. They open without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limbeck import intake
from limbeck.cli.surveying import impossible_cut, impossible_rules, named_in_vain, parsed_filter, survey_logs
from limbeck.cli.targets import writable
from limbeck.cli.terminal import AsJson, Home, print_json, tell
from limbeck.errors import InvalidInput
from limbeck.recipe import Recipe
from limbeck.settings import Settings
from limbeck.teachers.known import addressed

__all__ = ["logs", "validate"]


def validate(
    file: Annotated[Path, typer.Argument(help="JSONL of prompts or pairs, or a recipe in YAML.")],
) -> None:
    """Say everything that is wrong with a file of rows, a line each, or with a recipe. Writes nothing."""
    if file.suffix.lower() in (".yaml", ".yml"):
        settings = Settings.read()
        recipe = addressed(Recipe.read(file), settings)
        tell.print(f"{file.name}: a recipe for {recipe.kind}", markup=False, highlight=False, soft_wrap=True)
        faults = [*impossible_rules(recipe), *impossible_cut(recipe, settings), *named_in_vain(recipe, settings)]
        if (logs := recipe.source.logs) is not None:
            try:
                counts = survey_logs(logs.uri, logs.filter, recipe.responses_of, None, Settings.read())
                _tell_counts(logs.uri, counts)
                if counts.get("taken", 0) < recipe.minimum_rows:
                    faults.append(f"{logs.uri}: expected at least {recipe.minimum_rows} records taken")
            except InvalidInput as error:
                faults.append(str(error))
        elif not faults:
            for census in intake.check(recipe):
                tell.print(f"{census.file}: {_counted(census)}", markup=False, highlight=False, soft_wrap=True)
        if faults:
            raise InvalidInput("\n".join(faults))
        return
    census = intake.survey(file)
    for told in (*census.faults, *census.contradictions):
        print(told)
    tell.print(f"{file.name}: {_counted(census)}", markup=False, highlight=False, soft_wrap=True)
    if census.faults or not census.valid:
        raise typer.Exit(2)


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
        print_json(counts)
    else:
        _tell_counts(uri, counts)
    if not counts.get("taken"):
        raise typer.Exit(2)


def _counted(census: intake.Census) -> str:
    valid = f"{census.prompts} different prompts, {census.labelled} with an answer"
    differ = f", {len(census.contradictions)} with another than before" if census.contradictions else ""
    return f"{census.rows} rows, {census.valid} valid ({valid}{differ})"


def _tell_counts(uri: str, counts: dict[str, int]) -> None:
    told = ", ".join(f"{number:,} {what}" for what, number in counts.items())
    tell.print(f"{uri}: {sum(counts.values()):,} records: {told}", markup=False, highlight=False, soft_wrap=True)
