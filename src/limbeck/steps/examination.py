"""What is said of a job: its examination, and what the guides advise before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from limbeck import curation, intake, synthesis
from limbeck.advice import Outcome
from limbeck.advice import advise as advice_for
from limbeck.evaluation import compare as evaluation
from limbeck.evaluation.candidates import Candidate
from limbeck.models.loading import LoadedModel
from limbeck.recipe import Recipe
from limbeck.records import AnsweredExample, Example, GenerationSettings, Report
from limbeck.settings import Settings
from limbeck.steps.student import begun, trained, weights_digest
from limbeck.storage.workspace import Workspace, write_json
from limbeck.teachers.remote import RemoteTeacher

__all__ = ["advise", "compare"]


def compare(
    before: Sequence[Candidate],
    base: LoadedModel,
    student: LoadedModel,
    kept: Sequence[AnsweredExample],
    examples: Sequence[Example],
    recipe: Recipe,
    settings: Settings,
    work: Workspace,
    reckoned: Callable[[], list[str]] = list,
) -> Report:
    """Stage 5: the candidates of ``before``, the student untouched, and the student trained.

    ``reckoned`` tells what the job took, once everybody has been asked.
    """
    candidates = [
        *before,
        Candidate("student before", begun(base, recipe, examples, work)),
        Candidate("student after", trained(student, work)),
    ]
    inputs = {"weights": weights_digest(work), "candidates": [c.model.fingerprint for c in candidates]}
    asked = _asked(recipe, student, examples)
    too_long = _too_long(recipe.evaluation.examined(examples), student, asked.max_tokens)
    for remark in too_long:
        work.progress.say(f"evaluation: {remark}")
    return evaluation.compare(
        candidates,
        examples,
        kept,
        recipe.evaluation,
        asked,
        settings.answers,
        work,
        inputs,
        [*synthesis.remarks(work.folder, kept), *curation.remarks(work.folder), *too_long],
        reckoned,
        curation.cover(recipe.curation),
    )


def _asked(recipe: Recipe, student: LoadedModel, examples: Sequence[Example]) -> GenerationSettings:
    """How all are asked. After fine-tuning answers are at most twice as long as the longest that the rows bring.

    The untouched model ends none as the rows do: it would go on up to the limit, for every row.
    """
    asked = recipe.examining
    if recipe.kind != "fine-tuning" or recipe.evaluation.max_response_tokens is not None:
        return asked
    longest = max(len(student.renderer.response(example.label or "")) for example in examples)
    return replace(asked, max_tokens=min(asked.max_tokens, 2 * longest))


def _too_long(rows: Sequence[Example], student: LoadedModel, most: int) -> list[str]:
    """A sentence where the references of ``rows`` are longer than answers of ``most`` tokens can be; else nothing."""
    references = [len(student.renderer.response(row.label)) for row in rows if row.label is not None]
    if not (longer := sum(tokens > most for tokens in references)):
        return []
    return [
        f"{longer:,} of {len(rows):,} held-out answers have more than the {most:,} tokens that models may answer in, so"
        " none can give them; raise evaluation.max_response_tokens"
    ]


def advise(
    recipe: Recipe,
    student: LoadedModel,
    teacher: LoadedModel | RemoteTeacher | None,
    report: Report | None,
    work: Workspace,
) -> None:
    """What the guides say of the job, told before it runs and kept in its folder; what its figures add, after."""
    counts = replace(
        intake.read_counts(work.folder / "1-intake"),
        student_parameters=student.parameters,
        teacher_parameters=None if teacher is None else teacher.parameters,
    )
    advice = advice_for(recipe, counts, None if report is None else Outcome.of(report))
    write_json(work.folder / "advice.json", {"counts": asdict(counts), "advice": [asdict(one) for one in advice]})
    for one in advice[0 if report is None else len(advice_for(recipe, counts)) :]:
        if one.stance != "fine":
            work.progress.say(f"advice: {one.brief}")
