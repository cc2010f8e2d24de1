"""What every section of a recipe is: frozen, and closed to keys it does not know."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["Name", "Section", "Seed", "Share", "like"]


Share = Annotated[float, Field(ge=0.0, lt=1.0)]

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What every generator of random numbers takes."""


def like(pattern: str, words: str) -> AfterValidator:
    """Text that ``pattern`` matches from beginning to end; what is expected is said in ``words``."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f'found "{value}"; expected {words}')
        return value

    return AfterValidator(check)


NAME = "letters and digits, with a single - or _ after any, 63 characters at most"
Name = Annotated[str, like(r"(?=.{1,63}$)(?:[0-9a-zA-Z][_-]?)+", NAME)]


class Section(BaseModel):
    """Keys with their meaning, checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
