"""Keys that a job of some kind makes no use of: said all the same, they are refused, and not passed over in silence.

`synthesis.max_response_tokens` and `evaluation.latency_requests` are not among them: the service says both of every
job. Nor is `evaluation.baseline`: what it turns off is not there anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from limbeck.recipe.section import Section

__all__ = ["unused"]

ASKING = (
    "temperature",
    "top_p",
    "seed",
    "top_k",
    "draws",
    "demonstrations",
    "golden_choice",
    "improve_instruction",
)
"""How a teacher is asked."""

UNUSED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "distillation": {"evaluation": ("forgetting",)},
    "fine-tuning": {"synthesis": ASKING, "evaluation": ("forgetting", "tolerance", "teacher_sees")},
    "continued-pre-training": {
        "source": ("columns", "golden", "learn_golden", "system", "droppable"),
        "synthesis": (*ASKING, "use_responses"),
        "training": ("answers",),
        "evaluation": ("metric", "tolerance", "teacher_sees", "max_response_tokens"),
    },
}
"""By kind and section."""


def unused(kind: str, recipe: Section) -> Iterator[str]:
    """The keys of ``recipe`` that say something else than their default, and that a job of ``kind`` makes no use of."""
    for section, keys in UNUSED[kind].items():
        said: Any = getattr(recipe, section)
        for key in keys:
            if getattr(said, key) != type(said).model_fields[key].default:
                yield f"{section}.{key}"
