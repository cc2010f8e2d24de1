"""Where Limbeck takes values that AWS's own description of its API refuses: shapes, and what fits them besides.

Everything AWS takes is taken; this only adds. In answers the same values are given back, and boto3 reads them.

| shape | besides | why |
|---|---|---|
| `EvaluationTaskType` | `General` | AWS's notebooks send it with judged metrics, though its own list lacks it |
| `ModelId` (batches) | deployments, provisioned throughput, imported models | distilled models take batches too |
| `EvaluationBedrockModelIdentifier` | custom models, deployments, names | a model is measured where it answers |
| `EvaluatorModelIdentifier` | custom and imported models, deployments, names | any model may judge |
| `TeacherModelIdentifier` | custom and imported models, names | any model may teach |
| `BaseModelIdentifier` | what CreateCustomModel made | by its ARN it is trained further, as by its name |
| `ConversationalModelId`, `InvokeModelIdentifier` | what CreateCustomModel made | and answers |
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["takes"]

_KINDS = "custom-model(?:-deployment)?|provisioned-model|imported-model"
_OURS = re.compile(
    rf"arn:aws:bedrock:[a-z0-9-]{{1,20}}:[0-9]{{12}}:(?:{_KINDS})/(?:[a-z0-9.:-]{{1,200}}/)?[a-z0-9]{{12}}"
    r"|[0-9a-zA-Z][0-9a-zA-Z_-]{0,62}"
)
"""The ARN, or the name, of what an account of Limbeck has."""

_BROUGHT = re.compile(r"arn:aws:bedrock:[a-z0-9-]{1,20}:[0-9]{12}:custom-model/imported/[a-z0-9]{12}")
"""The ARN of a custom model that was brought along."""

_TAKEN: Mapping[str, re.Pattern[str]] = {
    "EvaluationTaskType": re.compile("General"),
    "ModelId": _OURS,
    "EvaluationBedrockModelIdentifier": _OURS,
    "EvaluatorModelIdentifier": _OURS,
    "TeacherModelIdentifier": _OURS,
    "BaseModelIdentifier": _BROUGHT,
    "ConversationalModelId": _BROUGHT,
    "InvokeModelIdentifier": _BROUGHT,
}


def takes(shape: str, value: str) -> bool:
    """Whether ``value`` fits here, whatever AWS says of that shape."""
    pattern = _TAKEN.get(shape)
    return pattern is not None and pattern.fullmatch(value) is not None
