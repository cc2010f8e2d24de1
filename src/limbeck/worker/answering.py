"""A hosted model for the time of a job: questions in, answers out, many at once, over replicas of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from limbeck.errors import LimbeckError, ModelFailed, NotReady
from limbeck.models.catalog import ModelSource, find
from limbeck.serving.base import Replica
from limbeck.serving.chat import Answer, ChatModel, Prepared, Question, answer, collect
from limbeck.serving.launch import open_pool
from limbeck.serving.pool import ReplicaPool
from limbeck.settings import Settings

__all__ = ["Answering", "answering"]

ATTEMPTS = 3
"""How often a question is asked whose model broke off: its process may have been killed for want of memory, and with
it answers to other questions than the one at fault."""

LOAD_SECONDS = 600.0
"""How long a model may take to come into memory: a job can wait."""


class Answering:
    """Models by name, loaded as they are asked."""

    def __init__(self, settings: Settings, pool: ReplicaPool) -> None:
        self._settings, self._pool = settings, pool
        self._models: dict[str, ChatModel] = {}

    def prepare(self, model: str, question: Question) -> Prepared:
        """The question as the model would be asked it. Raises `InvalidInput` where it does not take it."""
        source = find(model, self._settings)
        if model not in self._models:
            self._models[model] = ChatModel(source)
        return self._models[model].prepare(question)

    async def ask(self, model: str, question: Question) -> Answer:
        """One answer; a model that broke off is asked again. Raises what the model or the question is at fault for."""
        source, prepared = find(model, self._settings), self.prepare(model, question)
        for left in reversed(range(ATTEMPTS)):
            replica = await self._replica(source)
            try:
                return await collect(answer(replica, prepared, time.monotonic()))
            except ModelFailed:
                if not left:
                    raise
        raise AssertionError("unreachable: the last attempt answers or raises")

    async def _replica(self, source: ModelSource) -> Replica:
        until = time.monotonic() + LOAD_SECONDS
        while True:
            try:
                return await self._pool.replica(source)
            except NotReady:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(1)

    async def ask_all(self, model: str, questions: Sequence[Question]) -> list[Answer | LimbeckError]:
        """Answers to all, in their order; one that cannot be answered comes as its error."""
        found = await asyncio.gather(*(self.ask(model, question) for question in questions), return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException) and not isinstance(one, LimbeckError):
                raise one
        return [one for one in found if not isinstance(one, BaseException) or isinstance(one, LimbeckError)]


@asynccontextmanager
async def answering(settings: Settings) -> AsyncIterator[Answering]:
    """Replicas that end with the block."""
    pool = open_pool(settings)
    try:
        yield Answering(settings, pool)
    finally:
        await pool.close()
