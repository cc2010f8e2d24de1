"""From an answered example to what the loop eats: tokens, and the teacher's soft labels for them.

The tokens the teacher produced are used as they are, never made again from text, so its distributions stay with
the tokens they belong to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from limbeck.errors import InvalidInput, NotYet
from limbeck.models.chat import Renderer
from limbeck.models.packing import Tokens
from limbeck.records import AnsweredExample, SoftLabels

__all__ = ["TrainingExample", "prepare", "same_tokens"]


@dataclass(frozen=True, eq=False)
class TrainingExample:
    """One example as the loop sees it."""

    tokens: Tokens
    soft_labels: SoftLabels | None


def prepare(
    answered: Sequence[AnsweredExample],
    renderer: Renderer,
    context_tokens: int,
    teacher_renderer: Renderer | None,
    needs_soft_labels: bool,
) -> list[TrainingExample]:
    """Examples for the loop. ``teacher_renderer`` is None where the answers are text alone.

    Raises `NotYet` when soft labels are needed and the teacher writes in other tokens than the student, and
    `InvalidInput` for an example longer than the student's context.
    """
    shared = teacher_renderer is not None and same_tokens(renderer, teacher_renderer)
    if needs_soft_labels and not shared:
        raise NotYet(
            "the teacher's tokens are not the student's, so its distributions cannot be learned yet;"
            " use training.objective: {cross_entropy: 1}"
        )
    prepared = []
    for one in answered:
        prompt = renderer.prompt(one.example.prompt)
        response = one.answer.token_ids if shared else tuple(renderer.response(one.answer.text))
        tokens = Tokens((*prompt, *response), len(prompt))
        if len(tokens.ids) > context_tokens:
            raise InvalidInput(
                f"{one.example.file} line {one.example.line}: prompt and answer are {len(tokens.ids):,} tokens;"
                f" the student reads at most {context_tokens:,}"
            )
        soft = one.answer.soft_labels if needs_soft_labels else None
        if needs_soft_labels and soft is None:
            raise InvalidInput(f"{one.example.file} line {one.example.line}: its answer came without distributions")
        prepared.append(TrainingExample(tokens, soft))
    return prepared


def same_tokens(first: Renderer, second: Renderer) -> bool:
    """Whether two renderers write text in the same tokens: one vocabulary, one end of turn."""
    return first is second or (
        first.end_id == second.end_id and first.tokenizer.get_vocab() == second.tokenizer.get_vocab()
    )
