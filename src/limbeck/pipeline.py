"""The river, stages 1 to 6 in order: the file to read first.

    intake -> synthesis -> curation -> training -> evaluation -> registry

Each line of `distill` is one durable step: it leaves a folder with a manifest, and is not done again if that is
there and was made from the same inputs. Stages do not know each other; what one needs of another is handed to it
here, and made ready in `steps`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from limbeck import curation, intake, registry, synthesis
from limbeck.evaluation import compare as evaluation
from limbeck.evaluation.candidates import Candidate
from limbeck.evaluation.metrics import FEWEST, token_f1
from limbeck.evaluation.reading import compare_reading
from limbeck.inference.engine import Engine
from limbeck.inference.export import HEADING, section
from limbeck.inference.export import export as write_export
from limbeck.inference.parity import Parity
from limbeck.models.catalog import find, system_of
from limbeck.models.importing import copy_layout, making
from limbeck.models.loading import LoadedModel, folder_of, load
from limbeck.models.today import as_of
from limbeck.recipe import Evaluation, Recipe
from limbeck.records import CustomModel, GenerationSettings, Quantization
from limbeck.settings import Settings
from limbeck.steps.examination import advise, compare
from limbeck.steps.job import check_data, check_examined, check_job, check_responses, check_watched
from limbeck.steps.lessons import answers_learned, check_rows, check_tokens, read, train
from limbeck.steps.registration import parity_prompts, register
from limbeck.steps.stored import framing_of
from limbeck.steps.student import begun, trained, weights_digest
from limbeck.steps.teacher import asking_of, chosen, opened, reckon, writing
from limbeck.steps.together import check as check_together
from limbeck.steps.together import help_along, working_together
from limbeck.storage.objects import open_objects
from limbeck.storage.workspace import Workspace, write_json
from limbeck.teachers.known import addressed
from limbeck.teachers.local import LocalTeacher
from limbeck.training import ALONE, Processes, joined

__all__ = ["distill", "evaluate", "export", "fine_tune", "load_engine", "pretrain", "run"]


def run(recipe: Recipe, work: Workspace, settings: Settings, resume: bool = False) -> CustomModel:
    """Do a job in ``work``. A folder that is there already is gone on with if ``resume``, else refused.

    Raises `Conflict` for a name that is taken or a recipe that is not the one the job began with, `NotYet` for a
    kind that cannot be run, `Stopped` when asked to stop, and what the stages raise. Where a launcher started several
    processes with it, the first does the job, and the others help it train.
    """
    with joined() as processes:
        if not processes.first:
            return help_along(work, settings, processes)
        with working_together(processes):
            return _begin(recipe, work, settings, resume, processes)


def _begin(recipe: Recipe, work: Workspace, settings: Settings, resume: bool, processes: Processes) -> CustomModel:
    asked, recipe = recipe, addressed(recipe, settings)
    recipe.check_kind()
    check_together(recipe, processes, settings)
    check_job(asked, work, resume)
    registry.check_name(recipe.name, work.folder, settings)
    for name in recipe.models:
        find(name, settings)
    if recipe.source.logs is None:
        check_data(recipe)  # before there is a folder
    torch.set_num_threads(settings.threads)
    with work.locked():
        check_job(asked, work, resume)  # whoever had the lock may have begun it meanwhile
        if recipe.source.logs is not None:
            place, objects = work.folder / "source", open_objects(settings)
            recipe = intake.bring_logs(recipe, place, objects, work.progress, work.stop, settings.threads)
            check_data(recipe)
        write_json(work.folder / "recipe.json", asked.dump())
        with as_of(work.began):
            return KINDS[recipe.kind](recipe, work, settings, processes)


def distill(recipe: Recipe, work: Workspace, settings: Settings, processes: Processes = ALONE) -> CustomModel:
    """Prompts in, a registered student out, taught by ``recipe.teacher`` or the best of several tried."""
    framing = framing_of(recipe)
    examples = intake.collect(recipe, work)
    check_examined(examples)
    check_watched(examples, recipe)
    check_responses(examples, recipe, work)
    named = chosen(recipe, examples, framing, settings, work)
    teacher = opened(named, recipe, settings, work)
    taught_by = teacher.loaded if isinstance(teacher, LocalTeacher) else teacher
    known = taught_by if isinstance(taught_by, LoadedModel) else None
    base = known if known and not recipe.student.model else load(recipe.student.model or named.model, settings)
    student = begun(base, recipe, examples, work)
    check_rows(student, examples, recipe)
    check_tokens(teacher, student, examples, framing, recipe)
    advise(recipe, student, taught_by, None, work)
    session = synthesis.Session(teacher, recipe.asking, framing, settings.answers, work)
    asking = asking_of(recipe, teacher, framing, settings, work)

    examples = synthesis.augment(examples, writing(recipe, session, settings), recipe.synthesis)
    if recipe.synthesis.use_responses:
        answered = synthesis.labels(examples)
    else:
        answered = synthesis.answer(examples, session, recipe.synthesis, token_f1)
    reckoned = partial(reckon, answered, examples, named, recipe, settings, work)
    reckoned()
    kept = curation.sift(answered, examples, work, recipe.curation, asking)
    if isinstance(teacher, LocalTeacher) and recipe.objective.signalled and answers_learned(recipe) == "all":
        kept = synthesis.read_earlier(kept, session)
    tutor = None if recipe.synthesis.use_responses else teacher
    student = train(kept, student, tutor, framing, recipe, work, settings, processes)
    examined = Candidate("teacher", taught_by, framing.examined(examples, recipe.evaluation.teacher_sees))
    report = compare([examined], base, student, kept, examples, recipe, settings, work, reckoned)
    advise(recipe, student, taught_by, report, work)
    hashes = {"teacher": teacher.fingerprint}
    return register(student, teacher.id, base.id, hashes, report, examples, recipe, settings, work)


def fine_tune(recipe: Recipe, work: Workspace, settings: Settings, processes: Processes = ALONE) -> CustomModel:
    """Labelled pairs in, a registered model out that has learned them."""
    assert recipe.student.model is not None, "the recipe's own check sees to this"
    base = load(recipe.student.model, settings)
    examples = intake.collect(recipe, work)
    check_examined(examples)
    check_watched(examples, recipe)
    student = begun(base, recipe, examples, work)
    check_rows(student, examples, recipe)

    advise(recipe, student, None, None, work)
    asking = asking_of(recipe, None, synthesis.Framing(), settings, work)
    kept = curation.sift(synthesis.labels(examples), examples, work, recipe.curation, asking)
    student = train(kept, student, None, synthesis.Framing(), recipe, work, settings, processes)
    report = compare([], base, student, kept, examples, recipe, settings, work)
    advise(recipe, student, None, report, work)
    return register(student, base.id, base.id, {}, report, examples, recipe, settings, work)


def pretrain(recipe: Recipe, work: Workspace, settings: Settings, processes: Processes = ALONE) -> CustomModel:
    """Plain text in, a registered model out that has read it, with what it read better and what it forgot."""
    assert recipe.student.model is not None, "the recipe's own check sees to this"
    base = load(recipe.student.model, settings)
    documents = intake.collect_documents(recipe, work)
    student = begun(base, recipe, documents, work)

    advise(recipe, student, None, None, work)
    read(documents, student, recipe, work, settings, processes)
    before, after = begun(base, recipe, documents, work), trained(student, work)
    plan, inputs = recipe.evaluation, {"weights": weights_digest(work), "student": before.fingerprint}
    report = compare_reading(before, after, documents, plan, recipe.training.pack_tokens, work, inputs)
    return register(student, base.id, base.id, {}, report, [], recipe, settings, work)


KINDS = {"distillation": distill, "fine-tuning": fine_tune, "continued-pre-training": pretrain}


def evaluate(
    model: str,
    rows: Path,
    plan: Evaluation,
    answers: GenerationSettings,
    work: Workspace,
    settings: Settings,
    system: str | None = None,
    to: Path | None = None,
) -> dict[str, Any]:
    """Scores and latency of a model on a file of labelled rows, what became of these; its answers go ``to`` a file."""
    held_out = intake.held_out_rows(rows, system)
    for line in held_out.lines:
        work.progress.say(line)
    measured = evaluation.examine(load(model, settings), held_out.examples, plan, answers, settings.answers, work, to)
    few = f"{measured['rows']} rows tell nothing from chance; give {FEWEST} at least, better a hundred"
    remarks = [few] if measured["rows"] < FEWEST else []
    return {**measured, "intake": {**held_out.counts, "faults": held_out.faults}, "remarks": remarks}


def export(model: str, to: Path, quantization: Quantization, rows: Path | None, settings: Settings) -> Parity:
    """A copy of any model in the folder ``to``, whole or not at all, with a GGUF file, its Modelfile and parity.

    The file is measured on the prompts of ``rows``; without it on those the model's own job held out, or on
    `PLAIN_PROMPTS`. Raises `NotYet` for a model that GGUF cannot hold, `Conflict` if ``to`` is not empty.
    """
    with making(to) as folder:
        loaded = load(model, settings)
        prompts = parity_prompts(loaded, rows)
        copy_layout(folder_of(loaded.source, settings), folder)
        system = system_of(model, settings)
        parity = write_export(Engine(loaded), folder, quantization, prompts, settings.threads, system)
        card = folder / "README.md"
        if card.exists():
            kept = card.read_text(encoding="utf-8").partition(HEADING)[0]
            card.write_text(kept + section(parity), encoding="utf-8")
    return parity


def load_engine(model: str, settings: Settings) -> Engine:
    """A model ready to answer."""
    return Engine(load(model, settings))
