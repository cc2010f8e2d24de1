"""The demo's two recipes on another labelled set: tune a teacher, distill it on prompts nobody labelled, measure.

    python -m benchmarks.public_set FOLDER --labelled 2400 --prompts 4000 --held-out 400 --home DIR

FOLDER holds `train.jsonl` and `test.jsonl` with the keys `input` and `output` (BANKING77 or SNIPS intents in that
form). Labels of the prompts are dropped before anything else sees them. Running it again goes on where it stopped.
"""

from __future__ import annotations

from benchmarks.arms import LabelledSet, parser
from rich.console import Console

import limbeck
from limbeck.cli.bars import watcher
from limbeck.evaluation.table import table
from limbeck.records import Report


def main() -> None:
    given = parser(__doc__, labelled=2400, prompts=4000, held_out=400).parse_args()
    watch = watcher(Console(stderr=True))
    rows = LabelledSet.read(given)
    teacher, prompts = rows.teacher(watch), rows.prompts(0, given.prompts)
    recipe = rows.distillation("student", teacher, prompts, given.layers, given.epochs, 0)
    recipe |= {"evaluation": {"latency_requests": 20}, "export": {}}
    found = limbeck.distill(recipe, home=given.home, resume=True, progress=watch).report
    print(table(Report(found["models"], found["rows"], found["verdict"], found["ship"], found["details"])))
    print(f"\nVerdict: {found['verdict']}")


if __name__ == "__main__":
    main()
