"""Stage 6: a student with its lineage and report in the registry, and the prompts its GGUF file is measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from limbeck import intake, registry
from limbeck.evaluation.table import table
from limbeck.models.loading import LoadedModel
from limbeck.recipe import Recipe
from limbeck.records import CustomModel, Example, Message, Prompt, Report, digest
from limbeck.settings import Settings
from limbeck.steps.student import weights_digest
from limbeck.storage.workspace import Workspace, read_json

__all__ = ["parity_prompts", "register"]

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
    systems = {example.prompt.system for example in examples if example.split == "train"}
    lineage = {
        "recipe": recipe.dump(),
        "system": systems.pop() if len(systems) == 1 else None,
        "taught_by": taught_by,
        "hashes": hashes,
        "parameters": student.parameters,
        "prices": student.source.prices.model_dump() if student.source.prices else None,
        "losses": read_json(work.folder / "4-training" / "losses.json"),
    }
    held_out = [example.prompt for example in examples if example.split == "held-out"] or _plain_prompts()
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
        [student.renderer.prompt(prompt) for prompt in held_out[:PARITY_PROMPTS]],
        settings,
        work,
        inputs,
    )


def parity_prompts(loaded: LoadedModel, rows: Path | None) -> list[Prompt]:
    """What a GGUF file of any model is measured on: ``rows``, what its own job held out, or plain questions."""
    intake_of_job = loaded.source.path.parent / "1-intake" / "examples.jsonl"
    if rows is not None:
        found = [example.prompt for example in intake.held_out_rows(rows, None)]
    elif loaded.source.fingerprint is not None and intake_of_job.exists():
        found = [e.prompt for e in intake.read_examples(intake_of_job) if e.split == "held-out"]
    else:
        found = _plain_prompts()
    return found[:PARITY_PROMPTS]


def _plain_prompts() -> list[Prompt]:
    return [Prompt((Message("user", text),)) for text in PLAIN_PROMPTS]
