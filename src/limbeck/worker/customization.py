"""A customization job: fetches its data, runs the pipeline, publishes what came of it.

Everything lies in the job's folder (`jobs/NAME/`), so a job that was broken off goes on: data fetched are not fetched
again, stages done are not done again, and training goes on from its checkpoint. A job that resumes another begins with
a copy of that one's folder, and then goes on in just this way.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from limbeck import intake, pipeline, registry
from limbeck.arns import Arns
from limbeck.errors import InvalidInput
from limbeck.models.importing import making
from limbeck.progress import Lines, Task
from limbeck.recipe import Recipe
from limbeck.records import CustomModel
from limbeck.storage.ledger import STAGES, Ledger, now
from limbeck.storage.reading import Row
from limbeck.storage.workspace import Workspace, read_json, write_json
from limbeck.worker.labor import Bench
from limbeck.worker.outputs import Outputs

__all__ = ["customize"]

STAGE_NAMES = {
    "1-intake": "validationDetails",
    "2-augmented": "dataProcessingDetails",
    "2-synthesis": "dataProcessingDetails",
    "2-teachers": "dataProcessingDetails",
    "3-curation": "dataProcessingDetails",
    "4-training": "trainingDetails",
    "5-evaluation": "trainingDetails",
    "6-model": "trainingDetails",
}

STEPS = ("NotStarted", "InProgress", "Completed")
"""How a stage goes; never back, though a job that was broken off passes through all its stages again."""

PUBLISH_SECONDS = 20.0
"""How often the training metrics in the output location are brought up to date while training runs."""


def customize(row: Row, bench: Bench) -> tuple[str, Mapping[str, Any], str]:
    """Run the job of ``row``; gives its status, its metrics, and the ARN of the model it made."""
    work = Workspace(bench.settings.jobs / row.name, Telling(row.arn, bench.ledger), bench.stop)
    recipe = _recipe(row, bench, work.folder)
    outputs = Outputs(row, bench.objects, work.folder)
    if "resumes" in row.facts and not work.folder.exists():
        _inherit(bench.settings.jobs / row.facts["resumes"], work.folder)
    _fetch(row, recipe, bench)
    with outputs.kept_up_to_date(PUBLISH_SECONDS):
        try:
            model = pipeline.run(recipe, work, bench.settings, resume=True)
            arn = _make_known(model, row, bench)
        finally:
            outputs.publish_report(recipe)
    outputs.publish_all(recipe)
    return "Completed", _metrics(work.folder), arn


def _recipe(row: Row, bench: Bench, folder: Path) -> Recipe:
    """The job's recipe, its data in the job's ``folder``, wherever the home lay when the job was asked for or begun."""

    def here(path: str) -> str:
        return str(folder / "source" / Path(*Path(path).parts[-2:]))

    values = bench.ledger.recipe(row.arn)
    found = values["source"]
    moved = {"prompts": here(found["prompts"]), "validation": [here(path) for path in found["validation"]]}
    recipe = Recipe.build({**values, "source": {**found, **moved}}, "the job")
    if (begun := folder / "recipe.json").exists():
        write_json(begun, recipe.dump())
    return recipe


def _make_known(model: CustomModel, row: Row, bench: Bench) -> str:
    """Give the registered model its ARN. From here on the job is not stopped any more, and a wish to stop is void."""
    base_id = row.arn.split("/")[1]
    arn = Arns(bench.settings.region, bench.settings.account).custom_model(base_id, model.name, model.fingerprint)
    about = {"arn": arn, "base_id": base_id, "base_arn": row.facts["baseModelArn"], "job_arn": row.arn}
    registry.annotate(model.name, about, bench.settings)
    bench.ledger.change(row.arn, "InProgress", ("InProgress", "Stopping"), {"registered": arn})
    return arn


def _inherit(earlier: Path, folder: Path) -> None:
    """Copy what a stopped job left, whole or not at all; it keeps its own. Its recipe has its names, and stays."""
    if not earlier.exists():
        print(f"{earlier.name} was stopped before it began: there is nothing to go on with", flush=True)
        return
    with making(folder) as copy:
        shutil.copytree(earlier, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("recipe.json", ".lock"))


def _fetch(row: Row, recipe: Recipe, bench: Bench) -> None:
    """The job's data from their buckets, each file whole or not at all, and only once."""
    config = row.request["trainingDataConfig"]
    validators = row.request.get("validationDataConfig", {}).get("validators", [])
    wanted = [(validator["s3Uri"], path) for validator, path in zip(validators, recipe.source.validation, strict=True)]
    (train,) = recipe.source.prompt_files
    if "s3Uri" in config:
        wanted.append((config["s3Uri"], train))
    for uri, path in wanted:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            bench.objects.fetch(uri, path)
    if "invocationLogsConfig" in config and not train.exists():
        _extract(row, config["invocationLogsConfig"], train, recipe.minimum_rows, bench)


def _extract(row: Row, config: Mapping[str, Any], path: Path, least: int, bench: Bench) -> None:
    """Rows from invocation logs: prompts, and their responses if those are to be used.

    Raises `InvalidInput` for fewer than ``least``, with what became of the others.
    """
    teacher = row.request["customizationConfig"]["distillationConfig"]["teacherModelConfig"]["teacherModelIdentifier"]
    uri = config["invocationLogSource"]["s3Uri"]
    responses_of = teacher if config.get("usePromptResponse") else None
    counts = intake.extract_logs(bench.objects, uri, path, config.get("requestMetadataFilters"), responses_of)
    told = ", ".join(f"{count} {what}" for what, count in counts.items()) or "none"
    print(f"invocation logs: {told}", flush=True)
    if counts.get("taken", 0) < least:
        path.unlink(missing_ok=True)  # logs grow: another try reads them anew
        raise InvalidInput(f"{uri}: {sum(counts.values())} records ({told}); expected at least {least} taken")


def _metrics(folder: Path) -> dict[str, Any]:
    losses = read_json(folder / "4-training" / "losses.json")
    single, several = losses.get("validation_loss"), losses.get("validation_losses")
    found = several or ([] if single is None else [single])
    return {
        "trainingMetrics": {"trainingLoss": losses["training_loss"]},
        # In the order of the validators: one of whose rows none was watched has its place, and no loss.
        "validationMetrics": [{} if loss is None else {"validationLoss": loss} for loss in found],
    }


class Telling:
    """Progress into the job's row, stage by stage, and a line now and then into the log."""

    def __init__(self, arn: str, ledger: Ledger) -> None:
        self._arn, self._ledger = arn, ledger
        self._lines = Lines(lambda text: print(time.strftime("%H:%M:%S"), text, flush=True), every=5.0)
        self._lock = threading.Lock()

    def stage(self, name: str) -> None:
        """The stage is under way, those before it are done. What the row says already of a job broken off stands."""
        reached = STAGES.index(STAGE_NAMES[name])
        with self._lock:
            row = self._ledger.row(self._arn)
            if row is None or row.ended is not None:
                return
            moment, details = now().isoformat(), {}
            for place, stage in enumerate(STAGES):
                if stage not in row.facts["statusDetails"]:
                    continue
                known = row.facts["statusDetails"][stage]
                status = "InProgress" if place == reached else "Completed" if place < reached else "NotStarted"
                status = max(status, known["status"], key=STEPS.index)
                begun = known["creationTime"] if known["status"] != "NotStarted" else moment
                changed = status != known["status"]
                last = moment if changed else known["lastModifiedTime"]
                details[stage] = {"status": status, "creationTime": begun, "lastModifiedTime": last}
            self._ledger.change(self._arn, facts={"statusDetails": details})

    @contextmanager
    def task(self, name: str, total: float, unit: str, done: float = 0) -> Iterator[Task]:
        """See `Progress.task`."""
        with self._lines.task(name, total, unit, done) as task:
            yield task

    def say(self, text: str) -> None:
        """See `Progress.say`."""
        self._lines.say(text)
