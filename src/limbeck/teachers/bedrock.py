"""A model of Amazon Bedrock (or of Limbeck's own service), through boto3 (extra `bedrock`).

Converse speaks to every text model in one form. Keys are AWS's own affair: the environment, a profile, a role, as boto3
finds them. boto3 waits in threads, a thread a request under way; it is told not to try again, which `remote` does. Its
answers tell no log-probabilities: they are text alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import botocore.exceptions
from botocore.config import Config

from limbeck.errors import AccessDenied, InvalidInput
from limbeck.recipe import Teacher
from limbeck.records import Answer, FinishReason, GenerationSettings, Question, digest
from limbeck.teachers.endpoint import Failure, Reply, Usage, most_tokens
from limbeck.teachers.post import Received, checked

__all__ = ["BedrockEndpoint"]

WAYS_OUT: Mapping[int, str] = {
    403: "AWS_ACCESS_KEY_ID and its like say who asks; they need leave to invoke the model",
    404: "expected a model of that region, or what else Converse takes as modelId",
}
LIMITS = ("maxTokens", "temperature", "topP")
"""What an option is called that stands in `inferenceConfig`."""
TEXT_ONLY = "Amazon Bedrock tells no log-probabilities"
ENDS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "content_filtered": "filtered",
    "guardrail_intervened": "filtered",
    "model_context_window_exceeded": "length",
}
MODEL_ERROR = 424
"""ModelErrorException: the model broke off, and may not the next time."""


class BedrockEndpoint:
    """One model, or what else a ``modelId`` stands for."""

    reads = False
    reading = ""
    place = "over the network"

    def __init__(self, teacher: Teacher) -> None:
        """Raises `InvalidInput` where boto3 or a region is missing."""
        try:
            import boto3  # an extra; the service's own description of itself, botocore, is not
        except ImportError:
            raise InvalidInput("teacher.via: bedrock needs the extra: pip install 'limbeck[bedrock]'") from None
        self._teacher = teacher
        times = teacher.timeouts
        config = Config(
            connect_timeout=times.connect,
            read_timeout=times.first_byte or times.whole,
            retries={"total_max_attempts": 1},
            max_pool_connections=teacher.concurrency,
            proxies={},
            ignore_configured_endpoint_urls=True,
        )
        try:
            self._client: Any = boto3.client(
                "bedrock-runtime", region_name=teacher.region, endpoint_url=teacher.endpoint, config=config
            )
        except botocore.exceptions.BotoCoreError as error:
            raise InvalidInput(f"teacher: {error}; teacher.region names one") from None
        place = teacher.endpoint or f"Amazon Bedrock in {self._client.meta.region_name}"
        self.id = f"{teacher.model} at {place}"
        self.fingerprint = digest(
            {"via": "bedrock", "endpoint": place, "model": teacher.model, "options": teacher.options}
        )

    def alone(self) -> None:
        """See `Endpoint.alone`."""

    async def open(self, questions: Sequence[Question], settings: GenerationSettings) -> None:
        """See `Endpoint.open`."""

    async def close(self) -> None:
        """See `Endpoint.close`."""

    def most(self, question: Question, settings: GenerationSettings) -> Usage:
        """See `Endpoint.most`."""
        return most_tokens(question, settings)

    async def ask(self, question: Question, settings: GenerationSettings) -> Reply:
        """See `Endpoint.ask`."""
        loop = asyncio.get_running_loop()
        replied: asyncio.Future[Reply] = loop.create_future()

        def tell(how: Callable[[Any], None], what: Any) -> None:
            if not replied.done():  # nobody waits any more
                how(what)

        def work() -> None:
            try:
                told = partial(tell, replied.set_result, self._ask(question, settings))
            except Exception as error:
                told = partial(tell, replied.set_exception, error)
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(told)

        # Not of a pool: its threads are waited for when the process ends, and a request may take minutes.
        threading.Thread(target=work, name="bedrock", daemon=True).start()
        return await replied

    def _ask(self, question: Question, settings: GenerationSettings) -> Reply:
        unsure = botocore.exceptions
        try:
            value = self._client.converse(**self._body(question, settings))
        except unsure.ClientError as error:
            raise self._failure(error) from None
        except (unsure.EndpointConnectionError, unsure.ConnectTimeoutError) as error:
            raise Failure(str(error)) from None
        except (unsure.NoCredentialsError, unsure.CredentialRetrievalError, unsure.TokenRetrievalError) as error:
            raise AccessDenied(f"{self.id}: {error}; AWS_ACCESS_KEY_ID and its like say who asks") from None
        except unsure.ParamValidationError as error:
            raise InvalidInput(f"{self.id}: {error}") from None
        except unsure.BotoCoreError as error:
            raise Failure(str(error), used=None) from None
        return self._read(value, settings)

    def _body(self, question: Question, settings: GenerationSettings) -> dict[str, Any]:
        conversation = question.conversation
        limits: dict[str, Any] = {"maxTokens": settings.max_tokens, "temperature": settings.temperature}
        if settings.temperature > 0 and settings.top_p < 1:
            limits["topP"] = settings.top_p
        options = self._teacher.options
        limits |= {name: options[name] for name in LIMITS if name in options}
        more = {name: value for name, value in options.items() if name not in LIMITS and value is not None}
        body: dict[str, Any] = {
            "modelId": self._teacher.model,
            "messages": [{"role": m.role, "content": [{"text": m.text}]} for m in conversation.turns],
            "inferenceConfig": {name: value for name, value in limits.items() if value is not None},
        }
        if conversation.system is not None:
            body["system"] = [{"text": conversation.system}]
        if more:
            body["additionalModelRequestFields"] = more
        return body

    def _failure(self, error: botocore.exceptions.ClientError) -> Exception:
        """What a refusal stands for: the status says whether it may pass."""
        facts = error.response.get("ResponseMetadata", {})
        status, headers = int(facts.get("HTTPStatusCode", 500)), facts.get("HTTPHeaders", {})
        if status in (200, MODEL_ERROR):
            return Failure(str(error), used=None)
        try:
            checked(Received(status, headers, str(error).encode()), self.id, None, WAYS_OUT)
        except Exception as found:
            return found
        raise AssertionError("only status 200 is none of these")

    def _read(self, value: Mapping[str, Any], settings: GenerationSettings) -> Reply:
        usage = None
        try:
            usage = Usage(value["usage"]["inputTokens"], value["usage"]["outputTokens"])
            text = "".join(block.get("text", "") for block in value["output"]["message"]["content"])
            text.encode()  # which a lone surrogate cannot be
            end = ENDS[value["stopReason"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Failure(f"its answer lacks or spoils something: {error!r}", usage, bad_reply=True) from None
        if usage.response_tokens > settings.max_tokens:
            raise Failure(f"it wrote {usage.response_tokens} tokens of {settings.max_tokens}", usage, bad_reply=True)
        answer = Answer(text, (), end, usage.prompt_tokens, None, usage.response_tokens)
        return Reply(answer, usage, TEXT_ONLY if settings.top_k_captured else "")
