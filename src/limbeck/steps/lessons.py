"""Stage 4: kept answers, or documents, become what the loop eats, and the loop is run as a durable step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from limbeck import curation, synthesis, training
from limbeck.errors import InvalidInput
from limbeck.intake import names_of
from limbeck.models import adapters
from limbeck.models.loading import LoadedModel, folder_of
from limbeck.models.packing import Tokens
from limbeck.recipe import Objective, Recipe, Synthesis
from limbeck.records import AnsweredExample, Document, Example
from limbeck.settings import Settings
from limbeck.steps.student import trimmed
from limbeck.steps.together import lead
from limbeck.storage.workspace import Workspace
from limbeck.teachers.local import LocalTeacher
from limbeck.teachers.remote import RemoteTeacher

__all__ = ["answers_learned", "check_rows", "check_tokens", "read", "train"]


def check_tokens(
    teacher: LocalTeacher | RemoteTeacher,
    student: LoadedModel,
    examples: Sequence[Example],
    framing: synthesis.Framing,
    recipe: Recipe,
) -> None:
    """Refuse, before anything is paid for, an objective that the two models or the rows do not bear."""
    if isinstance(teacher, LocalTeacher) or recipe.auto:
        _choose(recipe, student, None if recipe.synthesis.use_responses else teacher)
        if isinstance(teacher, LocalTeacher) and recipe.objective.hidden is not None:
            training.layers_paired(recipe.objective.hidden, student.model.config, teacher.engine.model.config)
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
    unread = None if teacher.endpoint.reads else _unread(examples, framing, recipe.synthesis)
    if unread is not None:
        found, way_out = unread
        raise InvalidInput(
            f"{found}, and {teacher.id} reads no text, so they come without the distributions that"
            f" training.objective.{objective} learns from; use training.objective: {{cross_entropy: 1}}, or {way_out}"
        )


def check_rows(student: LoadedModel, examples: Sequence[Example], recipe: Recipe) -> None:
    """Refuse, before anything is paid for, rows that are too long for the student, all at once. Raises `InvalidInput`.

    A row that is examined needs room for an answer, and so does one that is learned: for its label where that is
    learned as it is, else for a token.
    """
    as_given = recipe.synthesis.labels == "keep" and recipe.synthesis.refine is None
    rules = curation.answer_rules(recipe.curation, examples)
    examined = {one.id for one in recipe.evaluation.examined(examples)}
    faults = []
    for example in examples:
        if example.split == "held-out" and example.id not in examined:
            continue
        labels = synthesis.labels([example]) if as_given else []
        if any(rule(one) is not None for one in labels for rule in rules.values()):
            continue  # it is dropped, however long it is
        tokens = len(student.renderer.prompt(example.prompt))
        tokens += len(student.renderer.response(labels[0].answer.text)) if labels else 1
        most, whose = student.context_tokens, ""
        if example.split != "held-out" and student.sequence_tokens < most:
            most, whose = student.sequence_tokens + 1, " of its sliding window"  # the last token is only predicted
        if tokens > most:
            what = "prompt and answer are" if labels else "with the first token of its answer the prompt is"
            faults.append(f"{example.place}: {what} {tokens:,} tokens; expected at most the student's {most:,}{whose}")
    if faults:
        raise InvalidInput("\n".join(faults))


def _unread(examples: Sequence[Example], framing: synthesis.Framing, plan: Synthesis) -> tuple[str, str] | None:
    """What of the recipe or the rows wants a teacher that reads, and the way out; None where enough else is learned."""
    if plan.refine is not None:
        return "synthesis.refine: answers are written anew", "drop synthesis.refine"
    learned = [example for example in examples if example.split != "held-out"]
    labelled = [example for example in learned if example.label is not None]
    if plan.labels == "improve" and not all(framing.is_golden(example) for example in labelled):
        return "synthesis.labels: labels are written anew", "say synthesis.labels: ignore"
    taken = [example for example in labelled if plan.labels != "ignore" or framing.is_golden(example)]
    rows = max(len(learned), 0 if plan.augment is None else plan.augment.to)
    if 2 * len(taken) > rows:
        way_out = "source.learn_golden: false" if plan.labels == "ignore" else "synthesis.labels: ignore"
        return f"{len(taken)} of {rows} rows bring their own answers", f"say {way_out}"
    return None


def train(
    kept: Sequence[AnsweredExample],
    student: LoadedModel,
    teacher: LocalTeacher | RemoteTeacher | None,
    framing: synthesis.Framing,
    recipe: Recipe,
    work: Workspace,
    settings: Settings,
    processes: training.Processes = training.ALONE,
) -> LoadedModel:
    """Stage 4: leaves the trained weights in the folder; gives the student that has them, its vocabulary trimmed if the
    recipe says so.

    ``teacher`` wrote the answers' tokens.
    """
    known = sum(one.answer.soft_labels is not None for one in kept)
    choice = _choose(recipe, student, teacher, 2 * known >= len(kept))
    objective, tutor = choice.objective, None if teacher is None else teacher.renderer
    if choice.reason:
        work.progress.say(choice.reason)
    if recipe.training.answers == "all" and answers_learned(recipe) == "last":
        several = sum(bool(one.example.prompt.answers) for one in kept)
        if several:
            work.progress.say(
                f"training: of {several} conversations the last answer alone is learned: a teacher that reads while the"
                " student learns (training.objective.on_policy, hidden) reads no other"
            )
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
            learned(split, file),
            student.renderer,
            student.context_tokens,
            tutor,
            soft,
            answers_learned(recipe),
            crossing,
        )

    files = _watched(recipe)
    lessons, validation = prepared("train"), [prepared("validation", file) for file in files]
    if crossing is not None:
        carried = [one.soft_labels for one in lessons if one.soft_labels is not None]
        work.progress.say(training.coverage(carried, by_rank=not objective.divergences))
    made_from = {
        "kept": work.digest_of("3-curation"),
        "signals": work.digest_of("2-synthesis") if soft else None,
        # A teacher that is asked while the student learns is asked with these.
        "framing": framing.told if objective.on_policy or objective.hidden else None,
    }
    sampling = alignment = None
    if objective.hidden and isinstance(teacher, LocalTeacher):
        prompts = _seen_by(teacher, learned("train"), framing)
        read_as = [
            Tokens((*prompt, *one.tokens.response), len(prompt)) for prompt, one in zip(prompts, lessons, strict=True)
        ]
        alignment = training.Alignment(objective.hidden, teacher.engine.model, read_as, recipe.training.seed)
    # Trimmed before it learns: what nobody says is neither computed nor updated, and unlearned in favor of nothing.
    student, place = trimmed(student, [*lessons, *chain.from_iterable(validation)], recipe, work)
    if place is not None:
        renumbering = training.Renumbering(place)
        lessons = renumbering.examples(lessons)
        validation = [renumbering.examples(some) for some in validation]
    if objective.on_policy and isinstance(teacher, LocalTeacher):
        sampling = _sampling(learned("train"), student, teacher, framing, recipe, place)
    _learn(lessons, validation, student, objective, made_from, recipe, work, settings, processes, sampling, alignment)
    return student


def answers_learned(recipe: Recipe) -> Literal["all", "last"]:
    """Which answers of a conversation are learned. A teacher that is there while the student learns reads last ones."""
    return "last" if recipe.objective.on_policy or recipe.objective.hidden else recipe.training.answers


def read(
    documents: Sequence[Document],
    student: LoadedModel,
    recipe: Recipe,
    work: Workspace,
    settings: Settings,
    processes: training.Processes = training.ALONE,
) -> None:
    """Stage 4 of continued pre-training."""
    length = min(student.sequence_tokens, recipe.training.pack_tokens)
    counted = recipe.training.copies == "learned"

    def prepared(split: str, file: str | None = None) -> list[training.TrainingExample]:
        chosen = [one for one in documents if one.split == split and file in (None, one.file)]
        texts = [one.text for one in chosen for _ in range(one.copies if counted and split == "train" else 1)]
        return training.prepare_text(texts, student.renderer, length)

    files = _watched(recipe)
    validation = [prepared("validation", file) for file in files]
    made_from = {"documents": work.digest_of("1-intake")}
    lessons = prepared("train")
    _learn(lessons, validation, student, recipe.objective, made_from, recipe, work, settings, processes)


def _watched(recipe: Recipe) -> list[str] | list[None]:
    """The validation files as their rows name them, each watched apart; without one, whatever was set aside."""
    names = names_of(recipe.source.files)
    return [names[path] for path in recipe.source.validation] or [None]


def _choose(
    recipe: Recipe, student: LoadedModel, teacher: LocalTeacher | RemoteTeacher | None, distributions: bool = True
) -> training.Choice:
    """The objective, if the two models bear it; asked before anything is paid for, and again of what came."""
    tutor = None if teacher is None else teacher.renderer
    pair = training.pair_of(student.renderer, tutor, distributions, reads=isinstance(teacher, LocalTeacher))
    return training.choose(recipe.objective, recipe.auto, pair)


def _learn(
    lessons: Sequence[training.TrainingExample],
    validation: Sequence[Sequence[training.TrainingExample]],
    student: LoadedModel,
    objective: Objective,
    made_from: Mapping[str, Any],
    recipe: Recipe,
    work: Workspace,
    settings: Settings,
    processes: training.Processes,
    sampling: training.Sampling | None = None,
    alignment: training.Alignment | None = None,
) -> None:
    """The loop itself, as a durable step."""
    inputs = {
        **made_from,
        "student": student.fingerprint,
        "objective": objective.model_dump(mode="json"),
        "training": recipe.training.model_dump(mode="json", exclude={"checkpoint_seconds"}),
    }
    adapter = recipe.student.adapter
    if adapter is not None:
        inputs["adapter"] = adapter.model_dump(mode="json")

    def adapt() -> None:
        if adapter is not None and not adapters.attached(student.model):
            adapters.attach(student.model, adapter, recipe.training.seed)

    def make(folder: Path) -> None:
        plan, progress, stop = recipe.training, work.progress, work.stop
        if processes.size > 1:  # each trains a copy, and adapts it
            lead(student, lessons, validation, objective, recipe, folder, work, settings, processes)
        else:
            adapt()
            training.train(
                student.model, lessons, validation, objective, plan, folder, progress, stop, sampling, alignment
            )
        if adapter is not None and adapter.keep:
            adapt()
            training.load_trained(student.model, folder)
            adapters.save(student.model, str(folder_of(student.source, settings)), folder / "adapter")

    folder = work.step("4-training", inputs, make)
    adapt()
    training.load_trained(student.model, folder)
    if adapter is not None:
        adapters.merge(student.model)


def _sampling(
    learned: Sequence[AnsweredExample],
    student: LoadedModel,
    teacher: LocalTeacher,
    framing: synthesis.Framing,
    recipe: Recipe,
    place: Mapping[int, int] | None,
) -> training.Sampling:
    """How the student's own batches come about: it sees a prompt as it always will, the teacher as in the synthesis.

    ``place``: where the student's vocabulary is trimmed, the new ids.
    """
    plan = recipe.objective.on_policy
    assert plan is not None, "called where there is one"
    own = [student.renderer.prompt(one.example.prompt) for one in learned]
    prompts = list(zip(own, _seen_by(teacher, learned, framing), strict=True))
    longest = plan.max_response_tokens or recipe.synthesis.max_response_tokens
    kept = None if place is None else sorted(place, key=place.__getitem__)
    read = teacher.loaded.sequence_tokens
    return training.Sampling(student, teacher.engine.score, prompts, plan, longest, recipe.training.seed, kept, read)


def _seen_by(
    teacher: LocalTeacher, learned: Sequence[AnsweredExample], framing: synthesis.Framing
) -> list[Sequence[int]]:
    """The prompts as tokens, as the teacher sees them."""
    return [teacher.renderer.prompt(framing.question(one.example).conversation) for one in learned]
