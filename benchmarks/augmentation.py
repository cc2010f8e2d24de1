"""Students of a hundred given prompts, and of as many more as a model made of them: quality, and diversity.

    python -m benchmarks.augmentation FOLDER --key intent --home DIR

FOLDER is a labelled set as `benchmarks/arms.py` reads it. The teacher is the demo's recipe on its labels. Since it
writes labels whatever it is asked, the prompts are written by the embedded model as it is (``--writer``). Four arms,
each with every seed, which is that of the given prompts, of training, of answers and of what is written:

    given       the given prompts, for so many epochs
    given long  the same, for as many steps as the augmented: what more training alone would bring
    augmented   the given and the made ones
    real        as many prompts of the set itself: what the best of writers would bring

What the augmentation says of itself follows the table. Running it again goes on where it stopped.
"""

from __future__ import annotations

import json

from benchmarks.arms import MODEL, LabelledSet, Recipe, compare, parser, table
from rich.console import Console

from limbeck.cli.bars import watcher


def main() -> None:
    options = parser(__doc__, epochs=4)
    options.add_argument("--to", type=int, default=700)
    options.add_argument("--writer", default=MODEL)
    options.add_argument("--task", default="Requests that people speak to a voice assistant.")
    given = options.parse_args()
    data = LabelledSet.read(given)
    teacher = data.teacher(watcher(Console(stderr=True)))
    longer = given.epochs * round(given.to / given.prompts)

    def arm(name: str, seed: int, count: int, epochs: int) -> Recipe:
        prompts = data.prompts(seed, count)
        made = data.distillation(f"augmentation {name}", teacher, prompts, given.layers, epochs, seed)
        made["synthesis"]["seed"] = seed
        return made

    def augmented(seed: int) -> Recipe:
        made = arm("augmented", seed, given.prompts, given.epochs)
        made["synthesis"]["augment"] = {"to": given.to, "task": given.task, "writer": {"model": given.writer}}
        return made

    arms = {
        "given": lambda seed: arm("given", seed, given.prompts, given.epochs),
        "given long": lambda seed: arm("given long", seed, given.prompts, longer),
        "augmented": augmented,
        "real": lambda seed: arm("real", seed, given.to, given.epochs),
    }
    models = compare(arms, given.seeds, given.home)
    print(table(models, "given") + "\n")
    for made in models["augmented"]:
        summary = json.loads((made.path.parent / "2-augmented" / "summary.json").read_text(encoding="utf-8"))
        print(f"- {made.name}: {summary['sentence']}")


if __name__ == "__main__":
    main()
