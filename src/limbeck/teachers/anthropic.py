"""Claude, through Anthropic's own SDK (extra `anthropic`).

The SDK signs, speaks and names errors; trying again, time and money are `remote`'s affair, so it is told not to retry
and to look for nothing in the environment. Its messages tell no log-probabilities: answers are text alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from limbeck.errors import InvalidInput
from limbeck.recipe import Teacher
from limbeck.records import Answer, FinishReason, GenerationSettings, Question, digest
from limbeck.teachers.endpoint import Failure, Reply, Usage, most_tokens
from limbeck.teachers.openai import check_model
from limbeck.teachers.post import KEY_NAMED, Received, checked, key_from

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

__all__ = ["AnthropicEndpoint"]

ADDRESS = "https://api.anthropic.com"
KEY = "ANTHROPIC_API_KEY"
WAYS_OUT: Mapping[int, str] = {
    401: KEY_NAMED,
    403: KEY_NAMED,
    404: "expected a model it has, and the address before /v1/messages",
}
TEXT_ONLY = "Anthropic's API tells no log-probabilities"
ENDS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "filtered",
}


class AnthropicEndpoint:
    """One model of Anthropic's."""

    reads = False
    reading = ""
    place = "over the network"

    def __init__(self, teacher: Teacher) -> None:
        """Raises `InvalidInput` where the SDK or the key is missing."""
        try:
            import anthropic  # an extra, and a second of start-up
        except ImportError:
            raise InvalidInput("teacher.via: anthropic needs the extra: pip install 'limbeck[anthropic]'") from None
        self._sdk = anthropic
        self._teacher = teacher
        self._address = teacher.endpoint or ADDRESS
        self._key = key_from(teacher.key or KEY)
        self._client: AsyncAnthropic | None = None
        self.id = f"{teacher.model} at {self._address}"
        self.fingerprint = digest(
            {"via": "anthropic", "endpoint": self._address, "model": teacher.model, "options": teacher.options}
        )

    def alone(self) -> None:
        """See `Endpoint.alone`."""

    async def open(self, questions: Sequence[Question], settings: GenerationSettings) -> None:
        """See `Endpoint.open`."""
        times = self._teacher.timeouts
        timeout = self._sdk.Timeout(times.first_byte or times.whole, connect=times.connect)
        self._client = self._sdk.AsyncAnthropic(
            api_key=self._key,
            base_url=self._address,
            max_retries=0,
            timeout=timeout,
            http_client=self._sdk.DefaultAsyncHttpxClient(trust_env=False, follow_redirects=False, timeout=timeout),
        )

    async def close(self) -> None:
        """See `Endpoint.close`."""
        if self._client is not None:
            await self._client.close()

    def most(self, question: Question, settings: GenerationSettings) -> Usage:
        """See `Endpoint.most`."""
        return most_tokens(question, settings)

    async def ask(self, question: Question, settings: GenerationSettings) -> Reply:
        """See `Endpoint.ask`."""
        assert self._client is not None, "open comes first"
        try:
            answered = await self._client.messages.with_raw_response.create(**self._body(question, settings))
        except self._sdk.APITimeoutError:
            raise Failure("no answer within the time-out", used=None) from None
        except self._sdk.APIStatusError as error:
            received = Received(error.status_code, dict(error.response.headers), error.response.content)
            checked(received, self._address, self._key, WAYS_OUT)
            raise Failure(f"status {error.status_code}", used=None) from None
        except self._sdk.APIConnectionError as error:
            raise Failure(f"the connection broke ({error.__cause__ or error})", used=None) from None
        try:
            value = json.loads(answered.http_response.content)
        except (ValueError, RecursionError):
            raise Failure("its answer is no JSON", used=None, bad_reply=True) from None
        return self._read(value, settings)

    def _body(self, question: Question, settings: GenerationSettings) -> dict[str, Any]:
        conversation = question.conversation
        more: dict[str, Any] = {"temperature": settings.temperature}
        if conversation.system is not None:
            more["system"] = conversation.system
        if settings.temperature > 0 and settings.top_p < 1:
            more["top_p"] = settings.top_p
        more |= self._teacher.options
        return {
            "model": self._teacher.model,
            "max_tokens": settings.max_tokens,
            "messages": [{"role": m.role, "content": m.text} for m in conversation.turns],
            "extra_body": {key: value for key, value in more.items() if value is not None},
        }

    def _read(self, value: Any, settings: GenerationSettings) -> Reply:
        told = value.get("usage") if isinstance(value, Mapping) else None
        usage = None
        try:
            counts = [int(told[name] or 0) for name in PROMPT_COUNTS if name in told]  # type: ignore[operator,index]
            usage = Usage(sum(counts), int(told["output_tokens"]))  # type: ignore[index]
            text = "".join(block["text"] for block in value["content"] if block["type"] == "text")
            text.encode()  # which a lone surrogate cannot be
            end, model = ENDS[value["stop_reason"]], value["model"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Failure(f"its answer lacks or spoils something: {error!r}", usage, bad_reply=True) from None
        check_model(model, self._teacher, self._key, usage)
        if usage.response_tokens > settings.max_tokens:
            raise Failure(f"it wrote {usage.response_tokens} tokens of {settings.max_tokens}", usage, bad_reply=True)
        answer = Answer(text, (), end, usage.prompt_tokens, None, usage.response_tokens)
        return Reply(answer, usage, TEXT_ONLY if settings.top_k_captured else "")


PROMPT_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
"""What a prompt's tokens are counted under."""
