"""Several teachers tried on a sample of the prompts; the best of them teaches.

Each candidate answers the sample in turn, one loaded at a time; its answers go into the store, so those of the winner
are not asked again. A candidate's score is the mean over the sample of

| there are       | an answer's score, from 0 to 1                                                                   |
|-----------------|--------------------------------------------------------------------------------------------------|
| labels          | how like it is to the label                                                                      |
| a judge, else   | the judge's mark (`marks`)                                                                       |
| neither         | how like it is, on average, to the other candidates' answers: what most of them say is likeliest |
|                 | right (minimum Bayes risk; Kumar and Byrne 2004, HLT-NAACL). It takes three candidates           |

Left in the folder: `trial.json`, every candidate's figures and who was chosen, and `answers.jsonl`, what each said.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.errors import InvalidInput
from limbeck.records import Answer, Example
from limbeck.storage.workspace import Workspace, read_json, write_json, writing
from limbeck.synthesis.marks import marks
from limbeck.synthesis.session import Session

__all__ = ["TRIAL", "choose_teacher"]

TRIAL = "2-teachers"


def choose_teacher(
    candidates: Mapping[str, Callable[[], Session]],
    judge: Callable[[], Session] | None,
    examples: Sequence[Example],
    size: int,
    seed: int,
    agree: Callable[[str, str], float],
    work: Workspace,
) -> str:
    """The name of the candidate that does best on ``size`` of the examples to be learned; of equals, the first.

    Each is opened when its turn comes. Raises `InvalidInput` where nothing could tell two candidates apart.
    """
    sample = _sample(examples, size, seed)
    labelled = all(example.label is not None for example in sample)
    if not labelled and judge is None and len(candidates) < 3:
        raise InvalidInput(
            f"trial.teachers: no row has a label by which {' and '.join(candidates)} could be told apart;"
            " give some rows their answers, or trial.judge, or a third teacher"
        )
    by = "labels" if labelled else "a judge" if judge is not None else "each other's answers"
    inputs = {"examples": work.digest_of("1-intake"), "sample": [e.id for e in sample], "by": by}

    def make(folder: Path) -> None:
        said = {name: _answers(name, opened(), sample) for name, opened in candidates.items()}
        if labelled:
            scores = {
                name: [agree(answer.text, e.label or "") for answer, e in zip(answers, sample, strict=True)]
                for name, answers in said.items()
            }
        elif judge is not None:
            session = judge()
            try:
                scores = {
                    name: marks(session, sample, [answer.text for answer in answers]) for name, answers in said.items()
                }
            except InvalidInput as why:  # of a question longer than the row that it names
                raise InvalidInput(f"trial.judge, asked with prompt and answer: {why}") from None
        else:
            scores = {name: _likeness(name, said, agree) for name in said}
        figures = {name: _figures(said[name], scores[name]) for name in said}
        chosen = max(figures, key=lambda name: figures[name]["score"])  # of equals the first
        with writing(folder / "answers.jsonl") as file:
            for at, example in enumerate(sample):
                row = {
                    "id": example.id,
                    "prompt": example.prompt.messages[-1].text,
                    "label": example.label,
                    "answers": {name: answers[at].text for name, answers in said.items()},
                    "scores": {name: scores[name][at] for name in said},
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        found = {"chosen": chosen, "by": by, "rows": len(sample), "candidates": figures}
        write_json(folder / "trial.json", {**found, "sentence": _sentence(chosen, by, len(sample), figures)})
        work.progress.say(_sentence(chosen, by, len(sample), figures))

    plan = {**inputs, "candidates": list(candidates)}
    return str(read_json(work.step(TRIAL, plan, make) / "trial.json")["chosen"])


def _sample(examples: Sequence[Example], size: int, seed: int) -> list[Example]:
    """Of the examples to be learned; labelled ones if there are any."""
    learned = [example for example in examples if example.split == "train"]
    known = [example for example in learned if example.label is not None] or learned
    if not known:
        raise InvalidInput("trial.teachers: no prompt is left to try them on")
    return random.Random(seed).sample(known, min(size, len(known)))  # noqa: S311 (a sample, not a secret)


def _answers(name: str, session: Session, sample: Sequence[Example]) -> list[Answer]:
    return session.put([session.framing.question(example) for example in sample], f"trying {name}")


def _likeness(name: str, said: Mapping[str, Sequence[Answer]], agree: Callable[[str, str], float]) -> list[float]:
    """How like each answer of ``name`` is to those of the others, on average."""
    others = [answers for other, answers in said.items() if other != name]
    return [
        float(np.mean([agree(answer.text, other[at].text) for other in others])) for at, answer in enumerate(said[name])
    ]


def _figures(answers: Sequence[Answer], scores: Sequence[float]) -> dict[str, Any]:
    return {
        "score": float(np.mean(scores)),
        "standard_error": float(np.std(scores) / np.sqrt(len(scores))),
        "response_tokens": float(np.mean([answer.response_tokens for answer in answers])),
        "cut_off": float(np.mean([answer.finish_reason != "stop" for answer in answers])),
    }


def _sentence(chosen: str, by: str, rows: int, figures: Mapping[str, Mapping[str, float]]) -> str:
    told = ", ".join(f"{name} {one['score']:.0%} ± {one['standard_error']:.0%}" for name, one in figures.items())
    return f"teacher: {chosen}, the best of {len(figures)} by {by} on {rows} prompts ({told})"
