"""What a teacher is shown, and to which of its first questions the home has the answers. Opens without torch."""

from __future__ import annotations

from collections.abc import Sequence

from limbeck import intake, synthesis
from limbeck.errors import InvalidInput, LimbeckError
from limbeck.models.catalog import find
from limbeck.models.identity import known_fingerprint
from limbeck.recipe import Recipe, Teacher
from limbeck.records import Example, GenerationSettings, Question
from limbeck.settings import Settings
from limbeck.storage.answers import AnswerStore
from limbeck.teachers.finding import llama_teacher, remote_teacher

__all__ = ["framing_of", "stored"]


def framing_of(recipe: Recipe) -> synthesis.Framing:
    """What the teacher sees besides the prompt."""
    plan = recipe.synthesis
    golden = synthesis.Golden(intake.golden_pairs(recipe.source), plan.demonstrations, plan.golden_choice)
    return synthesis.Framing(golden, plan.teacher_system)


def stored(recipe: Recipe, examples: Sequence[Example], settings: Settings) -> frozenset[str]:
    """The ids of ``examples`` whose first question, to the first of the recipe's teachers, is answered in the store.

    None of them where nobody can say as what its answers are stored: a service's whose key is not set, those of a model
    that was never loaded here.
    """
    if not settings.answers.exists():
        return frozenset()
    framing, plan, teacher = framing_of(recipe), recipe.synthesis, recipe.tried[0]
    examined = framing.examined(examples, recipe.evaluation.teacher_sees)

    def asked(example: Example) -> tuple[Question, GenerationSettings]:
        if example.split == "held-out":
            return examined(example), recipe.examining
        is_read = example.label is not None and (plan.labels != "ignore" or framing.is_golden(example))
        return framing.question(example, example.label if is_read else None), recipe.asking

    try:
        names = {how: _stored_as(teacher, how, recipe, settings) for how in (recipe.asking, recipe.examining)}
    except LimbeckError:  # the job itself tells what is wrong with its teacher
        return frozenset()
    keys = {example.id: question.key(names[how], how) for example in examples for question, how in [asked(example)]}
    with AnswerStore(settings.answers) as answers:
        known = answers.known(list(keys.values()))
    return frozenset(example for example, key in keys.items() if key in known)


def _stored_as(teacher: Teacher, how: GenerationSettings, recipe: Recipe, settings: Settings) -> str:
    if teacher.remote:
        return remote_teacher(teacher, recipe.student.model, settings, text_will_do=recipe.auto).stored_as(how)
    source = find(teacher.model, settings)
    if teacher.via == "llama.cpp":
        if not source.path.exists():  # cut from another on first use
            raise InvalidInput(f"{source.path}: not made yet")
        return llama_teacher(teacher, settings).stored_as(how)
    found = known_fingerprint(source, settings)
    if found is None:
        raise InvalidInput(f"{source.path}: never loaded")
    return found
