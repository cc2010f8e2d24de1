"""Nova's native body: Converse's own members, with bytes in base64 as JSON has them anyway, and topK inside.

    {"schemaVersion": "messages-v1", "system": [{"text": …}], "messages": […],
     "inferenceConfig": {"maxTokens", "temperature", "topP", "topK", "stopSequences"}, "toolConfig": …}

``schemaVersion`` may be left out, and the names of an older form of it (max_new_tokens, top_p, top_k) are understood.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from limbeck.serving.chat import Answer, Event
from limbeck.wire.bodies.base import JSON
from limbeck.wire.bodies.converse import Converse
from limbeck.wire.operations import Operation, Refused, read

__all__ = ["FORM", "Nova"]

FORM = '"messages" and "inferenceConfig" (Nova)'

VERSION = "messages-v1"
MEMBERS = ("schemaVersion", "system", "messages", "inferenceConfig", "toolConfig")
OLDER = {
    "max_new_tokens": "maxTokens",
    "max_tokens": "maxTokens",
    "top_p": "topP",
    "top_k": "topK",
    "stop_sequences": "stopSequences",
}
"""Names of the older form, and today's."""


class Nova:
    """One body of Nova's, and its answer."""

    def __init__(self, body: Mapping[str, Any], converse: Operation) -> None:
        """``converse`` is the operation whose shapes the members have. Raises `Refused` with every fault."""
        faults = [
            f"extraneous key [{name}] is not permitted; a Nova body has {', '.join(MEMBERS)}"
            for name in body
            if name not in MEMBERS
        ]
        if body.get("schemaVersion", VERSION) != VERSION:
            faults.append(f"Value '{body['schemaVersion']}' at 'schemaVersion'; expected {VERSION}")
        config = body.get("inferenceConfig") or {}
        if not isinstance(config, dict):
            faults.append("Value at 'inferenceConfig' must be an object")
            config = {}
        config = {OLDER.get(name, name): value for name, value in config.items()}
        more = {"inferenceConfig": {"topK": config.pop("topK")}} if "topK" in config else {}
        known = converse.model.input_shape.members["inferenceConfig"].members
        faults += [f"extraneous key [inferenceConfig.{name}] is not permitted" for name in config if name not in known]
        document = {name: body[name] for name in ("system", "messages", "toolConfig") if name in body}
        document |= {"inferenceConfig": config, "additionalModelRequestFields": more}
        try:
            asked = read(converse, {"modelId": "nova"}, body=json.dumps(document).encode())
            self._converse = Converse(asked)
        except Refused as refused:
            raise Refused([*faults, *refused.faults]) from None
        if faults:
            raise Refused(faults)
        self.question = self._converse.question

    def whole(self, answer: Answer) -> JSON:
        """See `Asked.whole`."""
        told = self._converse.whole(answer)
        return {name: told[name] for name in ("output", "stopReason", "usage")}

    def parts(self, events: AsyncIterator[Event]) -> AsyncGenerator[JSON, None]:
        """See `Asked.parts`: Converse's events, each an object under its name."""
        return self._converse.parts(events)
