"""A teacher over the network: many questions at once, again after a failure, never beyond a budget.

Works for every `Endpoint`. The requests run on an event loop in a thread of its own, so a caller may have a loop
running already, as a notebook has. The first questions go alone: an endpoint that is not what the recipe takes it for
costs one request, not one for each of a thousand prompts.

When the work is to stop, or one question cannot be answered, nothing new is sent, and what is under way is waited for
a while: it is paid for, and is stored when it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from limbeck.errors import InvalidInput, LimbeckError, Stopped, TeacherFailed
from limbeck.models.chat import Renderer
from limbeck.recipe import Prices
from limbeck.records import Answer, GenerationSettings, Question, digest
from limbeck.teachers.base import refused
from limbeck.teachers.budget import Purse
from limbeck.teachers.endpoint import NOTHING, Endpoint, Failure, Reply, Usage
from limbeck.teachers.patience import Gate, Patience

__all__ = ["RemoteTeacher"]

LOOK_SECONDS = 0.1
"""How often a wish to stop is looked for."""
GRACE_SECONDS = 5.0
"""How long answers under way are waited for after that."""
ALONE = 4
"""The most questions asked alone, where their answers should carry distributions and do not."""

Loop = Callable[[], asyncio.AbstractEventLoop]


class RemoteTeacher:
    """Asks an endpoint."""

    parameters: int | None = None
    """Nobody tells how many weights are behind an address."""
    renderer: Renderer | None = None
    """In whose tokens its distributions are, where it has any."""

    def __init__(
        self,
        endpoint: Endpoint,
        purse: Purse,
        concurrency: int = 8,
        patience: Patience | None = None,
        loop: Loop = asyncio.new_event_loop,
        say: Callable[[str], None] = lambda _: None,
        text_will_do: bool = False,
    ) -> None:
        """``say`` is told what a user should hear of while the work goes on.

        ``text_will_do``: distributions are learned from if they come, and need not.
        """
        self.endpoint, self.purse = endpoint, purse
        self.id, self.fingerprint = endpoint.id, endpoint.fingerprint
        self._concurrency, self._patience = concurrency, patience or Patience()
        self._loop, self._say, self._text_will_do = loop, say, text_will_do

    @property
    def prices(self) -> Prices | None:
        """What a token costs."""
        return self.purse.prices

    def alone(self) -> RemoteTeacher | None:
        """The same for one question after another, to be timed; None where asking again costs."""
        endpoint = self.endpoint.alone()
        return (
            None if endpoint is None else RemoteTeacher(endpoint, self.purse, 1, self._patience, self._loop, self._say)
        )

    def stored_as(self, settings: GenerationSettings) -> str:
        """See `Teacher.stored_as`: distributions are in the tokens of whoever reads them."""
        reading = self.endpoint.reading if settings.top_k_captured else ""
        return digest([self.fingerprint, reading]) if reading else self.fingerprint

    def answers(
        self,
        questions: Sequence[Question],
        settings: GenerationSettings,
        skip: Collection[int] = (),
        check: Callable[[], None] = lambda: None,
    ) -> Iterator[list[tuple[int, Answer]]]:
        """See `Teacher.answers`. A question that brings its answer gets it back as text where nobody can read it."""
        wanted = [i for i in range(len(questions)) if i not in skip]
        if not self.endpoint.reads:
            given = [(i, questions[i].completion) for i in wanted]
            kept = [(i, Answer(text, (), "stop", 0)) for i, text in given if text is not None]
            if kept:
                yield kept
            wanted = [i for i, text in given if text is None]
        if wanted:
            how = (self._patience, self._concurrency, questions, settings, self._say, self._text_will_do)
            work = _Work(self.endpoint, self.purse, *how)
            yield from work.done(wanted, self._loop, check)


class _Work:
    """One call's questions on their way. What begins with `_run` belongs to the loop's thread."""

    def __init__(
        self,
        endpoint: Endpoint,
        purse: Purse,
        patience: Patience,
        concurrency: int,
        questions: Sequence[Question],
        settings: GenerationSettings,
        say: Callable[[str], None],
        text_will_do: bool,
    ) -> None:
        self._endpoint, self._purse, self._patience = endpoint, purse, patience
        self._concurrency, self._questions, self._settings, self._say = concurrency, questions, settings, say
        self._arrived: queue.SimpleQueue[tuple[int, Answer] | BaseException | None] = queue.SimpleQueue()
        self._gate = Gate(endpoint.id, patience)
        self._workers: list[asyncio.Task[None]] = []
        self._asking: set[asyncio.Task[Any] | None] = set()
        self._ending = False
        self._error: BaseException | None = None
        self._text_will_do = text_will_do
        self._text_only = 0

    def done(self, wanted: Sequence[int], loop: Loop, check: Callable[[], None]) -> Iterator[list[tuple[int, Answer]]]:
        """The answers in groups as they arrive; raises, after the last of them, what ended the work."""
        running: queue.SimpleQueue[asyncio.AbstractEventLoop] = queue.SimpleQueue()

        def work() -> None:
            try:
                with asyncio.Runner(loop_factory=loop) as runner:
                    running.put(runner.get_loop())
                    runner.run(self._run(wanted))
                self._arrived.put(self._error)
            except BaseException as error:  # it is the caller's, whatever it is
                self._arrived.put(error)

        thread = threading.Thread(target=work, name=f"teacher {self._endpoint.id}", daemon=True)
        thread.start()
        its_loop = running.get()
        wish: Stopped | None = None
        until = float("inf")
        end: BaseException | bool = False
        try:
            while not end and time.monotonic() < until:
                group, end = self._group()
                if group:
                    yield group
                try:
                    check()
                except Stopped as stopped:
                    if wish is None:
                        wish, until = stopped, time.monotonic() + GRACE_SECONDS
                        _call(its_loop, self._end)
        finally:
            if not end:
                _call(its_loop, _cancel_all)
            thread.join()
        if wish is not None or isinstance(end, BaseException):
            raise wish or end  # type: ignore[misc]  # one of them is there

    def _group(self) -> tuple[list[tuple[int, Answer]], BaseException | bool]:
        """What has arrived within a moment, and whether, or with which error, that was all."""
        group: list[tuple[int, Answer]] = []
        try:
            one = self._arrived.get(timeout=LOOK_SECONDS)
            while isinstance(one, tuple):
                group.append(one)
                one = self._arrived.get_nowait()
        except queue.Empty:
            return group, False
        return group, True if one is None else one

    async def _run(self, wanted: Sequence[int]) -> None:
        waiting = iter(wanted)
        await self._endpoint.open([self._questions[i] for i in wanted], self._settings)
        try:
            await self._run_workers([self._go_ahead(waiting)])
            if not self._ending:
                await self._run_workers([self._ask_on(waiting) for _ in range(self._concurrency)])
        finally:
            await self._endpoint.close()
        if self._text_only:
            self._say(f"{self._endpoint.id}: {self._text_only} answers came as text alone, without distributions")

    async def _run_workers(self, work: Sequence[Coroutine[Any, Any, None]]) -> None:
        self._workers = [asyncio.ensure_future(one) for one in work]
        for ended in await asyncio.gather(*self._workers, return_exceptions=True):
            if isinstance(ended, BaseException) and not isinstance(ended, asyncio.CancelledError):
                self._error = self._error or ended

    def _end(self) -> None:
        """Send nothing more; wait for nothing but answers under way."""
        self._ending = True
        for worker in self._workers:
            if worker not in self._asking and worker is not asyncio.current_task():
                worker.cancel()

    async def _go_ahead(self, waiting: Iterator[int]) -> None:
        """Ask alone until an answer is what it should be. Raises `InvalidInput` where none of `ALONE` is."""
        for number, index in enumerate(islice(waiting, ALONE), 1):
            reply = await self._answer(index)
            if reply is None:
                return
            self._hand_over(index, reply)
            if self._text_will_do or self._is_whole(reply):
                return
            if number == ALONE:
                self._end()
                raise InvalidInput(
                    f"{self._endpoint.id}: its answers come without distributions that could be learned from:"
                    f" {reply.text_only}; use training.objective: {{cross_entropy: 1}}, which learns from their text"
                )

    async def _ask_on(self, waiting: Iterator[int]) -> None:
        for index in waiting:
            reply = await self._answer(index)
            if reply is None:
                return
            self._hand_over(index, reply)

    def _is_whole(self, reply: Reply) -> bool:
        return not self._settings.top_k_captured or reply.answer.soft_labels is not None

    def _hand_over(self, index: int, reply: Reply) -> None:
        self._text_only += not self._is_whole(reply)
        self._arrived.put((index, reply.answer))

    async def _answer(self, index: int) -> Reply | None:
        """Ask one question until it is answered; None when the work is ending."""
        attempts = bad_replies = 0
        try:
            while not self._ending:
                try:
                    return await self._attempt(self._questions[index])
                except Failure as failure:
                    attempts += 1
                    bad_replies += failure.bad_reply
                    if attempts == self._patience.attempts or bad_replies == self._patience.bad_replies:
                        where = self._questions[index].place
                        raise TeacherFailed(
                            f"{self._endpoint.id}: {failure} ({attempts} attempts{where and f' at {where}'}); what is"
                            " answered is kept"
                        ) from None
                if not self._ending:
                    await asyncio.sleep(self._patience.wait(attempts))
        except InvalidInput as why:
            self._end()
            raise refused(self._questions[index], why) from None
        except LimbeckError:
            self._end()
            raise
        return None

    async def _attempt(self, question: Question) -> Reply:
        async with self._gate.passing() as on_trial:
            number = await self._purse.reserve(self._endpoint.most(question, self._settings))
            began = asyncio.get_running_loop().time()
            self._asking.add(asyncio.current_task())
            used: Usage | None = None
            try:
                reply = await self._endpoint.ask(question, self._settings)
                used = reply.usage
            except Failure as failure:
                used = failure.used
                self._gate.failed(failure, on_trial)
                raise
            except LimbeckError:
                used = NOTHING
                raise
            finally:
                self._asking.discard(asyncio.current_task())
                self._purse.settle(number, used)
            self._gate.succeeded()
            took = asyncio.get_running_loop().time() - began
            return replace(reply, answer=replace(reply.answer, seconds=took))


def _call(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # it may have ended meanwhile
        loop.call_soon_threadsafe(what)


def _cancel_all() -> None:
    for task in asyncio.all_tasks():
        task.cancel()
