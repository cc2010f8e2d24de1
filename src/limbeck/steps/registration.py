"""Stage 6: a student with its lineage and report in the registry, and the prompts its GGUF file is measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from limbeck import curation, intake, registry
from limbeck.evaluation.table import table
from limbeck.models.loading import LoadedModel
from limbeck.recipe import Recipe
from limbeck.records import CustomModel, Example, Message, Prompt, Report, digest
from limbeck.settings import Settings
from limbeck.steps.student import weights_digest
from limbeck.storage.workspace import Workspace, read_json

__all__ = ["parity_prompts", "recipe_shown", "register", "system_learned"]

PARITY_PROMPTS = 8
"""The most prompts a GGUF file is measured on: some 250 tokens, seconds on a small model."""
PLAIN_PROMPTS = (
    "What is the capital of France?",
    "Name three colors.",
    "Write one sentence about the sea.",
    "What is 17 plus 25?",
    "Translate to Spanish: good morning.",
    "Why is the sky blue?",
)
"""Asked of a model of which no better prompts are known."""


def register(
    student: LoadedModel,
    taught_by: str,
    base: str,
    hashes: Mapping[str, str],
    report: Report,
    examples: Sequence[Example],
    recipe: Recipe,
    settings: Settings,
    work: Workspace,
) -> CustomModel:
    """Stage 6. A GGUF file is measured on held-out prompts, or, where a job has none, on plain ones."""
    hashes = {
        "examples": work.digest_of("1-intake"),
        **({"answers kept": work.digest_of("3-curation")} if recipe.kind != "continued-pre-training" else {}),
        "weights": weights_digest(work),
        **hashes,
    }
    lineage = {
        "recipe": recipe_shown(recipe),
        "system": system_learned(examples, recipe),
        "taught_by": taught_by,
        "hashes": hashes,
        "parameters": student.parameters,
        "prices": student.source.prices.model_dump() if student.source.prices else None,
        "losses": read_json(work.folder / "4-training" / "losses.json"),
    }
    inputs = {"hashes": hashes, "report": digest(report.to_json()), "export": recipe.export.model_dump(mode="json")}
    return registry.register(
        recipe.name,
        recipe.kind,
        base,
        student,
        lineage,
        report,
        table(report),
        recipe.export,
        _held_out_or_plain(student, examples),
        settings,
        work,
        inputs,
    )


def system_learned(examples: Sequence[Example], recipe: Recipe) -> str | None:
    """The system prompt under which all was learned, as it was learned: what is private is masked where that is asked.

    None where there was none, or several.
    """
    systems = {example.prompt.system for example in examples if example.split == "train"}
    learned: str | None = curation.cover(recipe.curation)(systems.pop()) if len(systems) == 1 else None
    return learned


def recipe_shown(recipe: Recipe) -> dict[str, Any]:
    """The recipe as a model's lineage and card show it: what is private in its texts is masked where that is asked."""
    values = recipe.dump()
    texts = {"system": values["source"]["system"], "synthesis": values["synthesis"], "curation": values["curation"]}
    covered = curation.cover(recipe.curation)(texts)
    source = {**values["source"], "system": covered.pop("system")}
    return {**values, "source": source, **covered}


def parity_prompts(loaded: LoadedModel, rows: Path | None) -> list[list[int]]:
    """What a GGUF file of any model is measured on, as tokens: of ``rows``, of what its own job held out, or plain."""
    intake_of_job = loaded.source.path.parent / "1-intake" / "examples.jsonl"
    if rows is not None:
        return _fitting(loaded, intake.held_out_rows(rows, None).examples)
    known = loaded.source.fingerprint is not None and intake_of_job.exists()
    return _held_out_or_plain(loaded, intake.read_examples(intake_of_job) if known else ())


def _held_out_or_plain(loaded: LoadedModel, examples: Sequence[Example]) -> list[list[int]]:
    plain = [Example(Prompt((Message("user", text),)), None, "held-out", "", 0) for text in PLAIN_PROMPTS]
    return _fitting(loaded, examples) or _fitting(loaded, plain)


def _fitting(loaded: LoadedModel, examples: Sequence[Example]) -> list[list[int]]:
    """The first held-out prompts of ``examples`` after which the model has room for an answer."""
    tokens = (loaded.renderer.prompt(one.prompt) for one in examples if one.split == "held-out")
    return list(islice((one for one in tokens if len(one) < loaded.context_tokens), PARITY_PROMPTS))
