"""Does a distilled student forget less than a fine-tuned one? Measured on general text and plain questions, as a plot.

    python benchmarks/forgetting.py --home DIR --plot forgetting.svg

One task (the demo's service desk), one student (a whole base model), three ways to learn the same prompts:

| arm                   | what is learned at each token                         |
|-----------------------|-------------------------------------------------------|
| fine-tuned on labels  | the users' labels, cross-entropy                      |
| fine-tuned on answers | the teacher's words, cross-entropy                    |
| distilled             | the teacher's distribution over its words, forward KL |

All arms see the same prompts in the same order for the same steps at the same rate; the teacher is the base model tuned
on other labelled rows, for on those it learned it has the labels by heart, and the three arms would be one. Before and
after, each reads the 36 passages and answers the 48 questions of
`limbeck/evaluation/general.jsonl`. The plot has the task's score over the rise of general perplexity, a line an arm,
from few epochs to many: higher and further left is better. Running it again goes on where it stopped;
`DIR/forgetting.json` has the figures.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from pathlib import Path
from typing import Any

from rich.console import Console

import limbeck
from limbeck.cli.bars import watcher
from limbeck.evaluation.general import knowledge_of
from limbeck.models.loading import load
from limbeck.settings import Settings

DESK = Path(__file__).parent.parent / "examples" / "service-desk"
SYSTEM = "Name the intent of the customer's message."
ARMS = {"fine-tuned on labels": "#b3541e", "fine-tuned on answers": "#7a7a2a", "distilled": "#1f5fa8"}
WIDTH, HEIGHT, LEFT, BOTTOM, RIGHT, TOP = 640, 400, 64, 52, 24, 24


def rows_of(path: Path, most: int) -> list[dict[str, str]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    random.Random(0).shuffle(rows)
    return rows[:most]


def write(path: Path, rows: list[dict[str, str]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def general(model: str, settings: Settings) -> dict[str, float]:
    """Perplexity of general text, and the share of questions answered rightly."""
    found = knowledge_of(load(model, settings), 2048)
    return {
        "perplexity": math.exp(sum(found.nats) / sum(found.tokens)),
        "questions": sum(found.right) / len(found.right),
    }


class Bench:
    """The jobs of one run, each done once."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.settings = given, Settings.read(given.home)
        self.told = watcher(Console(stderr=True))
        every = rows_of(DESK / "labelled.jsonl", given.rows + given.teacher_rows)
        labelled = every[: given.rows]
        self.taught = write(given.home / "taught.jsonl", every[given.rows :])
        self.labelled = write(given.home / "labelled.jsonl", labelled)
        self.prompts = write(given.home / "prompts.jsonl", [{"prompt": row["prompt"]} for row in labelled])
        self.held_out = write(given.home / "test.jsonl", rows_of(DESK / "test.jsonl", given.held_out))

    def run(self, name: str, kind: str, prompts: str, epochs: int, seed: int, **more: Any) -> dict[str, float]:
        """A job's score on the task, and what its model still knows."""
        recipe = {
            "kind": kind,
            "name": name,
            "source": {
                "prompts": prompts,
                "held_out": self.held_out,
                "system": SYSTEM,
                "minimum": 8,
                "validation_share": 0,
            },
            "student": {"model": self.given.model},
            "synthesis": {"max_response_tokens": 12},
            "training": {
                "epochs": epochs,
                "learning_rate": self.given.learning_rate,
                "batch_size": 16,
                "freeze_embeddings": self.given.freeze_embeddings,
                "seed": seed,
            },
            "evaluation": {"latency_requests": 2, "baseline": False},
            "export": {"gguf": "none"},
            **more,
        }
        verb = limbeck.distill if kind == "distillation" else limbeck.fine_tune
        model = verb(recipe, home=self.given.home, resume=True, progress=self.told)
        score = model.report["models"]["student after"]["exact_match"]["value"]
        return {"task": score, **general(name, self.settings)}

    def answers(self, job: str) -> str:
        """The teacher's own words on the prompts, as another job had them."""
        kept = (self.settings.jobs / job / "3-curation" / "kept.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in kept]
        pairs = [{"prompt": row["messages"][-1]["text"], "completion": row["response"]} for row in rows]
        return write(self.given.home / "answers.jsonl", pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--plot", type=Path, required=True)
    parser.add_argument("--model", default="huggingface.smollm2-135m-instruct-v1:0")
    parser.add_argument("--rows", type=int, default=240)
    parser.add_argument("--teacher-rows", type=int, default=480)
    parser.add_argument("--held-out", type=int, default=240)
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--teacher-epochs", type=int, default=1)
    parser.add_argument("--freeze-embeddings", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    given = parser.parse_args()
    bench = Bench(given)

    base = general(given.model, bench.settings)
    teacher = bench.run("teacher", "fine-tuning", bench.taught, given.teacher_epochs, 1000)
    found: dict[str, Any] = {"base": base, "teacher": teacher, "arms": {arm: [] for arm in ARMS}}
    for seed in range(given.seeds):
        for epochs in given.epochs:
            at = f"{epochs}-{seed}"
            name = f"distilled-{at}"
            taught = {"teacher": {"model": "teacher"}}
            distilled = bench.run(name, "distillation", bench.prompts, epochs, seed, **taught)
            answers = bench.run(f"answers-{at}", "fine-tuning", bench.answers(name), epochs, seed)
            labels = bench.run(f"labels-{at}", "fine-tuning", bench.labelled, epochs, seed)
            for arm, one in zip(ARMS, (labels, answers, distilled), strict=True):
                found["arms"][arm].append({"epochs": epochs, "seed": seed, **one})
            (given.home / "forgetting.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    given.plot.write_text(plot(found), encoding="utf-8")
    for arm, points in found["arms"].items():
        for epochs in given.epochs:
            some = [point for point in points if point["epochs"] == epochs]
            rise, task, right = (mean(some, key) for key in ("perplexity", "task", "questions"))
            told = f"{100 * task:.1f}% of the task, general perplexity {100 * (rise / base['perplexity'] - 1):+.1f}%"
            print(
                f"{arm}, epochs {epochs}: {told}, questions {100 * right:.1f}% ({100 * base['questions']:.1f}% before)"
            )


def mean(points: list[dict[str, float]], key: str) -> float:
    return sum(point[key] for point in points) / len(points)


def plot(found: dict[str, Any]) -> str:
    """The task's score over the rise of general perplexity, in percent: every run a dot, every arm's means a line."""
    base = found["base"]["perplexity"]
    runs = [
        (arm, point, 100 * (point["perplexity"] / base - 1)) for arm, all_ in found["arms"].items() for point in all_
    ]
    low = min(0.0, *(rise for _, _, rise in runs))
    high = max(1.0, *(rise for _, _, rise in runs)) * 1.1

    def across(rise: float) -> float:
        return LEFT + (rise - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def up(score: float) -> float:
        return HEIGHT - BOTTOM - score * (HEIGHT - TOP - BOTTOM)

    marks = []
    for quarter in range(5):
        score, rise = quarter / 4, low + (high - low) * quarter / 4
        marks.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(score):.1f}" y2="{up(score):.1f}" stroke="#ddd"/>'
        )
        marks.append(f'<text x="{LEFT - 8}" y="{up(score) + 4:.1f}" text-anchor="end">{100 * score:.0f}%</text>')
        marks.append(
            f'<text x="{across(rise):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{rise:+.1f}%</text>'
        )
    for place, (arm, color) in enumerate(ARMS.items()):
        for _, point, rise in (run for run in runs if run[0] == arm):
            marks.append(
                f'<circle cx="{across(rise):.1f}" cy="{up(point["task"]):.1f}" r="3" fill="{color}" opacity="0.45"/>'
            )
        line = []
        for epochs in sorted({point["epochs"] for point in found["arms"][arm]}):
            some = [point for point in found["arms"][arm] if point["epochs"] == epochs]
            x, y = across(100 * (mean(some, "perplexity") / base - 1)), up(mean(some, "task"))
            line.append(f"{x:.1f},{y:.1f}")
            marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{color}"/>')
            marks.append(f'<text x="{x + 8:.1f}" y="{y - 6:.1f}" fill="{color}">{epochs}</text>')
        marks.append(f'<polyline points="{" ".join(line)}" fill="none" stroke="{color}" stroke-width="2"/>')
        y = HEIGHT - BOTTOM - 56 + 18 * place
        marks.append(f'<text x="{WIDTH - RIGHT - 8}" y="{y}" text-anchor="end" fill="{color}">{arm}</text>')
    marks.append(
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 12}" text-anchor="middle">rise of general perplexity</text>'
    )
    marks.append(
        f'<text x="16" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 16 {HEIGHT / 2})">task</text>'
    )
    style = 'font-family="sans-serif" font-size="12" fill="#333"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {style} role="img">'
    title = "<title>Task learned and general text forgotten, by epochs</title>"
    return "\n".join([head, title, '<rect width="100%" height="100%" fill="#fff"/>', *marks, "</svg>"]) + "\n"


if __name__ == "__main__":
    main()
