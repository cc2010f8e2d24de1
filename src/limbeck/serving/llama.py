"""A replica that is llama.cpp, from a GGUF file: continuous batching over its slots, prompts cached, grammars."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck.errors import InvalidInput
from limbeck.inference.process import Process
from limbeck.records import digest
from limbeck.serving.base import Generate
from limbeck.serving.completion import CompletionReplica

__all__ = ["LlamaReplica"]

MODULE = "limbeck.inference.llama_process"

COMPACT = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}
"""How an answer held to a schema is written (llguidance, docs/json_schema.md): a small model that may put spaces
between its marks is inclined to write nothing else."""

SCHEMAS_REMEMBERED = 256
"""Schemas known to be understood; more than a service's clients use at a time."""


class LlamaReplica(CompletionReplica):
    """llama.cpp, with one model."""

    def __init__(self, process: Process, stall_seconds: float) -> None:
        super().__init__(process, stall_seconds)
        self._schemas: dict[str, None] = {}
        self._checking = asyncio.Lock()

    @classmethod
    async def start(
        cls,
        gguf: Path,
        *,
        what: str,
        slots: int,
        context_tokens: int,
        threads: int,
        prompt_cache_bytes: int,
        stall_seconds: float,
        log: Path | None = None,
    ) -> LlamaReplica:
        """Load ``gguf`` in a process of its own; ``what`` names the model in messages. Raises `ModelFailed`.

        ``slots`` answers are written at once, each with ``context_tokens`` for prompt and answer;
        ``prompt_cache_bytes`` of memory keep what was read of prompts that have left their slots.
        """
        settings = {
            "gguf": str(gguf),
            "slots": slots,
            "context_tokens": context_tokens,
            "threads": threads,
            "prompt_cache_bytes": prompt_cache_bytes,
        }
        return cls(await Process.start(MODULE, what, settings, log), stall_seconds)

    async def _request(self, asked: Generate) -> dict[str, Any]:
        request = await super()._request(asked)
        if asked.grammar is not None:
            if asked.grammar.startswith("%llguidance"):
                raise InvalidInput("the grammar begins with %llguidance; expected GBNF")
            request["grammar"] = asked.grammar
        elif asked.json_schema is not None:
            schema = {**COMPACT, **asked.json_schema}
            await self._check(schema)
            request["json_schema"] = schema
        return request

    async def _check(self, schema: Mapping[str, Any]) -> None:
        """Raise `InvalidInput` for a schema that llama.cpp does not understand."""
        key = digest(schema)
        if key in self._schemas:
            return
        async with self._checking:  # one at a time: the reason is looked for in the log
            if key not in self._schemas:
                await self._probe(schema)
                if len(self._schemas) >= SCHEMAS_REMEMBERED:
                    del self._schemas[next(iter(self._schemas))]
                self._schemas[key] = None

    async def _probe(self, schema: Mapping[str, Any]) -> None:
        """Find out whether a schema is in force: llama.cpp says only in its log that it goes on without one.

        It is asked for one token, and urged to a letter with which no JSON begins.
        """
        log_bytes = self.process.log_bytes
        request = {
            "prompt": [0],
            "n_predict": 1,
            "samplers": ["top_k"],
            "top_k": 1,
            "logit_bias": [["z", 100.0]],
            "json_schema": schema,
            "cache_prompt": False,
            "stream": True,
        }
        text = "".join([event["content"] async for event in self._events(request)])
        if text.startswith("z"):
            said = [line for line in self.process.last_lines(20, log_bytes) if "llg error" in line]
            reason = said[0].partition("llg error: ")[2] if said else "llama.cpp does not say why"
            raise InvalidInput(f"the JSON schema cannot be followed: {reason}")
