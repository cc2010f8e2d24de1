"""Arms of an experiment on a labelled set: the same held-out rows, and seeds, and one thing that differs.

The set is a folder with `train.jsonl` and `test.jsonl`, a JSON object a line with the text under `input` and the
label under a key of its own. A fixed share of the first is labelled, for a teacher or as golden pairs; of the others
each seed draws its own prompts, whose labels nobody sees.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console

import limbeck
from limbeck.cli.bars import watcher
from limbeck.errors import TrainingDiverged
from limbeck.evaluation.metrics import difference, exact_match, mean_score
from limbeck.records import CustomModel, Score

DESK = Path(__file__).parent.parent / "examples" / "service-desk"
MODEL = "huggingface.smollm2-135m-instruct-v1:0"
LAYERS = 30
SYSTEM = "Name the intent of the customer's message."

Recipe = dict[str, Any]
Arm = Callable[[int], Recipe]
"""A recipe for a seed."""


def parser(described: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """What every experiment asks for; ``defaults`` are by the options' names."""
    made = argparse.ArgumentParser(description=described, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("folder", type=Path)
    made.add_argument("--key", default="output", help="the label's key")
    made.add_argument("--home", type=Path, required=True)
    made.add_argument("--labelled", type=int, default=900)
    made.add_argument("--prompts", type=int, default=100)
    made.add_argument("--held-out", type=int, default=200)
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--epochs", type=int, default=3)
    made.add_argument("--layers", type=int, default=6, help=f"of the student; {LAYERS} is the whole model")
    made.set_defaults(**defaults)
    return made


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """A public set, cut for experiments under ``home``."""

    home: Path
    labelled: list[Recipe]
    rest: list[Recipe]
    held_out: list[Recipe]

    @classmethod
    def read(cls, given: argparse.Namespace) -> LabelledSet:
        train, test = (_rows(given.folder / name, given.key) for name in ("train.jsonl", "test.jsonl"))
        given.home.mkdir(parents=True, exist_ok=True)
        return cls(given.home, train[: given.labelled], train[given.labelled :], test[: given.held_out])

    @property
    def labels(self) -> list[str]:
        return sorted({row["completion"] for row in self.labelled})

    def write(self, name: str, rows: Sequence[Recipe]) -> str:
        path = self.home / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    def prompts(self, seed: int, count: int) -> str:
        """A file of so many prompts without labels, drawn by the seed."""
        drawn = random.Random(seed).sample(self.rest, count)
        return self.write(f"prompts-{count}-{seed}", [{"prompt": row["prompt"]} for row in drawn])

    def source(self, prompts: str) -> Recipe:
        held_out = self.write("test", self.held_out)
        return {"prompts": prompts, "held_out": held_out, "system": SYSTEM, "validation_share": 0.0, "minimum": 1}

    def teacher(self, watch: Any) -> str:
        """The demo's expert, taught this set's labels, made in this home if it is not there."""
        values = yaml.safe_load((DESK / "teacher.yaml").read_text(encoding="utf-8"))
        values["name"] = "teacher"
        values["source"] = self.source(self.write("labelled", self.labelled))
        values["synthesis"]["max_response_tokens"] = 16
        return limbeck.fine_tune(values, home=self.home, resume=True, progress=watch).name

    def distillation(self, name: str, teacher: str, prompts: str, layers: int, epochs: int, seed: int) -> Recipe:
        """The demo's student on other prompts, to be altered by an arm."""
        whole = layers == LAYERS
        return {
            "kind": "distillation",
            "name": f"{name.replace(' ', '-')}-{seed}",
            "source": self.source(prompts),
            "teacher": {"model": teacher},
            "student": {} if whole else {"shrink": {"layers": list(range(layers))}},
            "synthesis": {"max_response_tokens": 16},
            "training": {
                "epochs": epochs,
                "learning_rate": 3e-4 if whole else 2e-3,
                "batch_size": 16 if whole else 32,
                "seed": seed,
            },
            "evaluation": {"latency_requests": 2, "baseline": False},
            "export": {"gguf": "none"},
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """One arm, over all seeds: rows of seeds by held-out rows, 1 where the answer is right."""

    right: list[list[float]]
    agreeing: list[list[float]]
    teacher: list[list[float]]
    seconds: list[float]


def compare(arms: Mapping[str, Arm], seeds: Sequence[int], home: Path) -> dict[str, list[CustomModel]]:
    """Run every arm with every seed, one after another; a job that was done is read. Beside each, what it computed.

    Gives each arm's models by seed. A run that diverges is told and has none; an arm of such runs alone is left out.
    """
    watch = watcher(Console(stderr=True))
    models: dict[str, list[CustomModel]] = {}
    for seed in seeds:
        for arm, recipe in arms.items():
            began = time.process_time()
            try:
                made = limbeck.distill(recipe(seed), home=home, resume=True, progress=watch)
            except TrainingDiverged as error:
                print(f"- {arm}, seed {seed}: {error}", flush=True)
                continue
            spent = home / "jobs" / made.name / "processor-seconds.txt"
            if not spent.exists():
                spent.write_text(f"{time.process_time() - began:.1f}\n", encoding="utf-8")
            models.setdefault(arm, []).append(made)
    return models


def _outcome(models: Sequence[CustomModel]) -> Outcome:
    """What the held-out answers of one arm's models say, a model a seed."""
    right, agreeing, teacher, seconds = [], [], [], []
    for model in models:
        folder = model.path.parent
        lines = (folder / "5-evaluation" / "answers.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        right.append([exact_match(row["student after"], row["reference"]) for row in rows])
        agreeing.append([exact_match(row["student after"], row["teacher"]) for row in rows])
        teacher.append([exact_match(row["teacher"], row["reference"]) for row in rows])
        seconds.append(float((folder / "processor-seconds.txt").read_text(encoding="utf-8")))
    return Outcome(right, agreeing, teacher, seconds)


def table(models: Mapping[str, Sequence[CustomModel]], base: str) -> str:
    """Means over seeds with 95% bootstrap intervals over rows, each seed's own, and what parts an arm from ``base`` on
    the same rows."""
    outcomes = {arm: _outcome(found) for arm, found in models.items()}
    against = np.mean(outcomes[base].right, axis=0).tolist()
    lines = [
        f"| arm | exact match, % | the seeds | from {base} | agreement, % | teacher, % | processor seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm, found in outcomes.items():
        rows = np.mean(found.right, axis=0).tolist()
        each = 100 * np.mean(found.right, axis=1)
        apart = "" if arm == base else told(difference(rows, against, 0), "+")
        agreeing = told(mean_score(np.mean(found.agreeing, axis=0).tolist(), 0))
        spread, spent = ", ".join(f"{one:.1f}" for one in each), np.median(found.seconds)
        teacher = 100 * np.mean(found.teacher)
        lines.append(
            f"| {arm} | {told(mean_score(rows, 0))} | {spread} | {apart} | {agreeing} | {teacher:.1f} | {spent:.0f} |"
        )
    return "\n".join(lines)


def told(score: Score, sign: str = "") -> str:
    return f"{100 * score.value:{sign}.1f} ({100 * score.low:{sign}.1f} to {100 * score.high:{sign}.1f})"


def _rows(path: Path, key: str) -> list[Recipe]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    random.Random(0).shuffle(rows)
    return [{"prompt": row["input"], "completion": row[key].replace("_", " ")} for row in rows]
