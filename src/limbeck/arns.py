"""Amazon resource names of what Limbeck keeps: made here, and nowhere else.

Every name fits the patterns of the operations that take it, the runtime's included: a custom model's name drops the
version of its base (``:0``), which the runtime's pattern does not know.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from limbeck.records import digest

__all__ = ["Arns", "short_id"]

_UNFIT = re.compile(r"[^a-z0-9-]+")


def short_id(*parts: str) -> str:
    """Twelve of [a-z0-9], the same for the same parts: how AWS ends the name of a resource."""
    return digest(list(parts))[:12]


@dataclass(frozen=True)
class Arns:
    """Names within one region and account."""

    region: str
    account: str

    def foundation_model(self, model_id: str) -> str:
        """A base model: of no account."""
        return f"arn:aws:bedrock:{self.region}::foundation-model/{model_id}"

    def custom_model(self, base_id: str, name: str, fingerprint: str) -> str:
        """A custom model made from ``base_id``."""
        made = base_id.split(":")[0]
        return f"arn:aws:bedrock:{self.region}:{self.account}:custom-model/{made}/{short_id(name, fingerprint)}"

    def resource(self, kind: str, id12: str, base_id: str | None = None) -> str:
        """What the account made: a job, a deployment, an imported model; of ``base_id`` where the form says so."""
        between = "" if base_id is None else f"{base_id}/"
        return f"arn:aws:bedrock:{self.region}:{self.account}:{kind}/{between}{id12}"

    def caller(self, caller: str) -> str:
        """Who asks: a user, or ROLE/SESSION of who took a role."""
        if "/" in caller:
            return f"arn:aws:sts::{self.account}:assumed-role/{caller}"
        return f"arn:aws:iam::{self.account}:user/{caller}"

    @staticmethod
    def id_of(base: str) -> str:
        """``base`` if it has the form of a base model's id, else one made for a folder: ``local.my-model``."""
        if re.fullmatch(r"[a-z0-9-]{1,63}\.[a-z0-9.-]{1,63}(:[a-z0-9-]{1,63}){0,2}", base):
            return base
        name = _UNFIT.sub("-", base.rstrip("/").split("/")[-1].lower()).strip("-")[:63]
        return f"local.{name or 'model'}"
