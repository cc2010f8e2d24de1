"""What a customization job leaves in its output location, laid out as Amazon Bedrock lays it out, and more.

<outputDataConfig.s3Uri>/model-customization-job-<id>/
  training_artifacts/step_wise_training_metrics.csv         kept up to date while training runs
  validation_artifacts/post_fine_tuning_validation/
    validation_metrics.csv                                  and again under validation/, where notebooks look
  input_data_report/manifest.report.csv                     every row: accepted or rejected, why; and the count
  advice.json                                               ours: what the guides say of the job
  synthetic_data/                                           ours: every answer, kept or dropped, with its origin
  evaluation/                                               ours: the report, as JSON and as a page
  model/                                                    ours: weights, tokenizer, GGUF, model card
"""

from __future__ import annotations

import csv
import io
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from limbeck.recipe import Recipe
from limbeck.storage.objects import Objects, parse_uri
from limbeck.storage.reading import Row
from limbeck.worker.insights import insights

__all__ = ["Outputs"]

log = logging.getLogger(__name__)

TRAINING = ("step_number", "epoch_number", "training_loss", "perplexity")
VALIDATION = ("step_number", "epoch_number", "validation_loss", "perplexity")


class Outputs:
    """The output location of one job."""

    def __init__(self, row: Row, objects: Objects, folder: Path) -> None:
        place = row.request["outputDataConfig"]["s3Uri"].rstrip("/")
        self._place = f"{place}/model-customization-job-{row.arn.rsplit('/', 1)[-1]}"
        self._objects, self._folder = objects, folder

    @contextmanager
    def kept_up_to_date(self, seconds: float) -> Iterator[None]:
        """Publish the metrics of training every so often, until the block ends."""
        over = threading.Event()

        def publish() -> None:
            while not over.wait(seconds):
                try:
                    self.publish_metrics()
                except Exception:
                    log.exception("the metrics so far could not be published; again in %g s", seconds)

        thread = threading.Thread(target=publish, daemon=True, name="metrics")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def publish_metrics(self) -> None:
        """The losses step by step, so far."""
        self._table("4-training/metrics.csv", TRAINING, "training_artifacts/step_wise_training_metrics.csv")
        where = "validation_artifacts/post_fine_tuning_validation"
        for name in (f"{where}/validation_metrics.csv", f"{where}/validation/validation_metrics.csv"):
            self._table("4-training/validation.csv", VALIDATION, name)

    def publish_report(self, recipe: Recipe) -> None:
        """What became of every row that was given, with the count that decides whether a job can run; and advice.

        What was dropped is told too: it is why a job fails that has no answer left.
        """
        self._copy("advice.json", "advice.json")
        self._copy("3-curation/dropped.jsonl", "synthetic_data/dropped.jsonl")
        told = insights(self._folder, recipe)
        if told is not None:
            self._put("input_data_report/manifest.report.csv", told.encode())

    def publish_all(self, recipe: Recipe) -> None:
        """Everything the job made."""
        self.publish_metrics()
        self.publish_report(recipe)
        self._copy("3-curation/kept.jsonl", "synthetic_data/kept.jsonl")
        for name in ("report.json", "report.html", "answers.jsonl", "documents.jsonl"):
            self._copy(f"5-evaluation/{name}", f"evaluation/{name}")
        model = self._folder / "6-model"
        for path in sorted(model.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                self._objects.publish(path, f"{self._place}/model/{path.relative_to(model)}")

    def _copy(self, name: str, key: str) -> None:
        path = self._folder / name
        if path.exists():
            self._objects.publish(path, f"{self._place}/{key}")

    def _table(self, name: str, columns: Sequence[str], key: str) -> None:
        """The columns Bedrock's readers know, in their order, of one of our tables."""
        path = self._folder / name
        if not path.exists():
            return
        out = io.StringIO()
        writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        with path.open(newline="", encoding="utf-8") as file:
            writer.writerows(row for row in csv.DictReader(file) if None not in row.values())
        self._put(key, out.getvalue().encode())

    def _put(self, key: str, data: bytes) -> None:
        self._objects.put(*parse_uri(f"{self._place}/{key}"), data)
