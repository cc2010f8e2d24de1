"""How the student is examined, and in which forms it is handed over."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from limbeck.recipe.section import Section, Seed
from limbeck.records import Example, Quantization

__all__ = ["Evaluation", "Export"]


class Evaluation(Section):
    """How the student is examined."""

    metric: Literal["exact_match", "token_f1"] = "exact_match"
    """What the verdict goes by."""
    tolerance: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.05
    """How far below the teacher the student may score and still be shipped."""
    forgetting: Annotated[float, Field(ge=0.0)] = 0.1
    """After continued pre-training: by what share the perplexity of general text may have risen."""
    rows: Annotated[int, Field(ge=1)] | None = None
    """Examine on at most this many held-out rows."""
    max_response_tokens: Annotated[int, Field(ge=1, le=8192)] | None = None
    """By default as in the synthesis."""
    latency_requests: Annotated[int, Field(ge=2)] = 40
    """How many requests are timed for each model, one after another."""
    teacher_sees: Literal["prompt", "context"] | None = None
    """Whether the teacher is examined on what the student sees, or with all it saw when it taught; by default the
    latter where it has instructions or droppable parts of its own."""
    baseline: bool = True
    """Compare with TF-IDF and logistic regression where the answers are labels."""
    seed: Seed = 0

    def examined(self, examples: Sequence[Example]) -> list[Example]:
        """The held-out rows of ``examples`` that are asked about: all of them, or a sample of `rows`."""
        held_out = [example for example in examples if example.split == "held-out"]
        if self.rows is not None and len(held_out) > self.rows:
            held_out = random.Random(self.seed).sample(held_out, self.rows)  # noqa: S311 (a sample, not a secret)
        return held_out


class Export(Section):
    """What is written beside the safetensors, for other engines."""

    gguf: Quantization | Literal["none"] = "f16"
    """A GGUF file for llama.cpp, Ollama and LM Studio, with so many bits a weight; what it loses is measured."""
