"""Rules T10 to T18 and T20: labels, golden pairs, quality, variety, and whether this is the kind of job to run."""

from __future__ import annotations

from collections.abc import Iterator

from limbeck.advice.notes import Advice, Counts
from limbeck.recipe import Recipe

__all__ = ["data"]

DISTILLATION = "Amazon Bedrock, guidance on model distillation"
CUSTOMIZATION = "Amazon Bedrock, guidance on customizing models"

GOLDEN = 10
"""Golden pairs the guides ask for, where no prompt has an answer."""

FEW_PROMPTS = 500
"""Below so many prompts of a distillation the advice is to make more."""

UNLIKE = 0.3
"""Share of unseen words from which on the held-out prompts are told to be of another kind. A choice of ours."""


def data(recipe: Recipe, counts: Counts) -> Iterator[Advice]:
    """Advice on the rows, the teacher, and the kind."""
    distilled = recipe.kind == "distillation"
    if distilled:
        yield _golden(counts) if counts.labelled == 0 else _labels(recipe, counts)
    if counts.labelled and recipe.kind == "fine-tuning":
        yield _refinement(counts)
    if recipe.kind != "continued-pre-training":
        yield _systems(recipe, counts)
        yield _quality(counts)
        yield _kind(recipe, counts)
    yield _variety(recipe, counts)
    if distilled:
        yield _teacher(counts)
        yield _latency(counts)
        if recipe.synthesis.use_responses:
            yield _logs()
    yield _examination(recipe)


def _golden(counts: Counts) -> Advice:
    enough = counts.golden >= GOLDEN
    return Advice(
        ("T10",),
        "source.golden",
        "fine" if enough else "consider",
        f"no prompt has an answer, and the teacher is shown {counts.golden} golden pairs; about {GOLDEN} are advised",
        "the teacher follows their form and tone, and a student can then even surpass it",
        DISTILLATION,
        GOLDEN,
    )


def _labels(recipe: Recipe, counts: Counts) -> Advice:
    return Advice(
        ("T11",),
        "synthesis.labels",
        "fine",
        f"{counts.labelled:,} of {counts.prompts:,} prompts have an answer, and synthesis.labels says"
        f" {recipe.synthesis.labels}: keep answers that are good or middling, improve those that need it, ignore"
        " poor ones altogether; auto has the teacher measure which they are",
        "an answer that was given is learned as it stands; a poor one teaches its faults",
        DISTILLATION,
    )


def _refinement(counts: Counts) -> Advice:
    return Advice(
        ("T14",),
        "source.prompts",
        "fine",
        f"{counts.labelled:,} answers are learned as they stand; a larger model can clean them first"
        " (a distillation of these rows, with synthesis.labels: improve)",
        "what a model learns is no better than its labels",
        CUSTOMIZATION,
    )


def _systems(recipe: Recipe, counts: Counts) -> Advice:
    kinds = counts.systems + (1 if counts.without_system else 0)
    alike = kinds <= 1
    found = "the same" if alike else f"{counts.systems} different ones, and none in {counts.without_system:,} prompts"
    words = "improve the teacher's prompt before its answers are taken, and " if recipe.kind == "distillation" else ""
    return Advice(
        ("T12",),
        "source.system",
        "fine" if alike else "consider",
        f"the system prompt is {found}; {words}use the same one when the model is asked later",
        "the model learns to answer under the instructions it was shown",
        CUSTOMIZATION,
    )


def _quality(counts: Counts) -> Advice:
    folded = counts.rows - counts.prompts
    return Advice(
        ("T13",),
        "source.prompts",
        "mind" if counts.contradictions else "fine",
        f"{folded:,} of {counts.rows:,} rows repeat a prompt, {counts.contradictions:,} of them with another answer"
        + ("; 1-intake/report.csv names them" if folded else ""),
        "a few good rows teach more than many poor ones, and of two answers to one prompt the first is kept",
        CUSTOMIZATION,
    )


def _variety(recipe: Recipe, counts: Counts) -> Advice:
    unlike = counts.held_out > 0 and counts.unseen_words >= UNLIKE
    few = recipe.kind == "distillation" and counts.training < FEW_PROMPTS
    parts = []
    if counts.held_out:
        parts.append(f"{100 * counts.unseen_words:.0f}% of the held-out rows' words occur in no row that is learned")
    if few:
        parts.append(f"{counts.training:,} prompts are few; the teacher can write more like them")
    if not counts.held_out:
        parts.append("nothing is held out, so nothing can be said of what the job was good for")
    return Advice(
        ("T15",),
        "source",
        "mind" if unlike or not counts.held_out else "consider" if few else "fine",
        "; ".join(parts),
        "training, validation and examination should be alike, and varied as what the model will be asked",
        CUSTOMIZATION,
    )


def _teacher(counts: Counts) -> Advice:
    teacher, student = counts.teacher_parameters, counts.student_parameters
    if teacher is None or student is None:
        return Advice(
            ("T16",), "teacher.model", "fine", "any larger model may teach a smaller one",
            "the sizes of these two are not known here", DISTILLATION,
        )  # fmt: skip
    larger = teacher > student
    found = f"{teacher / 1e6:,.1f} M weights teach {student / 1e6:,.1f} M"
    return Advice(
        ("T16",),
        "teacher.model",
        "fine" if larger else "consider",
        found if larger else f"{found}; a larger teacher is advised",
        "a student takes over what a larger model can do; from its equal it has speed alone to gain",
        DISTILLATION,
    )


def _kind(recipe: Recipe, counts: Counts) -> Advice:
    share = counts.labelled / counts.prompts if counts.prompts else 0.0
    told = f"{100 * share:.0f}% of the prompts have an answer"
    if recipe.kind == "fine-tuning":
        better = share < 0.5
        text = f"{told}: a distillation would have a teacher answer the others" if better else f"{told}: fine-tuning"
        return Advice(
            ("T17",), "kind", "consider" if better else "fine", text,
            "distill where labels are missing and a teacher is good; fine-tune where even the teacher is bad, or the"
            " subject very narrow", DISTILLATION,
        )  # fmt: skip
    return Advice(
        ("T17",),
        "kind",
        "fine",
        f"{told}: a distillation; first see that the teacher answers well and the student does not yet",
        "a student that is as good already needs none, and a teacher that is bad has nothing to give: fine-tune then",
        DISTILLATION,
    )


def _logs() -> Advice:
    return Advice(
        ("T18",),
        "synthesis.use_responses",
        "fine",
        "the rows' own answers are learned: they must be the teacher's; of invocation logs only records whose modelId"
        " is the teacher's are taken",
        "answers of another model would be learned as if the teacher had given them",
        DISTILLATION,
    )


def _latency(counts: Counts) -> Advice:
    return Advice(
        ("T19",),
        "student.model",
        "fine",
        "the distilled model will be as fast, and cost as much, as its student untouched",
        "a distillation changes weights, not their number",
        DISTILLATION,
    )


def _examination(recipe: Recipe) -> Advice:
    how = {
        "distillation": "compare the student with its teacher, and with itself before",
        "fine-tuning": "measure what the task asks for, against the model before",
        "continued-pre-training": "compare the perplexity of held-out text before and after, and of general text; then"
        " measure a task",
    }[recipe.kind]
    return Advice(
        ("T20",), "evaluation", "fine", f"{how} (5-evaluation/report.json)",
        "each kind is good for something else", CUSTOMIZATION,
    )  # fmt: skip
