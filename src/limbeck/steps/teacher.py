"""Who teaches, who writes and who is asked, opened as the recipe names them, and what it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from limbeck import curation, intake, synthesis, teachers
from limbeck.errors import InvalidInput
from limbeck.evaluation.metrics import token_f1
from limbeck.models.loading import load
from limbeck.recipe import Recipe, Teacher
from limbeck.records import Answer, AnsweredExample, Example, GenerationSettings, Question
from limbeck.settings import Settings
from limbeck.storage.workspace import Workspace, write_json
from limbeck.teachers.estimate import estimate, prices_of
from limbeck.teachers.finding import llama_teacher, remote_teacher
from limbeck.teachers.local import LocalTeacher
from limbeck.teachers.reckoning import Reckoning
from limbeck.teachers.remote import RemoteTeacher

__all__ = ["asking_of", "chosen", "opened", "reckon", "writing"]


def chosen(
    recipe: Recipe, examples: Sequence[Example], framing: synthesis.Framing, settings: Settings, work: Workspace
) -> Teacher:
    """The teacher that the recipe names, or the best of those it wants tried."""
    if recipe.trial is None:
        assert recipe.teacher is not None, "the recipe's own check sees to this"
        return recipe.teacher

    def session(teacher: Teacher) -> synthesis.Session:
        answering = opened(teacher, recipe, settings, work)
        return synthesis.Session(answering, recipe.asking, framing, settings.answers, work)

    def judging(judge: Teacher) -> synthesis.Session:
        marking = opened(judge, recipe, settings, work, "trial.judge")
        return synthesis.Session(marking, synthesis.judging(judge.remote), synthesis.Framing(), settings.answers, work)

    candidates = {teacher.model: teacher for teacher in recipe.trial.teachers}
    sessions = {name: partial(session, teacher) for name, teacher in candidates.items()}
    judge = None if recipe.trial.judge is None else partial(judging, recipe.trial.judge)
    plan = (recipe.trial.rows, recipe.synthesis.seed, token_f1, work)
    return candidates[synthesis.choose_teacher(sessions, judge, examples, *plan)]


def opened(
    teacher: Teacher, recipe: Recipe, settings: Settings, work: Workspace, key: str = "teacher"
) -> LocalTeacher | RemoteTeacher:
    """A teacher ready to answer, in this process or over the network; the recipe has it under ``key``."""
    if teacher.remote:
        student, say = recipe.student.model, work.progress.say
        return remote_teacher(teacher, student, settings, work.folder, say, key, text_will_do=recipe.auto)
    if teacher.via == "llama.cpp":
        return llama_teacher(teacher, settings, work.progress.say)
    return LocalTeacher(load(teacher.model, settings))


def writing(recipe: Recipe, session: synthesis.Session, settings: Settings) -> synthesis.Session:
    """Who is asked for similar prompts: the teacher, or the writer that the recipe names."""
    plan = recipe.synthesis.augment
    if plan is None or plan.writer is None:
        return session
    return replace(session, teacher=opened(plan.writer, recipe, settings, session.work, "synthesis.augment.writer"))


def asking_of(
    recipe: Recipe, teacher: teachers.Teacher | None, framing: synthesis.Framing, settings: Settings, work: Workspace
) -> curation.Asking:
    """Whom curation may ask: the teacher as the synthesis asks it, and a judge; each question is paid for once.

    A judge behind an address is opened here, so that a key that is missing is told before anybody is asked; one whose
    weights are here only when it is needed.
    """
    plan = recipe.synthesis.refine
    named = None if recipe.curation.judge is None else recipe.curation.judge.model
    far = opened(named, recipe, settings, work, "curation.judge.model") if named is not None and named.remote else None

    def put(model: teachers.Teacher, questions: Sequence[Question], how: GenerationSettings, name: str) -> list[Answer]:
        return teachers.ask(model, questions, how, settings.answers, work.progress, work.stop, name)

    def answers(pairs: Sequence[tuple[Example, str | None]], how: GenerationSettings, name: str) -> list[Answer]:
        assert teacher is not None, "handed in only where there is one"
        return put(teacher, [framing.question(example, text) for example, text in pairs], how, name)

    def refined(answered: Sequence[AnsweredExample], how: GenerationSettings, name: str) -> list[AnsweredExample]:
        assert teacher is not None and plan is not None, "handed in only where there are both"
        session = synthesis.Session(teacher, how, framing, settings.answers, work)
        return synthesis.mend(answered, "teacher", plan.instruction, session, name)

    def judged(questions: Sequence[Question], how: GenerationSettings, name: str) -> list[Answer]:
        judge = far or (teacher if named is None else opened(named, recipe, settings, work))
        assert judge is not None, "the recipe's own check sees to this"
        try:
            return put(judge, questions, how, name)
        except InvalidInput as why:  # of a question longer than the row that it names
            raise InvalidInput(
                f"curation.judge, asked with prompt, answer and rubric: {why}; a job of another name, with another"
                " judge or none, asks for no answer again"
            ) from None

    asked = None if teacher is None else answers
    return curation.Asking(recipe.asking, asked, None if teacher is None or plan is None else refined, judged)


def reckon(
    answered: Sequence[AnsweredExample],
    examples: Sequence[Example],
    chosen: Teacher,
    recipe: Recipe,
    settings: Settings,
    work: Workspace,
) -> list[str]:
    """Write what the job took so far beside what was foreseen of the rows that were given; the sentence, for a report.

    Empty where no teacher answers.
    """
    if recipe.synthesis.use_responses:
        return []
    given = [example for example in examples if example.origin != "augmented"]
    foreseen = estimate(recipe, given, intake.golden_pairs(recipe.source), settings, chosen)
    found = Reckoning.of(answered, foreseen, prices_of(chosen, settings), work.folder)
    write_json(work.folder / "2-synthesis" / "cost.json", found.to_json())
    return [str(found)]
