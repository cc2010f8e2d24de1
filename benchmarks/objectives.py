"""Objectives compared: the same students, prompts, teacher's answers and steps, and what is minimized.

    python -m benchmarks.objectives FOLDER --home DIR

FOLDER is a labelled set as `benchmarks/arms.py` reads it. The teacher is the demo's recipe on its labels; each seed
draws its own prompts, which the teacher answers once for all arms. The processor's seconds are those of a whole job
whose answers are there, but for the first arm, which asks them.

With ``--begun 3`` each seed's student first learns forward KL for so many epochs, and every arm goes on from there, as
the papers of reverse KL and on-policy distillation begin: a student just cut gives the teacher's words none of its
mass. What it was by then is the first row.

Running it again goes on where it stopped; ``--only`` runs some of the arms, in several processes if wanted.
"""

from __future__ import annotations

from benchmarks.arms import Arm, LabelledSet, Recipe, compare, parser, table
from rich.console import Console

from limbeck.cli.bars import watcher

OBJECTIVES: dict[str, Recipe] = {
    "cross-entropy": {"cross_entropy": 1.0},
    "forward KL": {"forward_kl": 1.0},
    "reverse KL": {"reverse_kl": 1.0},
    "Jensen-Shannon": {"jensen_shannon": 1.0},
    "forward and reverse KL": {"forward_kl": 0.5, "reverse_kl": 0.5},
    "forward KL and hidden states": {"forward_kl": 1.0, "hidden": {"measure": "relative", "weight": 3.0}},
    "forward and reverse KL, a quarter on-policy": {
        "forward_kl": 0.5,
        "reverse_kl": 0.5,
        "on_policy": {"share": 0.25},
    },
}


AGAIN = 5e-4
"""The peak rate of a student that has begun, a quarter of the first."""


def main() -> None:
    options = parser(__doc__, labelled=2400, prompts=1200)
    options.add_argument("--only", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    options.add_argument("--begun", type=int, default=0, metavar="EPOCHS", help="of forward KL before the arms part")
    given = options.parse_args()
    data = LabelledSet.read(given)
    teacher = data.teacher(watcher(Console(stderr=True)))

    def begun(seed: int) -> Recipe:
        prompts = data.prompts(seed, given.prompts)
        return data.distillation("begun", teacher, prompts, given.layers, given.begun, seed)

    def arm(name: str, seed: int) -> Recipe:
        made = data.distillation(
            f"objective {name}".replace(",", ""),
            teacher,
            data.prompts(seed, given.prompts),
            given.layers,
            given.epochs,
            seed,
        )
        made["training"]["objective"] = OBJECTIVES[name]
        if given.begun:
            made["student"] = {"model": begun(seed)["name"]}
            made["training"]["learning_rate"] = AGAIN
        return made

    arms: dict[str, Arm] = {"as it began": begun} if given.begun else {}
    arms |= {name: lambda seed, name=name: arm(name, seed) for name in given.only}
    found = compare(arms, given.seeds, given.home)
    print(table(found, "forward KL" if "forward KL" in found else next(iter(found))))


if __name__ == "__main__":
    main()
