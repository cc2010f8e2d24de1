"""A replica that is transformers: for models that llama.cpp does not know, and to compare it with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from limbeck.errors import InvalidInput
from limbeck.inference.process import Process
from limbeck.serving.base import Generate
from limbeck.serving.completion import CompletionReplica

__all__ = ["ReferenceReplica"]

MODULE = "limbeck.serving.reference_process"


class ReferenceReplica(CompletionReplica):
    """transformers, with one model in 32-bit floats."""

    @classmethod
    async def start(
        cls,
        model: str,
        *,
        home: Path,
        context_tokens: int,
        threads: int,
        stall_seconds: float,
        log: Path | None = None,
    ) -> ReferenceReplica:
        """Load ``model`` (a name for `catalog.find` in ``home``) in a process of its own. Raises `ModelFailed`."""
        settings = {"model": model, "home": str(home), "context_tokens": context_tokens, "threads": threads}
        return cls(await Process.start(MODULE, model, settings, log), stall_seconds)

    async def _request(self, asked: Generate) -> dict[str, Any]:
        wanted = {
            "a JSON schema": asked.json_schema is not None,
            "a grammar": asked.grammar is not None,
            "top_k": asked.top_k > 0,
        }
        for what, given in wanted.items():
            if given:
                raise InvalidInput(
                    f"{self.process.what}: {what} was given; only models hosted by llama.cpp follow one,"
                    " and this one is hosted by transformers"
                )
        return await super()._request(asked)
