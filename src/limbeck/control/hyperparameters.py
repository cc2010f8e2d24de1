"""A job's hyperparameters: names, ranges and defaults as Amazon Bedrock has them, and five of our own.

| name                      | values                          | default                                |
|---------------------------|---------------------------------|----------------------------------------|
| `epochCount`              | 1 to 5                          | 2; in a distillation 3                 |
| `learningRate`            | 1e-6 to 1e-4                    | 1e-5; in a distillation by the student |
| `learningRateWarmupSteps` | 0 to 100                        | 10; in a distillation a tenth          |
| `batchSize`               | 1 to 512                        | 32                                     |
| `objective`               | `forward_kl`, `cross_entropy`   | `forward_kl` (distillation only)       |
| `labels`                  | `keep`, `improve`, `ignore`, `auto` | `keep` (distillation only)         |
| `augmentTo`               | 1 to 15000 prompts to learn from | those given (distillation only)       |
| `resumeFrom`              | a job that was stopped          | begin anew                             |
| `dryRun`                  | `true`: say what it would take  | make the job (distillation only)       |

Everything arrives as text. In a distillation Bedrock chooses for itself; what is given there is honored, `chosen` tells
the rest, and `learningRate` may go up to 1e-2: a student of a few layers wants more than a large model bears. Warm-up
ended at 20 steps in Bedrock's first documentation; both ranges are taken, and the job's advice tells of the difference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from limbeck.errors import InvalidInput
from limbeck.recipe import Training

__all__ = ["AUGMENT", "DRY_RUN", "RESUME", "checked", "chosen"]

RESUME = "resumeFrom"
"""Names the job, stopped or failed, that this one goes on with."""

AUGMENT = "augmentTo"
"""How many prompts a distillation learns from, those included that its teacher writes like the given ones."""

DRY_RUN = "dryRun"
"""Asks what a distillation would take, and makes none."""

DEFAULTS = {"epochCount": "2", "learningRate": "0.00001", "learningRateWarmupSteps": "10", "batchSize": "32"}

CHOICES = {"objective": ("forward_kl", "cross_entropy"), "labels": ("keep", "improve", "ignore", "auto")}
"""Of a distillation: what is minimized, and what becomes of the rows' own answers."""

NUMBER = re.compile(r"[+-]?(\d{1,20}\.?\d{0,20}|\.\d{1,20})([eE][+-]?\d{1,3})?", re.ASCII)
"""Every notation of a number that JSON or a notebook would write, and none that only Python reads."""


def checked(kind: str, given: Mapping[str, str]) -> dict[str, str]:
    """The hyperparameters of a job, with the defaults of its kind. Raises `InvalidInput` naming every fault."""
    distilled = kind == "DISTILLATION"
    ranges = {
        "epochCount": (1, 5),
        "learningRate": (1e-6, 1e-2 if distilled else 1e-4),
        "learningRateWarmupSteps": (0, 100),
        "batchSize": (1, 512),
        **({AUGMENT: (1, 15_000)} if distilled else {}),
    }
    known = [*ranges, *((*CHOICES, DRY_RUN) if distilled else ()), RESUME]
    faults = []
    for name, text in given.items():
        if name in CHOICES and distilled:
            if text not in CHOICES[name]:
                *others, last = CHOICES[name]
                faults.append(f'{name}: found "{text}"; expected {", ".join(others)} or {last}')
        elif name == DRY_RUN and distilled:
            if text != "true":
                faults.append(f'{DRY_RUN}: found "{text}"; expected true, or nothing')
        elif name == RESUME:
            continue  # whether there is such a job is seen where jobs are known
        elif name not in ranges:
            faults.append(f"{name}: unknown hyperparameter; expected one of {', '.join(known)}")
        else:
            least, most = ranges[name]
            whole = name != "learningRate"
            number = _number(text, whole)
            if number is None or not least <= number <= most:
                what = "a whole number" if whole else "a number"
                faults.append(f'{name}: found "{text}"; expected {what} from {least:g} to {most:g}')
    if faults:
        raise InvalidInput("; ".join(f"hyperParameters.{fault}" for fault in faults))
    return dict(given) if distilled else {**DEFAULTS, **given}


def chosen(plan: Training) -> dict[str, str]:
    """What a distillation is run with, as hyperparameters: those that are known before its data are counted."""
    return {
        "epochCount": str(plan.epochs),
        "learningRate": f"{plan.learning_rate:g}",
        "batchSize": str(plan.batch_size),
    }


def _number(text: str, whole: bool) -> float | None:
    if not NUMBER.fullmatch(text):
        return None
    found = float(text)
    return None if whole and not found.is_integer() else found
