"""Who answers: here or behind an address, at what price, within what budget; or several, of whom the best is to."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from limbeck.recipe.section import Section

__all__ = ["INCIDENTAL", "REMOTE", "TEXT_ALONE", "Budget", "Prices", "Teacher", "Timeouts", "Trial", "Via"]


INCIDENTAL = ("key", "concurrency", "attempts", "timeout", "prices", "budget", "answers_as")
"""Keys of a teacher that change no answer."""


class Prices(Section):
    """US dollars for 1,000 tokens."""

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]

    def cost(self, input_tokens: float, output_tokens: float) -> float:
        """US dollars for that many tokens."""
        return (self.input * input_tokens + self.output * output_tokens) / 1000


class Budget(Section):
    """What a teacher over the network may use; it is not asked where the next request could exceed a cap."""

    tokens: Annotated[int, Field(ge=1)] | None = None
    """Of the whole job, prompts and answers."""
    usd: Annotated[float, Field(gt=0)] | None = None
    """Of the whole job, in US dollars; needs prices."""
    request_tokens: Annotated[int, Field(ge=1)] | None = None
    """Of one request."""
    request_usd: Annotated[float, Field(gt=0)] | None = None


class Timeouts(Section):
    """Seconds one request may take."""

    connect: Annotated[float, Field(gt=0)] = 10.0
    first_byte: Annotated[float, Field(gt=0)] | None = None
    """Also the longest silence later on; an answer comes in one piece, so this is about `whole`, its default."""
    whole: Annotated[float, Field(gt=0)] = 300.0


Via = Literal["transformers", "llama.cpp", "openai", "anthropic", "bedrock"]


REMOTE: tuple[Via, ...] = ("openai", "anthropic", "bedrock")
"""Teachers that are asked over the network."""


TEXT_ALONE: tuple[Via, ...] = ("anthropic", "bedrock")
"""Those among them that never tell distributions."""


class Teacher(Section):
    """Who answers, and by what way. All but `model` and `via` are for teachers over the network."""

    model: Annotated[str, Field(min_length=1)]
    """A catalog id, a registered model's name, a folder in Hugging Face layout, a GGUF file; a service's own name."""
    via: Via = "transformers"
    """`openai` is any endpoint that speaks OpenAI's chat completions, and what an `endpoint` alone means."""
    endpoint: str | None = None
    """The address of the service, for example http://127.0.0.1:8000/v1."""
    key: str | None = None
    """The name of the environment variable that holds the key; never the key."""
    region: str | None = None
    """Of Amazon Bedrock."""
    answers_as: str | None = None
    """What the service calls the model in its answers, where that is not `model`."""
    tokenizer: str | None = None
    """A model whose tokenizer is the teacher's, to read its log-probabilities by; by default the student."""
    top_logprobs: Annotated[int, Field(ge=1, le=1024)] = 20
    """The most candidates the service tells at a position: 20 at OpenAI and by vLLM's default."""
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 8
    """Requests under way at once."""
    attempts: Annotated[int, Field(ge=1, le=100)] = 6
    """How often a question is asked at most, when the service fails."""
    timeout: Annotated[float, Field(gt=0)] | Timeouts = Timeouts()
    """Seconds a request may take, or `connect`, `first_byte` and `whole` apart."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request's body; null takes one out."""
    prices: Prices | None = None
    """By default the catalog's."""
    budget: Budget = Budget()

    @model_validator(mode="before")
    @classmethod
    def _an_endpoint_speaks_openai(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("endpoint") and "via" not in values:
            return {**values, "via": "openai"}
        return values

    @field_validator("key", mode="before")
    @classmethod
    def _a_name_is_no_key(cls, value: Any) -> Any:
        # Never shown: it may be the key itself.
        if value is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(value)):
            raise ValueError(
                "expected the name of an environment variable that holds the key, for example OPENAI_API_KEY"
            )
        return value

    @field_validator("options")
    @classmethod
    def _sent_as_json(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(value)
        except TypeError as error:  # YAML has dates, for one
            raise ValueError(f"{error}; expected what JSON has, text in quotes") from None
        return value

    @field_validator("endpoint", mode="before")
    @classmethod
    def _an_address(cls, value: Any) -> Any:
        if value is not None and not re.fullmatch(r"https?://[^\s/@?#]+(?:/[^\s@?#]*)?", str(value)):
            raise ValueError("expected http://HOST:PORT/PATH or https://…, without user, password or query")
        return value if value is None else str(value).rstrip("/")

    @model_validator(mode="after")
    def _whole(self) -> Teacher:
        if self.via == "openai" and self.endpoint is None:
            raise ValueError("endpoint: missing; expected the address of an OpenAI-compatible service")
        if self.via not in REMOTE:
            network = ("endpoint", "key", "region", "answers_as", "tokenizer", "options")
            stray = [name for name in network if getattr(self, name)]
            if stray:
                raise ValueError(
                    f"{', '.join(stray)}: of no use with via: {self.via}; expected via: {', '.join(REMOTE)}"
                )
            if self.budget != Budget():
                raise ValueError(
                    f"budget: with via: {self.via} it is asked on this machine, where no cap is kept; drop it, or"
                    f" expected via: {', '.join(REMOTE)}"
                )
        return self

    @property
    def remote(self) -> bool:
        """Whether it is asked over the network."""
        return self.via in REMOTE

    @property
    def timeouts(self) -> Timeouts:
        """`timeout` with its parts."""
        return self.timeout if isinstance(self.timeout, Timeouts) else Timeouts(whole=self.timeout)


class Trial(Section):
    """Several teachers are tried on a sample, and the best of them teaches."""

    teachers: Annotated[tuple[Teacher, ...], Field(min_length=2, max_length=16)]
    """Each as `teacher` is given, or by its name alone."""
    rows: Annotated[int, Field(ge=1, le=1000)] = 30
    """Prompts of the sample: labelled ones if there are any."""
    judge: Teacher | None = None
    """Who marks the answers where there are no labels."""

    @field_validator("teachers", mode="before")
    @classmethod
    def _names_alone(cls, values: Any) -> Any:
        named = isinstance(values, list | tuple)
        return [{"model": value} if isinstance(value, str) else value for value in values] if named else values

    @field_validator("teachers")
    @classmethod
    def _different(cls, teachers: tuple[Teacher, ...]) -> tuple[Teacher, ...]:
        names = [teacher.model for teacher in teachers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)}: named twice; expected different teachers")
        return teachers
