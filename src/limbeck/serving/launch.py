"""How a model is hosted: by llama.cpp where it has a GGUF file, by transformers where it has none."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from limbeck.models.catalog import ModelSource
from limbeck.models.gguf_cache import gguf_of
from limbeck.serving.calls import Text
from limbeck.serving.chat import ChatModel, Question, answer
from limbeck.serving.footprint import gguf_header, llama_bytes, reference_bytes
from limbeck.serving.llama import LlamaReplica
from limbeck.serving.metrics import Metrics
from limbeck.serving.pool import Launch, Launcher, ReplicaPool
from limbeck.serving.reference import ReferenceReplica
from limbeck.settings import Settings

__all__ = ["answer_once", "launcher", "open_pool"]

CONTEXT_TOKENS = 8192
"""The most of a model's context that is hosted: memory for it is taken when a model is loaded, slot by slot."""

PROMPT_CACHE_BYTES = 256 << 20
"""What llama.cpp keeps of prompts that have left their slots; the embedded model's take 23 kB a token."""

STALL_SECONDS = 120.0
"""A replica that says nothing for so long is taken to hang: 8,192 tokens of prompt take 100 s on one core here."""


def open_pool(settings: Settings, metrics: Metrics | None = None) -> ReplicaPool:
    """The pool of an installation, as its settings size it. Close it."""
    start = _launcher(settings, settings.slots, settings.logs)
    return ReplicaPool(start, memory_bytes=settings.memory_bytes, idle_seconds=settings.idle_seconds, metrics=metrics)


async def answer_once(source: ModelSource, question: Question, settings: Settings) -> AsyncGenerator[str, None]:
    """The words of one answer, piece by piece, by a model that is hosted for it alone and ends with it.

    Raises `InvalidInput` for a question that the model does not take, `ModelFailed` where it cannot be hosted.
    """
    prepared = ChatModel(source).prepare(question)
    launch = await asyncio.to_thread(_launcher(settings, 1, None), source)
    replica = await launch.start()
    try:
        async for event in answer(replica, prepared, time.monotonic()):
            if isinstance(event, Text):
                yield event.text
    finally:
        await replica.close()


def _launcher(settings: Settings, slots: int, logs: Path | None) -> Launcher:
    return launcher(
        lambda source: gguf_of(source, settings),
        home=settings.home,
        slots=slots,
        threads=settings.threads,
        logs=logs,
    )


def launcher(
    find_gguf: Callable[[ModelSource], Path | None],
    *,
    home: Path,
    slots: int,
    threads: int,
    context_tokens: int = CONTEXT_TOKENS,
    stall_seconds: float = STALL_SECONDS,
    logs: Path | None = None,
) -> Launcher:
    """What a pool needs to host models.

    ``find_gguf`` finds a model's GGUF file, or makes it; None if llama.cpp cannot host it. ``slots`` is how many
    answers a replica writes at once, ``threads`` how many it computes with, and ``logs`` a folder for what its
    process prints.
    """

    def launch(source: ModelSource) -> Launch:
        name = re.sub(r"[^\w.-]+", "-", source.id)
        log = None if logs is None else logs / f"{name}.log"
        gguf = find_gguf(source)
        if gguf is None:
            return Launch(
                reference_bytes(source.path),
                slots,
                lambda: ReferenceReplica.start(
                    source.id,
                    home=home,
                    context_tokens=context_tokens,
                    threads=threads,
                    stall_seconds=stall_seconds,
                    log=log,
                ),
            )
        header = gguf_header(gguf)
        context = min(context_tokens, header.context_tokens)
        return Launch(
            llama_bytes(gguf, header, slots, context, PROMPT_CACHE_BYTES),
            slots,
            lambda: LlamaReplica.start(
                gguf,
                what=source.id,
                slots=slots,
                context_tokens=context,
                threads=threads,
                prompt_cache_bytes=PROMPT_CACHE_BYTES,
                stall_seconds=stall_seconds,
                log=log,
            ),
        )

    return launch
