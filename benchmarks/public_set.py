"""The demo's two recipes on another labelled set: tune a teacher, distill it on prompts nobody labelled, measure.

    python benchmarks/public_set.py FOLDER --labelled 2400 --prompts 4000 --held-out 400 --home DIR

FOLDER holds `train.jsonl` and `test.jsonl` with the keys `input` and `output` (BANKING77 or SNIPS intents in that
form). Labels of the prompts are dropped before anything else sees them. Running it again goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import yaml
from rich.console import Console

import limbeck
from limbeck.cli.bars import watcher
from limbeck.evaluation.table import table
from limbeck.records import Report

DESK = Path(__file__).parent.parent / "examples" / "service-desk"


def write(path: Path, rows: list[dict], labelled: bool, key: str) -> str:
    made = (
        {"prompt": row["input"], **({"completion": row[key].replace("_", " ")} if labelled else {})} for row in rows
    )
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made), encoding="utf-8")
    return str(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--key", default="output", help="the label's key")
    parser.add_argument("--labelled", type=int, default=2400)
    parser.add_argument("--prompts", type=int, default=4000)
    parser.add_argument("--held-out", type=int, default=400)
    parser.add_argument("--teacher-epochs", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--home", type=Path, required=True)
    given = parser.parse_args()

    def read(name: str) -> list[dict]:
        rows = [json.loads(line) for line in (given.folder / name).read_text(encoding="utf-8").splitlines()]
        random.Random(0).shuffle(rows)
        return rows

    train, test = read("train.jsonl"), read("test.jsonl")[: given.held_out]
    given.home.mkdir(parents=True, exist_ok=True)
    source = {
        "held_out": write(given.home / "test.jsonl", test, True, given.key),
        "system": "Name the intent of the customer's message.",
    }
    labelled = write(given.home / "labelled.jsonl", train[: given.labelled], True, given.key)
    rest = train[given.labelled : given.labelled + given.prompts]
    prompts = write(given.home / "prompts.jsonl", rest, False, given.key)

    teacher = yaml.safe_load((DESK / "teacher.yaml").read_text())
    teacher["source"] |= {**source, "prompts": labelled}
    teacher["synthesis"]["max_response_tokens"] = 16
    teacher["training"]["epochs"] = given.teacher_epochs
    student = yaml.safe_load((DESK / "student.yaml").read_text())
    student["source"] |= {**source, "prompts": prompts}
    student["synthesis"]["max_response_tokens"] = 16
    student["training"]["epochs"] = given.epochs

    watch = watcher(Console(stderr=True))
    limbeck.fine_tune(teacher, home=given.home, resume=True, progress=watch)
    model = limbeck.distill(student, home=given.home, resume=True, progress=watch)
    found = model.report
    print(table(Report(found["models"], found["rows"], found["verdict"], found["ship"], found["details"])))
    print(f"\nVerdict: {found['verdict']}")


if __name__ == "__main__":
    main()
