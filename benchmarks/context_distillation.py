"""A teacher with eight demonstrations in its prompt, students with none: quality and latency of both.

    python benchmarks/context_distillation.py --home DIR                    # whole: an hour on two slow cores
    python benchmarks/context_distillation.py --home DIR --prompts 60 --held-out 12 --layers 6 --epochs 1

The teacher is the embedded model as it is: nobody tuned it. It sees instructions that name the intents, and eight
labelled messages, chosen for each prompt from a pool (``--choice similar``) or the same for all (``first``). The
students learn its answers and distributions and see the bare message under one short sentence: one of the teacher's own
size, whose gain is the prompt alone, and one of fewer layers. Shown beside them is the teacher without its context, on
the students' prompts. With ``--learn-pool`` the students learn the pool's own labels too, and may go beyond the
teacher. Its answers are asked once for all students. Running it again goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from rich.console import Console

import limbeck
from limbeck.cli.bars import watcher
from limbeck.evaluation.table import table
from limbeck.records import Report

DESK = Path(__file__).parent.parent / "examples" / "service-desk"
MODEL = "huggingface.smollm2-135m-instruct-v1:0"
LAYERS = 30
SHORT = "Name the intent of the customer's message."


def read(name: str) -> list[dict]:
    return [json.loads(line) for line in (DESK / name).read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def pool_of(labelled: list[dict], each: int) -> list[dict]:
    """So many messages of every intent, the intents in turn: the first eight pairs are of eight intents."""
    by_intent: dict[str, list[dict]] = {}
    for row in labelled:
        by_intent.setdefault(row["completion"], []).append(row)
    return [rows[at] for at in range(each) for _, rows in sorted(by_intent.items()) if at < len(rows)]


def recipe(given: argparse.Namespace, layers: int) -> dict:
    labelled = read("labelled.jsonl")
    prompts, test = read("prompts.jsonl"), read("test.jsonl")
    random.Random(0).shuffle(test)
    intents = ", ".join(sorted({row["completion"] for row in labelled}))
    whole = layers == LAYERS
    return {
        "kind": "distillation",
        "name": f"context-{given.choice}-{layers}{'-labels' if given.learn_pool else ''}",
        "source": {
            "prompts": write(given.home / "prompts.jsonl", prompts[: given.prompts]),
            "held_out": write(given.home / "test.jsonl", test[: given.held_out]),
            "golden": write(given.home / "golden.jsonl", pool_of(labelled, given.pool)),
            "learn_golden": given.learn_pool,
            "system": SHORT,
            "validation_share": 0.0,
            "minimum": 1,
        },
        "teacher": {"model": MODEL},
        "student": {} if whole else {"shrink": {"layers": list(range(layers))}},
        "synthesis": {
            "teacher_system": f"{SHORT} It is one of: {intents}. Write the intent and nothing else.",
            "demonstrations": given.demonstrations,
            "golden_choice": given.choice,
            "max_response_tokens": 8,
        },
        "training": {"epochs": given.epochs, "learning_rate": 3e-4 if whole else 2e-3, "batch_size": 32},
        "evaluation": {"latency_requests": given.requests, "teacher_sees": "context"},
        "export": {"gguf": "none"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--choice", choices=("similar", "first"), default="similar")
    parser.add_argument("--demonstrations", type=int, default=8)
    parser.add_argument("--learn-pool", action="store_true")
    parser.add_argument("--pool", type=int, default=60, help="labelled messages of each intent to choose from")
    parser.add_argument("--prompts", type=int, default=1092)
    parser.add_argument("--held-out", type=int, default=240)
    parser.add_argument("--layers", type=int, nargs="+", default=[LAYERS, 6])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--requests", type=int, default=20)
    given = parser.parse_args()
    given.home.mkdir(parents=True, exist_ok=True)

    models: dict[str, dict] = {}
    said = {}
    watch = watcher(Console(stderr=True))
    for layers in given.layers:
        made = limbeck.distill(recipe(given, layers), home=given.home, resume=True, progress=watch)
        found = made.report
        models["teacher"] = found["models"]["teacher"]
        if layers == LAYERS:
            models["teacher without context"] = found["models"]["student before"]
        models[f"student, {layers} layers"] = found["models"]["student after"]
        models["baseline"] = found["models"].get("baseline", models.get("baseline"))
        said[layers] = found["verdict"]
    shown = {part: measured for part, measured in models.items() if measured}
    print(table(Report(shown, found["rows"], "", False, found["details"])))
    for layers, verdict in said.items():
        print(f"\n{layers} layers: {verdict}")
    for sentence in found["details"]["said"]:
        print(f"- {sentence}")


if __name__ == "__main__":
    main()
