"""A GGUF file as teacher: llama.cpp in a process of its own, which ends with the answers.

Prompts are rendered and tokenized here, by the file's own tokenizer, and llama.cpp's `/completion` takes and gives
token ids, so its distributions are over exactly the file's tokens. It tells one of them for a character of several
tokens; an answer with such a character is read again, token by token, as every label is that a row brings: each token
is asked for after those before it, with another forced in its place so that something is always told.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from limbeck.errors import InvalidInput, ModelFailed, TeacherFailed
from limbeck.inference.process import Process
from limbeck.models.chat import Renderer
from limbeck.models.token_bytes import TokenBytes
from limbeck.models.tokenizer import Tokenizer
from limbeck.recipe import Timeouts
from limbeck.records import Answer, GenerationSettings, Question, SoftLabels, digest
from limbeck.storage.workspace import file_digest
from limbeck.teachers.endpoint import Failure, Reply, Usage
from limbeck.teachers.labels import tail
from limbeck.teachers.post import checked, post, session

__all__ = ["LlamaEndpoint"]

MODULE = "limbeck.inference.llama_process"
SEED_MASK = 0x7FFF_FFFF
"""llama.cpp takes 32 bits, and reads the highest of them all set as "any seed"."""
FORCING = 1e4
"""Added to the logit of a token that is to be chosen. The log-probabilities told are from before it."""
PATIENCE = Timeouts(whole=3600.0)
"""On one's own machine a long answer in a long queue may take long."""
LEAST_CONTEXT = 256


class LlamaEndpoint:
    """One GGUF file."""

    reads = True
    reading = ""
    place = "by llama.cpp"

    def __init__(self, name: str, gguf: Path, slots: int, threads: int) -> None:
        """``slots`` answers are written at once. Raises `InvalidInput` for a tokenizer that cannot be read."""
        self._gguf, self._slots, self._threads = gguf, slots, threads
        self.renderer = Renderer(Tokenizer.open(gguf))
        names = TokenBytes(self.renderer.tokenizer).bytes_of
        self._whole = next(token for token, stands_for in sorted(names.items()) if stands_for.isalpha())
        self._process: Process | None = None
        self._session: aiohttp.ClientSession | None = None
        self.id = name
        self.fingerprint = digest({"via": "llama.cpp", "gguf": file_digest(gguf)})

    def alone(self) -> LlamaEndpoint:
        """See `Endpoint.alone`."""
        made = copy.copy(self)  # the file need not be read again
        made._slots = 1
        return made

    async def open(self, questions: Sequence[Question], settings: GenerationSettings) -> None:
        """See `Endpoint.open`. The context is as long as the longest of them needs."""
        most = max(self.most(question, settings).tokens for question in questions)
        told = {
            "gguf": str(self._gguf),
            "slots": self._slots,
            "context_tokens": max(LEAST_CONTEXT, most + 8),
            "threads": self._threads,
            "prompt_cache_bytes": 0,
        }
        try:
            self._process = await Process.start(MODULE, self.id, told, None)
        except ModelFailed as error:
            raise TeacherFailed(str(error)) from None
        self._session = session(PATIENCE, {"Authorization": f"Bearer {self._process.key}"})

    async def close(self) -> None:
        """See `Endpoint.close`."""
        if self._session is not None:
            await self._session.close()
        if self._process is not None:
            await self._process.close()

    def most(self, question: Question, settings: GenerationSettings) -> Usage:
        """See `Endpoint.most`. Exact for the prompt."""
        own = 0 if question.completion is None else len(self.renderer.response(question.completion))
        return Usage(len(self.renderer.prompt(question.conversation)), max(settings.max_tokens, own))

    async def ask(self, question: Question, settings: GenerationSettings) -> Reply:
        """See `Endpoint.ask`."""
        prompt = self.renderer.prompt(question.conversation)
        if question.completion is not None:
            tokens, reason = self.renderer.response(question.completion), "stop"
            soft = await self._read(prompt, tokens, settings.top_k_captured)
        else:
            told = await self._complete(self._body(prompt, settings))
            tokens = list(told["tokens"])
            reason = "stop" if told["stop_type"] == "eos" else "length"
            rows = told.get("completion_probabilities", [])
            if settings.top_k_captured and len(rows) != len(tokens):
                soft = await self._read(prompt, tokens, settings.top_k_captured)
            else:
                soft = _soft_labels(rows) if settings.top_k_captured else None
        text = question.completion or self.renderer.text(tokens)
        answer = Answer(text, tuple(tokens), reason, len(prompt), soft)  # type: ignore[arg-type]
        return Reply(answer, Usage(len(prompt), len(tokens)))

    def _body(self, prompt: Sequence[int], settings: GenerationSettings) -> dict[str, Any]:
        greedy = settings.temperature == 0
        return {
            "prompt": list(prompt),
            "n_predict": settings.max_tokens,
            "samplers": ["top_k"] if greedy else ["top_k", "temperature", "top_p"],
            "temperature": 1.0 if greedy else settings.temperature,
            "top_k": 1 if greedy else 0,
            "top_p": settings.top_p,
            "seed": settings.seed & SEED_MASK,
            "n_probs": settings.top_k_captured,
            "return_tokens": True,
            "cache_prompt": True,
        }

    async def _read(self, prompt: Sequence[int], response: Sequence[int], k: int) -> SoftLabels | None:
        """The distributions before each token of an answer that is there already."""
        if not k:
            return None
        rows = []
        for place in range(len(response)):
            body = {
                "prompt": [*prompt, *response[:place]],
                "n_predict": 1,
                "samplers": ["top_k"],
                "top_k": 1,
                "n_probs": k,
                "logit_bias": [[self._whole, FORCING]],
                "cache_prompt": True,
            }
            rows.append((await self._complete(body))["completion_probabilities"][0])
        return _soft_labels(rows)

    async def _complete(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        assert self._process is not None and self._session is not None, "open comes first"
        if not self._process.alive:
            raise TeacherFailed(str(await self._process.failure()))
        url = f"http://127.0.0.1:{self._process.port}/completion"
        try:
            found: Mapping[str, Any] = checked(await post(self._session, url, body), self.id, self._process.key)
        except Failure:
            if self._process.alive:
                raise
            raise TeacherFailed(str(await self._process.failure())) from None
        except InvalidInput as refusal:
            raise InvalidInput(f"{self.id} refuses a request: {refusal}") from None
        return found


def _soft_labels(rows: Sequence[Mapping[str, Any]]) -> SoftLabels:
    top_ids_TK = np.array([[one["id"] for one in row["top_logprobs"]] for row in rows], np.int32)
    top_logprobs_TK = np.array([[one["logprob"] for one in row["top_logprobs"]] for row in rows], np.float32)
    return SoftLabels(top_ids_TK, top_logprobs_TK, tail(top_logprobs_TK))
