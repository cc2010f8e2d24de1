"""Amazon resource names of what Limbeck keeps: made here, and nowhere else.

Every name fits the patterns of all operations that take or give it, the runtime's included: a custom model's name drops
the version of its base (``:0``), which the runtime's pattern does not know, and has one dot, as ListCustomModels wants.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from limbeck.records import digest

__all__ = ["MODEL_ID", "MODEL_ID_CHARACTERS", "Arns", "short_id"]

MODEL_ID = re.compile(r"[a-z0-9-]{1,60}\.[a-z0-9-]{2,63}(\.[a-z0-9-]{1,63})?(:[a-z0-9-]{1,63}){0,2}")
"""The id of a base model that every pattern of Amazon Bedrock takes: some want two letters behind the first dot, others
no third dot."""

MODEL_ID_CHARACTERS = 140
"""The longest id of a base model that ListFoundationModels gives."""

_NAME_CHARACTERS = 63
"""The longest name of a base model that ListCustomModels gives."""

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
        made = self.name_of(base_id)
        return f"arn:aws:bedrock:{self.region}:{self.account}:custom-model/{made}/{short_id(name, fingerprint)}"

    def resource(self, kind: str, id12: str, base_id: str | None = None) -> str:
        """What the account made: a job, a deployment, an imported model; of ``base_id`` where the form says so."""
        between = "" if base_id is None else f"{base_id}/"
        return f"arn:aws:bedrock:{self.region}:{self.account}:{kind}/{between}{id12}"

    def kms_key(self, identifier: str | None) -> str | None:
        """A key of KMS, named by its ARN or its id; None for an alias, of which nobody here knows the key."""
        if identifier is None or "alias/" in identifier:
            return None
        return f"arn:aws:kms:{self.region}:{self.account}:key/{identifier}" if ":" not in identifier else identifier

    def caller(self, caller: str) -> str:
        """Who asks: a user, or ROLE/SESSION of who took a role."""
        if "/" in caller:
            return f"arn:aws:sts::{self.account}:assumed-role/{caller}"
        return f"arn:aws:iam::{self.account}:user/{caller}"

    @staticmethod
    def name_of(base_id: str) -> str:
        """A base model's name, as custom models made from it have it: its id without the version, one dot in it."""
        provider, _, name = base_id.split(":")[0].partition(".")
        return f"{provider}.{name.replace('.', '-')}"[:_NAME_CHARACTERS]

    @staticmethod
    def id_of(base: str) -> str:
        """``base`` if it has the form of a base model's id, else one made for a folder: ``local.my-model``."""
        if len(base) <= MODEL_ID_CHARACTERS and MODEL_ID.fullmatch(base):
            return base
        name = _UNFIT.sub("-", base.rstrip("/").split("/")[-1].lower()).strip("-")
        padded = name if len(name) > 1 else f"model-{name}".strip("-")
        return f"local.{padded}"[:_NAME_CHARACTERS]
