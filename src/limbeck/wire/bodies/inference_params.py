"""What an evaluation says of how its model is asked: ``inferenceParams``, a text of JSON.

{"inferenceConfig": {"maxTokens": 512, "temperature": 0.0, "topP": 1.0}}        or those members alone
"""

from __future__ import annotations

import json

from pydantic import AliasChoices, ConfigDict, Field

from limbeck.errors import InvalidInput
from limbeck.serving.chat import Sampling
from limbeck.wire.bodies.base import Body, told_at_once

__all__ = ["sampling_of"]


class InferenceParams(Body):
    """Members under Converse's names, or under those of native bodies; others are for other models."""

    model_config = ConfigDict(extra="ignore")

    max_tokens: int = Field(512, ge=1, validation_alias=AliasChoices("maxTokens", "max_tokens"))
    temperature: float = Field(0.0, ge=0, le=1)
    top_p: float = Field(1.0, ge=0, le=1, validation_alias=AliasChoices("topP", "top_p"))


def sampling_of(params: str | None) -> Sampling:
    """How the model is asked: greedily, unless ``params`` says otherwise. Raises `InvalidInput` with every fault."""
    try:
        given = json.loads(params or "{}")
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise InvalidInput(
            f'inferenceParams: found "{(params or "")[:200]}"; expected JSON such as {{"maxTokens": 256}}'
        )
    with told_at_once("inferenceParams"):
        said = InferenceParams.model_validate(given.get("inferenceConfig", given))
    return Sampling(max_tokens=said.max_tokens, temperature=said.temperature, top_p=said.top_p, seed=0)
