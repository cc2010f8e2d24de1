"""What every section of a recipe is: frozen, and closed to keys it does not know."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Name", "Section", "Seed", "Share"]


Share = Annotated[float, Field(ge=0.0, lt=1.0)]

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What every generator of random numbers takes."""


Name = Annotated[str, Field(max_length=63, pattern=r"^(?:[0-9a-zA-Z][_-]?){1,63}$")]


class Section(BaseModel):
    """Keys with their meaning, checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
