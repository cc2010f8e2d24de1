"""Ask each question once, ever.

An answer is stored under the hash of the model, the question and the settings as soon as it arrives. Whatever is
stored is not asked again: not after a crash, not by another job. Of equal questions the first is asked for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from limbeck.progress import Progress, Silent, StopSignal
from limbeck.records import Answer, GenerationSettings, Question
from limbeck.storage.answers import AnswerStore
from limbeck.teachers.base import Teacher

__all__ = ["ask"]


def ask(
    teacher: Teacher,
    questions: Sequence[Question],
    settings: GenerationSettings,
    store: Path,
    progress: Progress | None = None,
    stop: StopSignal | None = None,
    name: str = "answers",
) -> list[Answer]:
    """The teacher's answers to ``questions``, in their order; only what ``store`` lacks is asked.

    Raises `Stopped` when ``stop`` is set, as soon as the teacher hears of it; the answers that have arrived are kept.
    """
    progress, stop = progress or Silent(), stop or StopSignal()
    keys = [question.key(teacher.stored_as(settings), settings) for question in questions]
    with AnswerStore(store) as answers:
        known = answers.known(keys)
        first: dict[str, int] = {}
        skip = {at for at, key in enumerate(keys) if key in known or first.setdefault(key, at) != at}
        with progress.task(name, len(questions), "answers", done=len(skip)) as task:
            stop.check()
            if len(skip) < len(questions):
                for group in teacher.answers(questions, settings, skip, stop.check):
                    answers.put(teacher.id, ((keys[index], answer) for index, answer in group))
                    task.advance(len(group))
        return [answers.get(key) for key in keys]
