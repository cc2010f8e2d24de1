"""How an answer's format is asked for: OpenAI's ``response_format``, and ``structured_outputs`` of imported models."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from limbeck.wire.bodies.base import Body

__all__ = ["ResponseFormat", "StructuredOutputs"]


class ResponseFormat(Body):
    """``response_format``."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None
    """OpenAI wraps the schema in ``{"name": …, "schema": …}``; imported models on Bedrock take it bare too."""

    @model_validator(mode="after")
    def _has_its_schema(self) -> ResponseFormat:
        if self.type == "json_schema" and not isinstance(self._bare, dict):
            raise ValueError("json_schema: expected a JSON schema")
        return self

    @property
    def _bare(self) -> Any:
        found = self.json_schema or {}
        return found["schema"] if "name" in found and "schema" in found else found or None

    @property
    def schema_asked(self) -> dict[str, Any] | None:
        """The JSON schema the answer is held to."""
        if self.type == "json_schema":
            return dict(self._bare)
        return {"type": "object"} if self.type == "json_object" else None


class StructuredOutputs(Body):
    """``structured_outputs``: one of these. Regular expressions are not among them."""

    json_asked: Annotated[dict[str, Any] | None, Field(alias="json")] = None
    choice: Annotated[tuple[str, ...] | None, Field(min_length=1)] = None
    grammar: str | None = None

    @model_validator(mode="after")
    def _is_one(self) -> StructuredOutputs:
        if sum(one is not None for one in (self.json_asked, self.choice, self.grammar)) != 1:
            raise ValueError("expected exactly one of json, choice, grammar")
        return self

    @property
    def grammar_asked(self) -> str | None:
        """In llama.cpp's GBNF, whose literals are escaped as JSON's strings are."""
        if self.choice is not None:
            return "root ::= " + " | ".join(json.dumps(one, ensure_ascii=False) for one in self.choice)
        return self.grammar
