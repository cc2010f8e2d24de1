"""The river, stages 1 to 6 in order: the file to read first.

    intake -> synthesis -> curation -> training -> evaluation -> registry

Each line of `distill` is one durable step: it leaves a folder with a manifest, and is not done again if that is
there and was made from the same inputs. Stages do not know each other; what one needs of another is handed to it
here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from limbeck import curation, intake, registry, synthesis, teachers, training
from limbeck.advice import Outcome, advise
from limbeck.errors import Conflict, InvalidInput
from limbeck.evaluation import compare as evaluation
from limbeck.evaluation.candidates import Candidate
from limbeck.evaluation.metrics import token_f1
from limbeck.evaluation.reading import compare_reading
from limbeck.evaluation.table import table
from limbeck.inference.engine import Engine
from limbeck.inference.export import HEADING, section
from limbeck.inference.export import export as write_export
from limbeck.inference.parity import Parity
from limbeck.models import adapters
from limbeck.models.catalog import find
from limbeck.models.importing import copy_layout, making
from limbeck.models.loading import LoadedModel, folder_of, load
from limbeck.models.packing import Tokens
from limbeck.models.students import begin, renamed, within
from limbeck.recipe import Evaluation, Objective, Recipe, Shrink, Teacher
from limbeck.records import (
    Answer,
    AnsweredExample,
    CustomModel,
    Document,
    Example,
    GenerationSettings,
    Message,
    Prompt,
    Quantization,
    Question,
    Report,
    digest,
)
from limbeck.settings import Settings
from limbeck.storage.objects import open_objects
from limbeck.storage.workspace import MANIFEST, Workspace, read_json, write_json
from limbeck.teachers.estimate import estimate, prices_of
from limbeck.teachers.finding import llama_teacher, remote_teacher
from limbeck.teachers.local import LocalTeacher
from limbeck.teachers.reckoning import Reckoning
from limbeck.teachers.remote import RemoteTeacher

__all__ = ["distill", "evaluate", "export", "fine_tune", "load_engine", "pretrain", "run"]

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


def run(recipe: Recipe, work: Workspace, settings: Settings, resume: bool = False) -> CustomModel:
    """Do a job in ``work``. A folder that is there already is gone on with if ``resume``, else refused.

    Raises `Conflict` for a name that is taken or a recipe that is not the one the job began with, `NotYet` for a
    kind that cannot be run, `Stopped` when asked to stop, and what the stages raise.
    """
    asked = recipe
    recipe.check_kind()
    _check_job(recipe, work, resume)
    registry.check_name(recipe.name, work.folder, settings)
    for name in recipe.models:
        find(name, settings)
    objects = open_objects(settings) if recipe.source.logs else None
    recipe = intake.bring_logs(recipe, work.folder / "source", objects, work.progress, work.stop, settings.threads)
    intake.check(recipe)
    torch.set_num_threads(settings.threads)
    with work.locked():
        write_json(work.folder / "recipe.json", asked.dump())
        return KINDS[recipe.kind](recipe, work, settings)


def distill(recipe: Recipe, work: Workspace, settings: Settings) -> CustomModel:
    """Prompts in, a registered student out, taught by ``recipe.teacher`` or the best of several tried."""
    framing = _framing(recipe)
    examples = intake.collect(recipe, work)
    chosen = _teacher(recipe, examples, framing, settings, work)
    teacher = _opened(chosen, recipe, settings, work)
    taught_by = teacher.loaded if isinstance(teacher, LocalTeacher) else teacher
    known = taught_by if isinstance(taught_by, LoadedModel) else None
    base = known if known and not recipe.student.model else load(recipe.student.model or chosen.model, settings)
    student = _begun(base, recipe, examples, work)
    _check_tokens(teacher, student, recipe)
    _advise(recipe, student, taught_by, None, work)
    session = synthesis.Session(teacher, recipe.asking, framing, settings.answers, work)

    examples = synthesis.augment(examples, _writing(recipe, session, settings), recipe.synthesis)
    if recipe.synthesis.use_responses:
        answered = synthesis.labels(examples)
    else:
        answered = synthesis.answer(examples, session, recipe.synthesis, token_f1)
        _reckon(answered, examples, chosen, teacher, recipe, settings, work)
    kept = curation.sift(answered, examples, work, recipe.curation, _asking(recipe, teacher, framing, settings, work))
    if isinstance(teacher, LocalTeacher) and recipe.objective.signalled and _answers(recipe) == "all":
        kept = synthesis.read_earlier(kept, session)
    _train(kept, student, None if recipe.synthesis.use_responses else teacher, framing, recipe, work)
    examined = Candidate("teacher", taught_by, framing.examined(examples, recipe.evaluation.teacher_sees))
    report = _compare([examined], base, student, kept, examples, recipe, settings, work)
    if not recipe.synthesis.use_responses:
        _reckon(answered, examples, chosen, teacher, recipe, settings, work)
    _advise(recipe, student, taught_by, report, work)
    hashes = {"teacher": teacher.fingerprint}
    return _register(student, teacher.id, base.id, hashes, report, examples, recipe, settings, work)


def fine_tune(recipe: Recipe, work: Workspace, settings: Settings) -> CustomModel:
    """Labelled pairs in, a registered model out that has learned them."""
    assert recipe.student.model is not None, "the recipe's own check sees to this"
    base = load(recipe.student.model, settings)
    examples = intake.collect(recipe, work)
    student = _begun(base, recipe, examples, work)

    _advise(recipe, student, None, None, work)
    asking = _asking(recipe, None, synthesis.Framing(), settings, work)
    kept = curation.sift(synthesis.labels(examples), examples, work, recipe.curation, asking)
    _train(kept, student, None, synthesis.Framing(), recipe, work)
    report = _compare([], base, student, kept, examples, recipe, settings, work)
    _advise(recipe, student, None, report, work)
    return _register(student, base.id, base.id, {}, report, examples, recipe, settings, work)


def pretrain(recipe: Recipe, work: Workspace, settings: Settings) -> CustomModel:
    """Plain text in, a registered model out that has read it, with what it read better and what it forgot."""
    assert recipe.student.model is not None, "the recipe's own check sees to this"
    base = load(recipe.student.model, settings)
    documents = intake.collect_documents(recipe, work)
    student = _begun(base, recipe, documents, work)

    _advise(recipe, student, None, None, work)
    _read(documents, student, recipe, work)
    before, after = _begun(base, recipe, documents, work), _trained(student, work)
    plan, inputs = recipe.evaluation, {"weights": _weights_digest(work), "student": before.fingerprint}
    report = compare_reading(before, after, documents, plan, recipe.training.pack_tokens, work, inputs)
    return _register(student, base.id, base.id, {}, report, [], recipe, settings, work)


KINDS = {"distillation": distill, "fine-tuning": fine_tune, "continued-pre-training": pretrain}


def evaluate(
    model: str,
    rows: Path,
    plan: Evaluation,
    answers: GenerationSettings,
    work: Workspace,
    settings: Settings,
    system: str | None = None,
) -> dict[str, Any]:
    """Scores and latency of any model on a file of labelled rows."""
    return evaluation.examine(
        load(model, settings), intake.held_out_rows(rows, system), plan, answers, settings.answers, work
    )


def export(model: str, to: Path, quantization: Quantization, rows: Path | None, settings: Settings) -> Parity:
    """A copy of any model in the folder ``to``, whole or not at all, with a GGUF file, its Modelfile and parity.

    The file is measured on the prompts of ``rows``; without it on those the model's own job held out, or on
    `PLAIN_PROMPTS`. Raises `NotYet` for a model that GGUF cannot hold, `Conflict` if ``to`` is not empty.
    """
    with making(to) as folder:
        loaded = load(model, settings)
        tokens = [loaded.renderer.prompt(prompt) for prompt in _parity_prompts(loaded, rows)]
        copy_layout(folder_of(loaded.source, settings), folder)
        parity = write_export(Engine(loaded), folder, quantization, tokens, settings.threads)
        card = folder / "README.md"
        if card.exists():
            kept = card.read_text(encoding="utf-8").partition(HEADING)[0]
            card.write_text(kept + section(parity), encoding="utf-8")
    return parity


def _parity_prompts(loaded: LoadedModel, rows: Path | None) -> list[Prompt]:
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


def load_engine(model: str, settings: Settings) -> Engine:
    """A model ready to answer."""
    return Engine(load(model, settings))


def _teacher(
    recipe: Recipe, examples: Sequence[Example], framing: synthesis.Framing, settings: Settings, work: Workspace
) -> Teacher:
    """The teacher that the recipe names, or the best of those it wants tried."""
    if recipe.trial is None:
        assert recipe.teacher is not None, "the recipe's own check sees to this"
        return recipe.teacher

    def opened(teacher: Teacher, framing: synthesis.Framing = framing) -> synthesis.Session:
        answering = _opened(teacher, recipe, settings, work)
        return synthesis.Session(answering, recipe.asking, framing, settings.answers, work)

    candidates = {teacher.model: teacher for teacher in recipe.trial.teachers}
    sessions = {name: partial(opened, teacher) for name, teacher in candidates.items()}
    judge = partial(opened, recipe.trial.judge, synthesis.Framing()) if recipe.trial.judge else None
    plan = (recipe.trial.rows, recipe.synthesis.seed, token_f1, work)
    return candidates[synthesis.choose_teacher(sessions, judge, examples, *plan)]


def _writing(recipe: Recipe, session: synthesis.Session, settings: Settings) -> synthesis.Session:
    """Who is asked for similar prompts: the teacher, or the writer that the recipe names."""
    plan = recipe.synthesis.augment
    if plan is None or plan.writer is None:
        return session
    return replace(session, teacher=_opened(plan.writer, recipe, settings, session.work))


def _framing(recipe: Recipe) -> synthesis.Framing:
    """What the teacher sees besides the prompt."""
    plan = recipe.synthesis
    golden = synthesis.Golden(intake.golden_pairs(recipe.source), plan.demonstrations, plan.golden_choice)
    return synthesis.Framing(golden, plan.teacher_system)


def _reckon(
    answered: Sequence[AnsweredExample],
    examples: Sequence[Example],
    chosen: Teacher,
    teacher: LocalTeacher | RemoteTeacher,
    recipe: Recipe,
    settings: Settings,
    work: Workspace,
) -> None:
    """Write what the teacher's answers took beside what was estimated; the report tells it too."""
    golden = intake.golden_pairs(recipe.source)
    foreseen = estimate(recipe, examples, golden, settings, chosen)
    found = Reckoning.of([one.answer for one in answered], foreseen, prices_of(chosen, settings))
    purse = teacher.purse if isinstance(teacher, RemoteTeacher) else None
    write_json(work.folder / "2-synthesis" / "cost.json", found.to_json(purse))


def _advise(
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
    advice = advise(recipe, counts, None if report is None else Outcome.of(report))
    write_json(work.folder / "advice.json", {"counts": asdict(counts), "advice": [asdict(one) for one in advice]})
    for one in advice[0 if report is None else len(advise(recipe, counts)) :]:
        if one.stance != "fine":
            work.progress.say(f"advice: {one.brief}")


def _asking(
    recipe: Recipe, teacher: teachers.Teacher | None, framing: synthesis.Framing, settings: Settings, work: Workspace
) -> curation.Asking:
    """Whom curation may ask: the teacher as the synthesis asks it, and a judge; each question is paid for once."""

    def put(model: teachers.Teacher, questions: Sequence[Question], how: GenerationSettings, name: str) -> list[Answer]:
        return teachers.ask(model, questions, how, settings.answers, work.progress, work.stop, name)

    def answers(pairs: Sequence[tuple[Example, str | None]], how: GenerationSettings, name: str) -> list[Answer]:
        assert teacher is not None, "handed in only where there is one"
        return put(teacher, [framing.question(example, text) for example, text in pairs], how, name)

    def judged(questions: Sequence[Question], how: GenerationSettings, name: str) -> list[Answer]:
        plan = recipe.curation.judge
        judge = LocalTeacher(load(plan.model, settings)) if plan is not None and plan.model is not None else teacher
        assert judge is not None, "the recipe's own check sees to this"
        return put(judge, questions, how, name)

    return curation.Asking(recipe.asking, None if teacher is None else answers, judged)


def _opened(teacher: Teacher, recipe: Recipe, settings: Settings, work: Workspace) -> LocalTeacher | RemoteTeacher:
    """A teacher ready to answer, in this process or over the network."""
    if teacher.remote:
        return remote_teacher(teacher, recipe.student.model, settings, work.folder, work.progress.say)
    if teacher.via == "llama.cpp":
        return llama_teacher(teacher, settings, work.progress.say)
    return LocalTeacher(load(teacher.model, settings))


def _check_tokens(teacher: LocalTeacher | RemoteTeacher, student: LoadedModel, recipe: Recipe) -> None:
    """Refuse, before anything is paid for, an objective that the two models do not bear."""
    if isinstance(teacher, LocalTeacher) or recipe.auto:
        _choose(recipe, student, None if recipe.synthesis.use_responses else teacher)
        return
    if recipe.objective.hidden is not None:
        raise InvalidInput(
            f"training.objective.hidden: the hidden states of {teacher.id} cannot be read, since it is not in this"
            " process; drop it, or name a teacher whose weights are here"
        )
    if not recipe.objective.signalled:
        return
    objective = next(iter(recipe.objective.signalled))
    if recipe.objective.on_policy is not None:
        raise InvalidInput(
            f"training.objective.on_policy: {teacher.id} is not in this process to read what the student writes; use"
            f" training.objective: {{{objective}: 1}}, which learns from its own answers"
        )
    if recipe.objective.temperature != 1.0:
        raise InvalidInput(
            f"training.objective.temperature: {teacher.id} tells its likeliest tokens alone, which cannot be softened;"
            f" use training.objective: {{{objective}: 1}}, or {{cross_entropy: 1}}"
        )
    if teacher.renderer is None or not training.same_tokens(student.renderer, teacher.renderer):
        raise InvalidInput(
            f"training.objective.{objective}: the tokens of {teacher.id} are not known to be the student's, so its"
            " distributions cannot be learned; use training.objective: {cross_entropy: 1}, or name the model whose"
            " tokenizer it has in teacher.tokenizer"
        )


def _choose(
    recipe: Recipe, student: LoadedModel, teacher: LocalTeacher | RemoteTeacher | None, distributions: bool = True
) -> training.Choice:
    """The objective, if the two models bear it; asked before anything is paid for, and again of what came."""
    tutor = None if teacher is None else teacher.renderer
    pair = training.pair_of(student.renderer, tutor, distributions, reads=isinstance(teacher, LocalTeacher))
    return training.choose(recipe.objective, recipe.auto, pair)


def _train(
    kept: Sequence[AnsweredExample],
    student: LoadedModel,
    teacher: LocalTeacher | RemoteTeacher | None,
    framing: synthesis.Framing,
    recipe: Recipe,
    work: Workspace,
) -> None:
    """Stage 4: leaves the trained weights in the folder and in ``student``. ``teacher`` wrote the answers' tokens."""
    known = sum(one.answer.soft_labels is not None for one in kept)
    choice = _choose(recipe, student, teacher, 2 * known >= len(kept))
    objective, tutor = choice.objective, None if teacher is None else teacher.renderer
    if choice.reason:
        work.progress.say(choice.reason)
    soft = bool(objective.signalled)
    if soft and tutor is not None:
        kept = training.with_distributions(kept, work.progress)
    crossing = None
    if soft and tutor is not None and not choice.same_tokens:
        crossing = training.Crossing(tutor, student.renderer, by_rank=not objective.divergences)

    def learned(split: str, file: str | None = None) -> list[AnsweredExample]:
        chosen = [one for one in kept if one.example.split == split and file in (None, one.example.file)]
        if split == "train" and recipe.training.copies == "learned":
            return [one for one in chosen for _ in range(one.example.copies)]
        return chosen

    def prepared(split: str, file: str | None = None) -> list[training.TrainingExample]:
        return training.prepare(
            learned(split, file), student.renderer, student.context_tokens, tutor, soft, _answers(recipe), crossing
        )

    files: list[str | None] = [path.name for path in recipe.source.validation] or [None]
    train, validation = prepared("train"), [prepared("validation", file) for file in files]
    if crossing is not None:
        carried = [one.soft_labels for one in train if one.soft_labels is not None]
        work.progress.say(training.coverage(carried, by_rank=not objective.divergences))
    made_from = {
        "kept": work.digest_of("3-curation"),
        "signals": work.digest_of("2-synthesis") if soft else None,
        # A teacher that is asked while the student learns is asked with these.
        "framing": framing.told if objective.on_policy or objective.hidden else None,
    }
    sampling = alignment = None
    if objective.on_policy and isinstance(teacher, LocalTeacher):
        sampling = _sampling(learned("train"), student, teacher, framing, recipe)
    if objective.hidden and isinstance(teacher, LocalTeacher):
        prompts = [teacher.renderer.prompt(framing.question(one.example).conversation) for one in learned("train")]
        read_as = [
            Tokens((*prompt, *one.tokens.response), len(prompt)) for prompt, one in zip(prompts, train, strict=True)
        ]
        alignment = training.Alignment(objective.hidden, teacher.engine.model, read_as, recipe.training.seed)
    _learn(train, validation, student, objective, made_from, recipe, work, sampling, alignment)


def _answers(recipe: Recipe) -> Literal["all", "last"]:
    """Which answers of a conversation are learned. A teacher that is there while the student learns reads last ones."""
    return "last" if recipe.objective.on_policy or recipe.objective.hidden else recipe.training.answers


def _read(documents: Sequence[Document], student: LoadedModel, recipe: Recipe, work: Workspace) -> None:
    """Stage 4 of continued pre-training."""
    length = min(student.context_tokens, recipe.training.pack_tokens)
    counted = recipe.training.copies == "learned"

    def prepared(split: str, file: str | None = None) -> list[training.TrainingExample]:
        chosen = [one for one in documents if one.split == split and file in (None, one.file)]
        texts = [one.text for one in chosen for _ in range(one.copies if counted and split == "train" else 1)]
        return training.prepare_text(texts, student.renderer, length)

    files: list[str | None] = [path.name for path in recipe.source.validation] or [None]
    validation = [prepared("validation", file) for file in files]
    made_from = {"documents": work.digest_of("1-intake")}
    _learn(prepared("train"), validation, student, recipe.objective, made_from, recipe, work)


def _learn(
    train: Sequence[training.TrainingExample],
    validation: Sequence[Sequence[training.TrainingExample]],
    student: LoadedModel,
    objective: Objective,
    made_from: Mapping[str, Any],
    recipe: Recipe,
    work: Workspace,
    sampling: training.Sampling | None = None,
    alignment: training.Alignment | None = None,
) -> None:
    """The loop itself, as a durable step."""
    inputs = {
        **made_from,
        "student": student.fingerprint,
        "objective": objective.model_dump(mode="json"),
        "training": recipe.training.model_dump(mode="json", exclude={"checkpoint_seconds"}),
        "threads": torch.get_num_threads(),
    }

    adapter = recipe.student.adapter
    if adapter is not None:
        inputs["adapter"] = adapter.model_dump(mode="json")
        adapters.attach(student.model, adapter, recipe.training.seed)

    def make(folder: Path) -> None:
        losses = training.train(
            student.model,
            train,
            validation,
            objective,
            recipe.training,
            folder,
            work.progress,
            work.stop,
            sampling,
            alignment,
        )
        if adapter is not None and adapter.keep:
            adapters.save(student.model, str(student.source.path), folder / "adapter")
        write_json(folder / "losses.json", losses)

    folder = work.step("4-training", inputs, make)
    training.load_trained(student.model, folder)
    if adapter is not None:
        adapters.merge(student.model)


def _sampling(
    learned: Sequence[AnsweredExample],
    student: LoadedModel,
    teacher: LocalTeacher,
    framing: synthesis.Framing,
    recipe: Recipe,
) -> training.Sampling:
    """How the student's own batches come about: it sees a prompt as it always will, the teacher as in the synthesis."""
    plan = recipe.objective.on_policy
    assert plan is not None, "called where there is one"
    prompts = [
        (
            student.renderer.prompt(one.example.prompt),
            teacher.renderer.prompt(framing.question(one.example).conversation),
        )
        for one in learned
    ]
    longest = plan.max_response_tokens or recipe.synthesis.max_response_tokens
    return training.Sampling(student, teacher.engine.score, prompts, plan, longest, recipe.training.seed)


def _compare(
    before: Sequence[Candidate],
    base: LoadedModel,
    student: LoadedModel,
    kept: Sequence[AnsweredExample],
    examples: Sequence[Example],
    recipe: Recipe,
    settings: Settings,
    work: Workspace,
) -> Report:
    """Stage 5: the candidates of ``before``, the student untouched, and the student trained."""
    candidates = [
        *before,
        Candidate("student before", _begun(base, recipe, examples, work)),
        Candidate("student after", _trained(student, work)),
    ]
    inputs = {"weights": _weights_digest(work), "candidates": [c.model.fingerprint for c in candidates]}
    return evaluation.compare(
        candidates,
        examples,
        kept,
        recipe.evaluation,
        recipe.examining,
        settings.answers,
        work,
        inputs,
        [*synthesis.remarks(work.folder, kept), *curation.remarks(work.folder)],
    )


def _begun(
    base: LoadedModel, recipe: Recipe, rows: Sequence[Example] | Sequence[Document], work: Workspace
) -> LoadedModel:
    """The student as it is before its first step. What a budget chose is in `cut.json`: it is not measured again."""
    learned = [row.prompt if isinstance(row, Example) else row.as_prompt for row in rows if row.split == "train"]
    shrink, chosen = recipe.student.shrink, work.folder / "cut.json"
    if shrink is not None and shrink.budget:
        if not chosen.exists():
            candidates = within(base, shrink, learned)
            for one in candidates:
                work.progress.say(f"shrink: {one}")
            told = [{**asdict(one), "shrink": one.shrink.model_dump(mode="json")} for one in candidates]
            write_json(chosen, {"chosen": told[0]["shrink"], "candidates": told})
        shrink = Shrink.model_validate(read_json(chosen)["chosen"])
    return begin(base, shrink, recipe.name, learned)


def _trained(student: LoadedModel, work: Workspace) -> LoadedModel:
    """The student with its new weights, under a fingerprint of its own."""
    return renamed(student, digest([student.fingerprint, _weights_digest(work)]))


def _register(
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
        "weights": _weights_digest(work),
        **hashes,
    }
    lineage = {
        "recipe": recipe.dump(),
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


def _weights_digest(work: Workspace) -> str:
    """SHA-256 of the trained weights, as the stage's manifest has it."""
    return str(read_json(work.folder / "4-training" / MANIFEST)["files"]["weights.safetensors"]["sha256"])


def _check_job(recipe: Recipe, work: Workspace, resume: bool) -> None:
    """A new job wants a free name; a resumed one wants the recipe it began with."""
    path = work.folder / "recipe.json"
    if not path.exists():
        return
    if not resume:
        raise Conflict(
            f'job "{recipe.name}" is there already ({work.folder});'
            " --resume goes on with it, another name begins a new one"
        )
    # Read as a recipe: one written before a key was known means its default.
    changed = _differences(Recipe.build(read_json(path), str(path)).lasting(), recipe.lasting())
    if changed:
        raise Conflict(
            f'job "{recipe.name}" was begun with another recipe (different: {", ".join(changed)});'
            " resume it with the same one, or choose another name"
        )


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [
            found for key in keys for found in _differences(old.get(key), new.get(key), f"{where}.{key}".strip("."))
        ]
    return [] if old == new else [where]
