"""The student before its first step, and after its last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from limbeck.models import adapters
from limbeck.models.loading import LoadedModel
from limbeck.models.students import begin, renamed, within
from limbeck.models.trimming import check_trimmable, trim
from limbeck.recipe import Recipe, Shrink
from limbeck.records import Document, Example, digest
from limbeck.storage.workspace import MANIFEST, Workspace, read_json, write_json
from limbeck.training import TrainingExample, check_architecture, check_frozen, rounds

__all__ = ["begun", "trained", "trimmed", "weights_digest"]


def begun(
    base: LoadedModel, recipe: Recipe, rows: Sequence[Example] | Sequence[Document], work: Workspace
) -> LoadedModel:
    """The student as it is before its first step. What a budget chose for the same rows is in `cut.json`.

    What is cut is chosen by the rows that were given: prompts that are made from them later change nothing.

    Raises `InvalidInput` for one that cannot be trained as ``recipe`` has it.
    """
    check_architecture(base.model)
    given = (row for row in rows if not (isinstance(row, Example) and row.origin == "augmented"))
    learned = [row.prompt if isinstance(row, Example) else row.as_prompt for row in given if row.split == "train"]
    shrink, chosen = recipe.student.shrink, work.folder / "cut.json"
    if shrink is not None and shrink.budget:
        wish = {"wish": shrink.model_dump(mode="json"), "base": base.fingerprint}
        kept = read_json(chosen) if chosen.exists() else {}
        measured_on = digest([prompt.id for prompt in learned])
        if not wish.items() <= kept.items() or kept.get("rows", measured_on) != measured_on:
            candidates = within(base, shrink, learned)
            for one in candidates:
                work.progress.say(f"shrink: {one}")
            told = [{**asdict(one), "shrink": one.shrink.model_dump(mode="json")} for one in candidates]
            kept = {**wish, "rows": measured_on, "chosen": told[0]["shrink"], "candidates": told}
            write_json(chosen, kept)
        shrink = Shrink.model_validate(kept["chosen"])
    student = begin(base, shrink, recipe.name, learned)
    check_frozen(student.model, recipe.training)
    rounds(recipe.training, student.model.device)
    if recipe.student.adapter is not None:
        adapters.check(student.model, recipe.student.adapter)
    if shrink is not None and shrink.vocabulary is not None:
        check_trimmable(student.renderer.tokenizer)
    return student


def trimmed(
    student: LoadedModel, lessons: Iterable[TrainingExample], recipe: Recipe, work: Workspace
) -> tuple[LoadedModel, Mapping[int, int] | None]:
    """The student with the tokens its lessons have, and their new ids; as it is, where the recipe trims nothing."""
    shrink = recipe.student.shrink
    if shrink is None or shrink.vocabulary is None:
        return student, None
    smaller, place = trim(student, (one.tokens.ids for one in lessons), shrink.vocabulary)
    had, has = (len(one.renderer.tokenizer.get_vocab()) for one in (student, smaller))
    work.progress.say(
        f"vocabulary: {has:,} of {had:,} tokens kept, {smaller.parameters:,} of {student.parameters:,} weights"
    )
    return smaller, place


def trained(student: LoadedModel, work: Workspace) -> LoadedModel:
    """The student with its new weights, under a fingerprint of its own."""
    return renamed(student, digest([student.fingerprint, weights_digest(work)]))


def weights_digest(work: Workspace) -> str:
    """SHA-256 of the trained weights, as the stage's manifest has it."""
    return str(read_json(work.folder / "4-training" / MANIFEST)["files"]["weights.safetensors"]["sha256"])
