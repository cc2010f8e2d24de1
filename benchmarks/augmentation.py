"""Students of a hundred given prompts, and of as many more as a teacher made of them: quality, and diversity.

    python benchmarks/augmentation.py --home DIR                       # whole: hours on two slow cores
    python benchmarks/augmentation.py --home DIR --to 200 --seeds 0 --held-out 40 --epochs 1

The teacher is the demo's, tuned to the service desk's labels. Since it writes labels whatever it is asked, the prompts
are written by the embedded model as it is (``--writer``). Three arms, each with every seed, which is that of training,
of answers and of what is written:

    given       the given prompts, for so many epochs
    given long  the same, for as many steps as the augmented: what more training alone would bring
    augmented   the given and the made ones

Shown are exact match over the held-out rows (each row's mean over the seeds, with a 95% bootstrap interval over rows,
and the least and most of the seeds), the paired difference from `given`, and what the augmentation says of itself.
Running it again goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console

import limbeck
from limbeck.cli.bars import watcher
from limbeck.evaluation.metrics import difference, exact_match, mean_score
from limbeck.records import Score

DESK = Path(__file__).parent.parent / "examples" / "service-desk"
MODEL = "huggingface.smollm2-135m-instruct-v1:0"
TASK = "Messages from customers of a maker of household appliances to its service desk."
ARMS = ("given", "given long", "augmented")


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def recipe(given: argparse.Namespace, teacher: str, arm: str, seed: int) -> dict:
    prompts, test = read(DESK / "prompts.jsonl"), read(DESK / "test.jsonl")
    random.Random(0).shuffle(prompts)
    random.Random(0).shuffle(test)
    made = {"to": given.to, "task": TASK, "writer": {"model": given.writer}} if arm == "augmented" else None
    longer = round(given.to / given.given) if arm == "given long" else 1
    return {
        "kind": "distillation",
        "name": f"augmentation-{arm.replace(' ', '-')}-{seed}",
        "source": {
            "prompts": write(given.home / "prompts.jsonl", prompts[: given.given]),
            "held_out": write(given.home / "test.jsonl", test[: given.held_out]),
            "system": "Name the intent of the customer's message.",
            "validation_share": 0.0,
            "minimum": 1,
        },
        "teacher": {"model": teacher},
        "student": {"shrink": {"layers": list(range(given.layers))}},
        "synthesis": {"max_response_tokens": 8, "seed": seed, "augment": made},
        "training": {"epochs": given.epochs * longer, "learning_rate": 2e-3, "batch_size": 32, "seed": seed},
        "evaluation": {"latency_requests": 2, "baseline": False},
        "export": {"gguf": "none"},
    }


def tuned(given: argparse.Namespace, watch) -> str:
    """The demo's teacher, made in this home if it is not there."""
    values = yaml.safe_load((DESK / "teacher.yaml").read_text(encoding="utf-8"))
    values["source"] |= {"prompts": str(DESK / "labelled.jsonl"), "held_out": str(DESK / "test.jsonl")}
    return limbeck.fine_tune(values, home=given.home, resume=True, progress=watch).name


def told(score: Score, sign: str = "") -> str:
    return f"{100 * score.value:{sign}.1f} ({100 * score.low:{sign}.1f} to {100 * score.high:{sign}.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--given", type=int, default=100)
    parser.add_argument("--to", type=int, default=1000)
    parser.add_argument("--held-out", type=int, default=240)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--teacher", help="a model that knows the task; by default the demo's is made")
    parser.add_argument("--writer", default=MODEL)
    given = parser.parse_args()
    given.home.mkdir(parents=True, exist_ok=True)

    watch = watcher(Console(stderr=True))
    teacher = given.teacher or tuned(given, watch)
    hits: dict[str, list[list[float]]] = {arm: [] for arm in (*ARMS, "teacher")}
    said = []
    for seed in given.seeds:
        for arm in ARMS:
            made = limbeck.distill(recipe(given, teacher, arm, seed), home=given.home, resume=True, progress=watch)
            rows = read(made.path.parent / "5-evaluation" / "answers.jsonl")
            hits[arm].append([exact_match(row["student after"], row["reference"]) for row in rows])
            if arm == "augmented":
                hits["teacher"].append([exact_match(row["teacher"], row["reference"]) for row in rows])
                summary = json.loads((made.path.parent / "2-augmented" / "summary.json").read_text(encoding="utf-8"))
                said.append(f"seed {seed}: {summary['sentence']}")
    base = np.mean(hits["given"], axis=0)
    print(f"{'':12} {'exact match, %':24} {'seeds':16} difference from given")
    for arm, found in hits.items():
        means, rows = np.mean(found, axis=1), np.mean(found, axis=0)
        spread = f"{100 * means.min():.1f} to {100 * means.max():.1f}"
        apart = "" if arm == "given" else told(difference(rows.tolist(), base.tolist(), 0), "+")
        print(f"{arm:12} {told(mean_score(rows.tolist(), 0)):24} {spread:16} {apart}")
    print("\n" + "\n".join(f"- {sentence}" for sentence in said))


if __name__ == "__main__":
    main()
