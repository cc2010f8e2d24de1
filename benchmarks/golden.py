"""What golden pairs bring to a teacher that nobody tuned, and to its students.

    python -m benchmarks.golden FOLDER --key intent --home DIR

FOLDER is a labelled set as `benchmarks/arms.py` reads it. The teacher is the embedded model as it is, under
instructions that name the labels; each seed draws its own prompts and, from the labelled rows, its own golden pairs,
the labels in turn. Arms:

    none             the teacher answers from the instructions alone
    shown            the same ten pairs are put before every prompt
    shown, learned   and the student learns their labels too
    chosen           of a larger pool, the ten most like each prompt are put before it
    chosen, learned  and the student learns the pool's labels too

Running it again goes on where it stopped.
"""

from __future__ import annotations

import random

from benchmarks.arms import LAYERS, MODEL, SYSTEM, LabelledSet, Recipe, compare, parser, table


def in_turn(rows: list[Recipe], count: int) -> list[Recipe]:
    """So many rows, the labels in turn."""
    by_label: dict[str, list[Recipe]] = {}
    for row in rows:
        by_label.setdefault(row["completion"], []).append(row)
    most = max(len(some) for some in by_label.values())
    ordered = [some[at] for at in range(most) for _, some in sorted(by_label.items()) if at < len(some)]
    return ordered[:count]


def main() -> None:
    options = parser(__doc__, layers=LAYERS, epochs=2)
    options.add_argument("--golden", type=int, default=10)
    options.add_argument("--pool", type=int, default=100)
    given = options.parse_args()
    data = LabelledSet.read(given)
    instructions = f"{SYSTEM} It is one of: {', '.join(data.labels)}. Write the intent and nothing else."

    def arm(name: str, seed: int, pairs: int, choice: str, learned: bool) -> Recipe:
        prompts = data.prompts(seed, given.prompts)
        made = data.distillation(f"golden {name}", MODEL, prompts, given.layers, given.epochs, seed)
        made["synthesis"] |= {"teacher_system": instructions, "demonstrations": given.golden, "golden_choice": choice}
        made["evaluation"]["teacher_sees"] = "context"
        if pairs:
            drawn = random.Random(seed).sample(data.labelled, len(data.labelled))
            made["source"] |= {
                "golden": data.write(f"golden-{pairs}-{seed}", in_turn(drawn, pairs)),
                "learn_golden": learned,
            }
        return made

    arms = {
        "none": lambda seed: arm("none", seed, 0, "first", False),
        "shown": lambda seed: arm("shown", seed, given.golden, "first", False),
        "shown, learned": lambda seed: arm("shown learned", seed, given.golden, "first", True),
        "chosen": lambda seed: arm("chosen", seed, given.pool, "similar", False),
        "chosen, learned": lambda seed: arm("chosen learned", seed, given.pool, "similar", True),
    }
    print(table(compare(arms, given.seeds, given.home), "none"))


if __name__ == "__main__":
    main()
