"""Any service that speaks OpenAI's chat completions: vLLM, Ollama, llama.cpp's server, LM Studio, the vendors.

    POST {endpoint}/chat/completions   {"model", "messages", "max_tokens", "temperature", …}

An answer is read with distrust: what it lacks, or has in another form, makes a `Failure`, and what it says it used is
believed within reason. Checked against OpenAI's reference, vLLM's `protocol.py` and llama.cpp's `tools/server`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, NoReturn

import aiohttp

from limbeck.errors import InvalidInput
from limbeck.recipe import Teacher
from limbeck.records import Answer, FinishReason, GenerationSettings, Question, SoftLabels, digest
from limbeck.teachers.endpoint import Failure, Reply, Usage, most_tokens
from limbeck.teachers.labels import Labels, Unmatched
from limbeck.teachers.post import KEY_NAMED, checked, key_from, post, session, shown

__all__ = ["OpenAIEndpoint", "check_model"]

MOST_COUNTED = 1 << 31
"""No answer has so many tokens; a service that says so does not know."""
ENDS: Mapping[str, FinishReason] = {"stop": "stop", "length": "length", "content_filter": "filtered"}
WAYS_OUT: Mapping[int, str] = {
    401: KEY_NAMED,
    403: KEY_NAMED,
    404: "expected the address before /chat/completions, and a model it has",
}


class OpenAIEndpoint:
    """One model of one service."""

    reads = False
    place = "over the network"

    def __init__(self, teacher: Teacher, labels: Labels | None = None) -> None:
        """``labels`` reads log-probabilities; without it none are asked. Raises `InvalidInput` if a key is missing."""
        assert teacher.endpoint is not None, "the recipe's own check sees to this"
        self._teacher, self._labels = teacher, labels
        self._key = key_from(teacher.key)
        self._url = f"{teacher.endpoint}/chat/completions"
        self._length_field = "max_tokens"
        self._session: aiohttp.ClientSession | None = None
        self.id = f"{teacher.model} at {teacher.endpoint}"
        self.reading = digest([labels.digest, teacher.top_logprobs]) if labels else ""
        self.fingerprint = digest(
            {"via": "openai", "endpoint": teacher.endpoint, "model": teacher.model, "options": teacher.options}
        )

    def alone(self) -> None:
        """See `Endpoint.alone`."""

    async def open(self, questions: Sequence[Question], settings: GenerationSettings) -> None:
        """See `Endpoint.open`."""
        headers = {} if self._key is None else {"Authorization": f"Bearer {self._key}"}
        self._session = session(self._teacher.timeouts, headers)

    async def close(self) -> None:
        """See `Endpoint.close`."""
        if self._session is not None:
            await self._session.close()

    def most(self, question: Question, settings: GenerationSettings) -> Usage:
        """See `Endpoint.most`."""
        return most_tokens(question, settings)

    async def ask(self, question: Question, settings: GenerationSettings) -> Reply:
        """See `Endpoint.ask`."""
        assert self._session is not None, "open comes first"
        try:
            received = await post(self._session, self._url, self._body(question, settings))
            value = checked(received, self._url, self._key, WAYS_OUT)
        except InvalidInput as refusal:
            # OpenAI's newer models know the limit by another name only, and say so.
            if self._length_field == "max_tokens" and "max_completion_tokens" in str(refusal):
                self._length_field = "max_completion_tokens"
                return await self.ask(question, settings)
            raise
        return self._read(value, settings)

    def _candidates(self, settings: GenerationSettings) -> int:
        return min(settings.top_k_captured, self._teacher.top_logprobs) if self._labels else 0

    def _body(self, question: Question, settings: GenerationSettings) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._teacher.model,
            "messages": [{"role": m.role, "content": m.text} for m in question.conversation.messages],
            self._length_field: settings.max_tokens,
            "temperature": settings.temperature,
        }
        if settings.temperature > 0:
            body |= {"top_p": settings.top_p, "seed": settings.seed}
        if self._candidates(settings):
            body |= {"logprobs": True, "top_logprobs": self._candidates(settings)}
        body |= self._teacher.options
        return {key: value for key, value in body.items() if value is not None}

    def _read(self, value: Any, settings: GenerationSettings) -> Reply:
        usage = _usage(value)

        def unusable(why: str) -> NoReturn:
            raise Failure(why, usage, bad_reply=True)

        if not isinstance(value, Mapping):
            unusable("its answer is no JSON object")
        if "error" in value and not value.get("choices"):
            unusable(f"its answer is an error: {shown(str(value['error']), self._key)}")
        check_model(value.get("model"), self._teacher, self._key, usage)
        choices = value.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
            unusable("its answer has no choices")
        choice = choices[0]
        message = choice.get("message")
        if not isinstance(message, Mapping):
            unusable("its answer has no message")
        text = message.get("content")
        if text is None:
            text = message.get("refusal") or ""
        if not isinstance(text, str) or _has_surrogates(text):
            unusable("its answer's content is no text")
        reason = choice.get("finish_reason")
        end = ENDS.get(reason) if isinstance(reason, str) else None
        if end is None:
            unusable(f'its answer ended with "{shown(str(reason), self._key)}"; expected stop or length')
        if usage is not None and usage.response_tokens > settings.max_tokens:
            unusable(f"it wrote {usage.response_tokens} tokens; it was asked for at most {settings.max_tokens}")
        token_ids, soft, text_only = self._soft_labels(choice.get("logprobs"), text, end == "stop", settings)
        answer = Answer(
            text,
            token_ids,
            end,
            usage.prompt_tokens if usage else 0,
            soft,
            usage.response_tokens if usage else None,
        )
        return Reply(answer, usage, text_only)

    def _soft_labels(
        self, told: Any, text: str, ended: bool, settings: GenerationSettings
    ) -> tuple[tuple[int, ...], SoftLabels | None, str]:
        if not settings.top_k_captured:
            return (), None, ""
        if self._labels is None:
            return (), None, "there is no tokenizer to read its log-probabilities by"
        try:
            token_ids, soft = self._labels.read(told, text, ended, self._candidates(settings))
        except Unmatched as why:
            return (), None, str(why)
        return token_ids, soft, ""


def check_model(found: Any, teacher: Teacher, secret: str | None, usage: Usage | None) -> None:
    """Refuse the answer of another model: a server that hosts one may give it to whatever name it is asked by.

    Raises `Failure`. A service that does not say who answered is believed.
    """
    asked = teacher.answers_as or teacher.model
    if found is None or (isinstance(found, str) and _is_model(found, asked)):
        return
    raise Failure(
        f'"{shown(str(found), secret)}" answered; expected "{asked}"; if that is the one you mean, say'
        " teacher.answers_as",
        usage,
        bad_reply=True,
    )


def _is_model(found: str, asked: str) -> bool:
    """Whether a name is the one asked for, a dated version of it, or the path of its file."""
    dated = re.fullmatch(rf"{re.escape(asked)}(?:[-@:]\d{{4,}}[\d-]*|:latest)", found)
    return found == asked or dated is not None or PurePath(found).name == asked


def _usage(value: Any) -> Usage | None:
    told = value.get("usage") if isinstance(value, Mapping) else None
    if not isinstance(told, Mapping):
        return None
    counts = [told.get(name) for name in ("prompt_tokens", "completion_tokens")]
    if all(type(count) is int and 0 <= count < MOST_COUNTED for count in counts):
        return Usage(*counts)  # type: ignore[arg-type]
    return None


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text)
