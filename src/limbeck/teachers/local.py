"""A teacher in this process: a model loaded with transformers, its distributions in full view."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from limbeck.errors import InvalidInput
from limbeck.inference.engine import Engine, common_prefix
from limbeck.models.loading import LoadedModel
from limbeck.records import Answer, GenerationSettings, Question
from limbeck.teachers.base import refused

__all__ = ["LocalTeacher"]

BATCH_ROWS = 64
"""The most prompts answered at once."""

BATCH_TOKENS = 16_384
"""The most positions a batch's cache may come to hold: what bounds its memory."""


class LocalTeacher:
    """Answers in batches sorted by length.

    Batches are planned over all the questions, also those that are skipped, and a batch is answered whole: so a
    run that was broken off and taken up again computes the same batches, and gets the same bits, as one that was
    not.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.engine = Engine(loaded)
        self.renderer = loaded.renderer
        self.id = loaded.id
        self.fingerprint = loaded.fingerprint

    def stored_as(self, settings: GenerationSettings) -> str:
        """See `Teacher.stored_as`."""
        return self.fingerprint

    def answers(
        self,
        questions: Sequence[Question],
        settings: GenerationSettings,
        skip: Collection[int] = (),
        check: Callable[[], None] = lambda: None,
    ) -> Iterator[list[tuple[int, Answer]]]:
        """See `Teacher.answers`."""
        render = self.loaded.renderer
        prompts = [render.prompt(question.conversation) for question in questions]
        to_write = [i for i, question in enumerate(questions) if question.completion is None]
        to_read = [i for i, question in enumerate(questions) if question.completion is not None]
        prefix = common_prefix([prompts[i] for i in to_write])

        for batch in _batches(to_write, prompts, settings.max_tokens):
            wanted = [i for i in batch if i not in skip]
            if wanted:
                keys = [questions[i].prompt.id for i in wanted]
                with _naming(questions[wanted[0]]):  # the longest
                    found = self.engine.generate([prompts[i] for i in wanted], settings, keys, prefix, check)
                yield list(zip(wanted, found, strict=True))
        for batch in _batches(to_read, prompts, settings.max_tokens):
            wanted = [i for i in batch if i not in skip]
            if wanted:
                check()
                responses = [render.response(questions[i].completion or "") for i in wanted]
                sizes = [len(prompts[i]) + len(response) for i, response in zip(wanted, responses, strict=True)]
                longest = wanted[sizes.index(max(sizes))]
                with _naming(questions[longest]):
                    found = self.engine.read(
                        [prompts[i] for i in wanted],
                        responses,
                        settings.top_k_captured,
                        temperature=settings.captured_temperature,
                        draws=settings.draws_captured,
                        seed=settings.seed,
                    )
                yield list(zip(wanted, found, strict=True))


@contextmanager
def _naming(longest: Question) -> Iterator[None]:
    """What the engine refuses of a batch is too long, and so is the longest of it."""
    try:
        yield
    except InvalidInput as why:
        raise refused(longest, why) from None


def _batches(chosen: Sequence[int], prompts: Sequence[Sequence[int]], new_tokens: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, the longest first so that memory's peak comes at the start."""
    batch: list[int] = []
    for index in sorted(chosen, key=lambda i: (-len(prompts[i]), i)):
        longest = len(prompts[batch[0]]) if batch else len(prompts[index])
        if batch and (len(batch) >= BATCH_ROWS or (len(batch) + 1) * (longest + new_tokens) > BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
