"""Rules T1 to T9: epochs, warm-up and learning rate, by the amount of data and the size of the student.

M1 is none of the guides': an objective that was seen not to begin here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from limbeck.advice.notes import SMALL, Advice, Counts, ModelClass, model_class
from limbeck.recipe import Recipe

__all__ = ["CUT_RATE", "WHOLE_RATE", "hyperparameters", "total_steps"]

NOVA = "Amazon Nova, hyperparameters of fine-tuning"
GUIDE = "Amazon Bedrock, guidance on hyperparameters"
NOTES = "docs/lab-notes.md"

EPOCHS, RATES, WARMUP, FIRST_WARMUP = (1, 5), (1e-6, 1e-4), (0, 100), 20
"""What Amazon Bedrock takes; `FIRST_WARMUP` was the most warm-up steps in its first documentation."""

FEW, MANY = 1000, 5000
"""Samples: fewer than the one want copies, more than the other a single epoch."""

DIVISORS: dict[ModelClass, int] = {"micro": 640, "lite": 160, "pro": 320}
"""Samples a warm-up step, by the class of the student."""

RATE: dict[ModelClass, float] = {"micro": 5e-5, "lite": 1e-5, "pro": 1e-5}
"""The guides give 1e-5, and ask for more where the student is of the Micro class; how much more is our choice."""

CUT_RATE, WHOLE_RATE = 1.4e-3, 3e-4
"""What did best here for students below a thousand million weights: cut from a larger model, and whole."""


def hyperparameters(recipe: Recipe, counts: Counts) -> Iterator[Advice]:
    """Advice on `training`."""
    yield _range(recipe, counts)
    yield _epochs(recipe, counts)
    yield _warmup(recipe, counts)
    yield _rate(recipe, counts)
    yield from _objective(recipe)


def total_steps(recipe: Recipe, counts: Counts) -> int | None:
    """Optimizer steps of the whole job; None where documents are read, which are cut into as many sequences as their
    tokens fill."""
    plan = recipe.training
    if recipe.kind == "continued-pre-training":
        return None
    rows = counts.training * counts.copies if plan.copies == "learned" else counts.training
    return max(1, math.ceil(rows / plan.batch_size)) * plan.epochs


def _warmup_steps(recipe: Recipe, steps: int | None) -> int | None:
    plan = recipe.training
    share_of = None if steps is None else round(plan.warmup * steps)
    return share_of if plan.warmup_steps is None else plan.warmup_steps


def _range(recipe: Recipe, counts: Counts) -> Advice:
    plan, steps = recipe.training, _warmup_steps(recipe, total_steps(recipe, counts))
    outside = [
        f"{name} {value:g} (it takes {low:g} to {high:g})"
        for name, value, (low, high) in (
            ("epochCount", plan.epochs, EPOCHS),
            ("learningRate", plan.learning_rate, RATES),
            ("learningRateWarmupSteps", steps, WARMUP),
        )
        if value is not None and not low <= value <= high
    ]
    told = f"Amazon Bedrock would refuse {', '.join(outside)}" if outside else "within what Amazon Bedrock takes"
    if not outside and steps is not None and steps > FIRST_WARMUP:
        told += f", though its first documentation ended at {FIRST_WARMUP} warm-up steps and this has {steps}"
    return Advice(
        ("T1", "T2"),
        "training",
        "fine",
        told,
        "its defaults are 2 epochs, a rate of 1e-5 and 10 warm-up steps; a recipe may go beyond its ranges",
        NOVA,
    )


def _epochs(recipe: Recipe, counts: Counts) -> Advice:
    epochs, copies, found = recipe.training.epochs, counts.copies, recipe.training.epochs
    if recipe.training.copies == "learned":
        found = round(epochs * copies)
    small = (counts.student_parameters or math.inf) < SMALL
    measured = (
        "four to six epochs over one to four thousand prompts for a student cut from a larger model" if small else ""
    )
    given = f"{found} effective epochs" + (f" ({epochs} of {copies:.1f} copies)" if found != epochs else "")
    if counts.training < FEW:
        enough = found >= 10
        return Advice(
            ("T3", "T9"),
            "training.epochs",
            "fine" if enough else "consider",
            f"{counts.training:,} samples and {given}; about 10 are advised, as 5 epochs over every row twice"
            " (rows given twice count twice with training.copies: learned, which fine-tuning through the API has)",
            "the smaller the set the more often it must be seen, and 5 epochs are the most a request may ask for;"
            " effective epochs are epochs times copies",
            GUIDE,
            10,
            measured,
        )
    rule, value = ("T4", 2) if counts.training <= MANY else ("T5", 1)
    bound = f"up to {MANY:,}" if rule == "T4" else f"more than {MANY:,}"
    return Advice(
        (rule, "T9"),
        "training.epochs",
        "fine" if found == value or (small and 3 <= found <= 6) else "consider",
        f"{counts.training:,} samples and {given}; {value} {'are' if value > 1 else 'is'} advised",
        f"for {bound} samples; a larger set is seen less often",
        GUIDE,
        value,
        measured,
    )


def _warmup(recipe: Recipe, counts: Counts) -> Advice:
    steps = total_steps(recipe, counts)
    found = _warmup_steps(recipe, steps)
    size = model_class(recipe.student.model or (recipe.teacher.model if recipe.teacher else ""), _size(recipe, counts))
    value = min(round(counts.training / DIVISORS[size]), WARMUP[1], WARMUP[1] if steps is None else steps - 1)
    if found is not None and steps is not None and found >= steps:
        return Advice(
            ("T7",),
            "training.warmup_steps",
            "mind",
            f"{found} warm-up steps of {steps} in all: the rate would never reach {recipe.training.learning_rate:g}, so"
            f" only {steps - 1} are taken; {value} are advised",
            "a warm-up that reaches the end leaves no step at the rate that was set",
            GUIDE,
            value,
        )
    in_all = "" if steps is None else f" of {steps}"
    told = f"{recipe.training.warmup:.0%} of all" if found is None else f"{found}{in_all}"
    return Advice(
        ("T6",),
        "training.warmup_steps",
        "fine" if found is None or abs(found - value) <= max(2, value // 2) else "consider",
        f"{told} steps; {value} are advised, {counts.training:,} samples divided by {DIVISORS[size]}",
        f"a student of the {size.capitalize()} class; a tenth of one epoch in its usual batches",
        GUIDE,
        value,
        "a tenth of all steps (training.warmup: 0.1), a fifth for a student cut from a larger model",
    )


def _rate(recipe: Recipe, counts: Counts) -> Advice:
    rate = recipe.training.learning_rate
    size = model_class(recipe.student.model or (recipe.teacher.model if recipe.teacher else ""), _size(recipe, counts))
    value, best = RATE[size], RATE[size]
    measured = ""
    if (counts.student_parameters or math.inf) < SMALL:
        best = CUT_RATE if recipe.student.shrink else WHOLE_RATE
        kind = "a student cut from a larger model" if recipe.student.shrink else "a whole model"
        measured = f"{best:g} for {kind} of {(counts.student_parameters or 0) / 1e6:.0f} M weights ({NOTES})"
    return Advice(
        ("T8",),
        "training.learning_rate",
        "fine" if value / 2 <= rate <= 2 * best else "consider",
        f"{rate:g}; the guides advise about {value:g}",
        f"a student of the {size.capitalize()} class; the smaller the model, the larger the rate it bears",
        GUIDE,
        value,
        measured,
    )


def _objective(recipe: Recipe) -> Iterator[Advice]:
    """Divergences whose gradient is weighted by the student's own likelihoods, for a student that has none yet."""
    weights = recipe.objective.weights
    if recipe.student.shrink is None or not weights or not set(weights) <= {"reverse_kl", "jensen_shannon"}:
        return
    named = " and ".join(weights)
    yield Advice(
        ("M1",),
        "training.objective",
        "mind",
        f"{named} alone does not teach a student that is cut from a larger model; put forward_kl beside it",
        "its gradient is as small as the likelihood that the student gives to the teacher's words, and a cut student"
        " gives them none",
        NOTES,
        {"forward_kl": 0.5, **{name: weight / 2 for name, weight in weights.items()}},
    )


def _size(recipe: Recipe, counts: Counts) -> int | None:
    return counts.student_parameters if recipe.student.model or counts.student_parameters else counts.teacher_parameters
