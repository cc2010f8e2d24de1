"""Similar prompts: the teacher, or a writer in its place, writes others like those given, as many as wanted or it can.

In rounds of questions (`recipe.rounds`), spread evenly over clusters of the given prompts and over the `methods`. What
`admission` lets in is an example of origin "augmented", whose parent is the given prompt it was made from, without a
label: the teacher answers it as it answers any other. Seeds are prompts to be trained on, of one turn and without
droppable parts; held-out prompts and those for validation are never shown.

Replies are kept in the store of answers under what was asked, and what is asked next follows from seed and replies
alone: a run that was stopped finds its way back without asking twice. Left in `2-augmented`: `examples.jsonl`,
`refused.jsonl` with a reason a line, and `summary.json` with counts, rounds, and diversity before and after.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from limbeck.errors import InvalidInput
from limbeck.recipe import Augment, Synthesis, rounds
from limbeck.records import Example, GenerationSettings, Message, Prompt, Question, digest
from limbeck.storage.workspace import write_json, writing
from limbeck.synthesis import instructions
from limbeck.synthesis.admission import Admission
from limbeck.synthesis.diversity import clusters, diversity
from limbeck.synthesis.methods import Request, read, request
from limbeck.synthesis.session import Session

__all__ = ["AUGMENTED", "augment"]

AUGMENTED = "2-augmented"
MADE = "examples.jsonl"

SHARE = 1.5
"""The most of a round's questions that start in one cluster, in equal shares: one that yields nothing takes no more."""


def augment(examples: Sequence[Example], session: Session, plan: Synthesis) -> list[Example]:
    """``examples`` and those made from them. Raises `InvalidInput` where no prompt can be a seed."""
    if plan.augment is None:
        return list(examples)
    work, wanted = session.work, plan.augment
    inputs = {
        "form": 1,  # of what is asked and of what is left in the folder
        "examples": work.digest_of("1-intake"),
        "teacher": session.teacher.fingerprint,
        "plan": wanted.model_dump(mode="json", exclude={"writer"}),
        "seed": plan.seed,
        "words": digest([instructions.OTHERS, instructions.ANOTHER, instructions.TRANSLATE, instructions.TASK])
        + digest({name: dict(changes) for name, changes in instructions.REWRITING.items()}),
    }

    def make(folder: Path) -> None:
        written = _Writing(examples, session, wanted, plan.seed)
        written.run()
        written.save(folder)
        work.progress.say(written.summary["sentence"])

    folder = work.step(AUGMENTED, inputs, make)
    seeds = {example.id: example for example in examples}
    with (folder / MADE).open(encoding="utf-8") as file:
        return [*examples, *(_read(json.loads(line), seeds) for line in file)]


class _Writing:
    """One run of rounds, and what came of it."""

    def __init__(self, examples: Sequence[Example], session: Session, plan: Augment, seed: int) -> None:
        self._session, self._plan, self._seed = session, plan, seed
        self._given = [example for example in examples if example.split != "held-out"]
        self._seeds = [e for e in self._given if e.split == "train" and len(e.prompt.turns) == 1 and e.whole is None]
        if not self._seeds:
            raise InvalidInput(
                f"synthesis.augment: none of {len(self._given)} prompts can be a seed; expected prompts to be trained"
                " on, of one turn and without droppable parts"
            )
        self._admission = Admission(examples, plan.near_duplicates)
        self._cluster = dict(zip((e.id for e in self._seeds), clusters(_texts(self._seeds), seed), strict=True))
        self._decks: dict[int, list[Example]] = {}
        self._members: dict[int, list[Example]] = {cluster: [] for cluster in sorted(set(self._cluster.values()))}
        for example in self._seeds:
            self._members[self._cluster[example.id]].append(example)
        self._made: dict[int, list[tuple[Example, Request, int]]] = {cluster: [] for cluster in self._members}
        self._all: list[tuple[Example, Request, int]] = []
        self._refused: list[dict[str, Any]] = []
        self._rounds: list[dict[str, int]] = []
        self._before = diversity(_texts(self._given), len(self._given), seed)

    def run(self) -> None:
        """Ask, round after round, until enough is made or too little comes."""
        poor = 0
        while self._missing > 0 and poor < rounds.PATIENCE:
            number = len(self._rounds)
            asked = self._questions(number)
            session = replace(self._session, settings=self._settings(number))
            questions = [Question(one.prompt, place=one.parent.place) for one in asked]
            answers = session.put(questions, f"similar prompts, round {number + 1}")
            before = len(self._all)
            for one, answer in zip(asked, answers, strict=True):
                texts, lost = read(answer, one)
                for text, reason in lost:
                    self._refuse(text, reason, "", one, number)
                for text in texts:
                    self._admit(text, one, number)
            new = len(self._all) - before
            self._rounds.append({"asked": len(asked), "new": new})
            poor = poor + 1 if rounds.is_poor(len(asked), new) else 0

    @property
    def _missing(self) -> int:
        return self._plan.to - len(self._given) - len(self._all)

    def _settings(self, number: int) -> GenerationSettings:
        plan = self._plan
        return GenerationSettings(plan.max_tokens, plan.temperature, plan.top_p, self._seed + number)

    def _questions(self, number: int) -> list[Request]:
        """The round's questions: each starts in the cluster that has the fewest, and methods take turns."""
        dice = random.Random(f"{self._seed}:{number}")  # noqa: S311 (a sample, not a secret)
        planned: Counter[int] = Counter()
        asked: dict[str, Request] = {}
        size = rounds.size(self._missing)
        most = math.ceil(SHARE * size / len(self._members))
        for turn in range(size):
            method = self._plan.methods[turn % len(self._plan.methods)]
            open_to = (cluster for cluster in self._members if planned[cluster] < most)
            cluster = min(open_to, key=lambda one: (len(self._made[one]) + planned[one], planned[one], one))
            planned[cluster] += 1
            made = [example for example, _, _ in self._made[cluster]]
            one = request(method, self._deal(cluster, dice), self._members[cluster], made, self._plan, dice)
            asked.setdefault(one.prompt.id, one)  # the same words have the same answer: nobody pays for it twice
        return list(asked.values())

    def _deal(self, cluster: int, dice: random.Random) -> Example:
        """The next seed of a cluster: each has its turn before one has another."""
        if not self._decks.get(cluster):
            self._decks[cluster] = dice.sample(self._members[cluster], len(self._members[cluster]))
        return self._decks[cluster].pop()

    def _admit(self, text: str, asked: Request, number: int) -> None:
        if self._missing <= 0:
            self._refuse(text, "not needed", "", asked, number)
        elif (fault := self._admission.fault(text, asked.words)) is not None:
            self._refuse(text, *fault, asked, number)
        else:
            parent = asked.parent
            system = () if parent.prompt.system is None else (parent.prompt.messages[0],)
            place = (f"{AUGMENTED}/{MADE}", len(self._all) + 1)
            example = Example(
                Prompt((*system, Message("user", text))),
                None,
                "train",
                *place,
                origin="augmented",
                parent=parent.id,
                metadata=parent.metadata,
                others=parent.others,
                method=asked.method,
            )
            self._all.append((example, asked, number))
            self._made[self._cluster[parent.id]].append(self._all[-1])

    def _refuse(self, text: str, reason: str, detail: str, asked: Request, number: int) -> None:
        told = {"text": text, "reason": reason, "detail": detail, "parent": asked.parent.id}
        self._refused.append({**told, "method": asked.method, "shown": asked.shown, "round": number + 1})

    def save(self, folder: Path) -> None:
        """Write what was made, what was refused, and the figures."""
        with writing(folder / MADE) as file:
            for example, asked, number in self._all:
                cluster = self._cluster[asked.parent.id]
                more = {"cluster": cluster, "shown": asked.shown, "round": number + 1}
                file.write(json.dumps({**_to_json(example), **more}, ensure_ascii=False) + "\n")
        with writing(folder / "refused.jsonl") as file:
            for row in self._refused:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        write_json(folder / "summary.json", self.summary)

    @property
    def summary(self) -> dict[str, Any]:
        """The figures of the run, and the sentence that tells them."""
        made = [example for example, _, _ in self._all]
        methods = Counter((example.method or "").split(":")[0] for example in made)
        reasons = Counter(row["reason"] for row in self._refused)
        found = {
            "given": len(self._given),
            "seeds": len(self._seeds),
            "to": self._plan.to,
            "made": len(made),
            "methods": dict(sorted(methods.items())),
            "refused": dict(sorted(reasons.items())),
            "clusters": [{"given": len(self._members[one]), "made": len(self._made[one])} for one in self._members],
            "rounds": self._rounds,
            "before": self._before,
            "after": diversity(_texts([*self._given, *made]), len(self._given), self._seed),
        }
        return {**found, "sentence": _sentence(found)}


def _sentence(found: dict[str, Any]) -> str:
    reached = found["given"] + found["made"]
    said = f"similar prompts: {found['given']:,} given, {found['made']:,} made"
    if reached < found["to"]:
        last = found["rounds"][-1]
        said = (
            f"similar prompts: asked for {found['to']:,}, reached {reached:,}:"
            f" the last round gave {last['new']} new of {last['asked']} questions"
        )
    refused = ", ".join(f"{count:,} {reason}" for reason, count in found["refused"].items())
    before, after = found["before"], found["after"]
    return (
        said
        + (f"; refused: {refused}" if refused else "")
        + f"; diversity: Vendi score {before['vendi']:.1f} before, {after['vendi']:.1f} after, distinct-2 of"
        f" {before['prompts']:,} prompts {before['distinct_2']:.2f} and {after['distinct_2']:.2f}"
    )


def _texts(examples: Sequence[Example]) -> list[str]:
    return [example.prompt.messages[-1].text for example in examples]


def _to_json(example: Example) -> dict[str, Any]:
    return {
        "id": example.id,
        "split": example.split,
        "messages": [{"role": message.role, "text": message.text} for message in example.prompt.messages],
        "label": None,
        "copies": example.copies,
        "file": example.file,
        "line": example.line,
        "origin": example.origin,
        "parent": example.parent,
        "method": example.method,
        "metadata": dict(example.metadata),
        "others": [dict(one) for one in example.others],
    }


def _read(row: dict[str, Any], seeds: dict[str, Example]) -> Example:
    parent = seeds[row["parent"]]
    return Example(
        Prompt(tuple(Message(**turn) for turn in row["messages"])),
        None,
        row["split"],
        row["file"],
        row["line"],
        origin=row["origin"],
        parent=parent.id,
        metadata=parent.metadata,
        others=parent.others,
        method=row["method"],
    )
