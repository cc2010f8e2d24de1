"""From an answered example to what the loop eats: tokens, and the teacher's soft labels for them.

The tokens the teacher produced are used as they are, never made again from text, so its distributions stay with
the tokens they belong to.

Every answer of a conversation is learned, each once and in just the tokens that stood before it when it was given. A
conversation is one sequence as long as the template writes what was said as it was said; where it does not (some leave
the thoughts of earlier answers out), a sequence ends and the next answer begins another, with its own history.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from limbeck.errors import InvalidInput
from limbeck.models.chat import Renderer
from limbeck.models.packing import Tokens
from limbeck.models.text import sequences_of_text
from limbeck.progress import Progress
from limbeck.records import Answer, AnsweredExample, Prompt, SoftLabels
from limbeck.training.crossing import Crossing

__all__ = ["TrainingExample", "prepare", "prepare_text", "same_tokens", "sequences_of", "with_distributions"]


@dataclass(frozen=True, eq=False)
class TrainingExample:
    """One example as the loop sees it."""

    tokens: Tokens
    soft_labels: SoftLabels | None
    read_as: Tokens | None = None
    """What a teacher that is asked now reads, the same response after its own prompt."""
    states_RLD: np.ndarray | None = None
    """What the teacher held at the response's positions, (response tokens, pairs of layers, the teacher's width)."""


def with_distributions(answered: Sequence[AnsweredExample], progress: Progress) -> list[AnsweredExample]:
    """Those whose answers came with distributions; how many did not is told. Raises `InvalidInput` where most did not.

    A teacher over the network may tell none for a single answer, and reads no label that a row brings.
    """
    found = [one for one in answered if one.answer.soft_labels is not None]
    missing = len(answered) - len(found)
    if 2 * missing > len(answered):
        raise InvalidInput(
            f"{missing} of {len(answered)} answers came without distributions (labels that rows bring have none where"
            " the teacher is asked over the network); use training.objective: {cross_entropy: 1}"
        )
    if missing:
        progress.say(f"training: {missing} of {len(answered)} answers came without distributions and are left out")
    return found


def prepare(
    answered: Sequence[AnsweredExample],
    renderer: Renderer,
    context_tokens: int,
    teacher_renderer: Renderer | None,
    needs_soft_labels: bool,
    answers: Literal["all", "last"] = "all",
    crossing: Crossing | None = None,
) -> list[TrainingExample]:
    """Examples for the loop. ``teacher_renderer`` is None where the answers are text alone.

    ``answers`` says which of a conversation are learned; softly, only those that the teacher has read. ``crossing``
    carries the soft labels over where the teacher writes in other tokens than the student. Raises `InvalidInput` for an
    example longer than the student's context.
    """
    shared = teacher_renderer is not None and same_tokens(renderer, teacher_renderer)
    assert shared or crossing or not needs_soft_labels, "the choice of the objective sees to this"
    prepared = []
    for one in answered:
        where = one.example.place
        given = [Answer(text, (), "stop", 0) for text in one.example.prompt.answers]
        said = [*(one.earlier or given), one.answer]
        if answers == "last" or (needs_soft_labels and not one.earlier):
            said = said[-1:]
        if needs_soft_labels and any(answer.soft_labels is None for answer in said):
            raise InvalidInput(f"{where}: its answer came without distributions")
        responses = [
            answer.token_ids if shared and answer.token_ids else tuple(renderer.response(answer.text))
            for answer in said
        ]
        if needs_soft_labels and not shared and crossing is not None:
            said = [
                replace(answer, soft_labels=crossing.carry(answer.soft_labels, answer.token_ids, tokens, answer.text))
                for answer, tokens in zip(said, responses, strict=True)
                if answer.soft_labels is not None
            ]
        at = 0
        for tokens, count in sequences_of(one.example.prompt, responses, renderer):
            if len(tokens.ids) > context_tokens:
                raise InvalidInput(
                    f"{where}: prompt and answer are {len(tokens.ids):,} tokens;"
                    f" the student reads at most {context_tokens:,}"
                )
            soft = _joined(said[at : at + count]) if needs_soft_labels else None
            prepared.append(TrainingExample(tokens, soft))
            at += count
    return prepared


def prepare_text(texts: Iterable[str], renderer: Renderer, length: int) -> list[TrainingExample]:
    """Documents for the loop, every token learned; one longer than ``length`` tokens makes several examples."""
    return [TrainingExample(tokens, None) for text in texts for tokens in sequences_of_text(text, renderer, length)]


def sequences_of(
    prompt: Prompt, responses: Sequence[Sequence[int]], renderer: Renderer
) -> Iterator[tuple[Tokens, int]]:
    """The last answers of a conversation as sequences, with the number of answers each holds.

    ``responses`` are tokens: the answer to ``prompt`` is the last, those before it stand in the prompt.
    """
    places = [at for at, message in enumerate(prompt.messages) if message.role == "assistant"]
    ends = [*places, len(prompt.messages)][-len(responses) :]
    ids: tuple[int, ...] = ()
    start, read, count = 0, [], 0
    for end, response in zip(ends, responses, strict=True):
        before = tuple(renderer.prompt(Prompt(prompt.messages[:end])))
        if count and before[: len(ids)] == ids:
            read.append(range(len(ids), len(before)))
        else:
            if count:
                yield Tokens(ids, start, tuple(read)), count
            start, read, count = len(before), [], 0
        ids = (*before, *response)
        count += 1
    yield Tokens(ids, start, tuple(read)), count


def _joined(answers: Sequence[Answer]) -> SoftLabels:
    """The soft labels of several answers, end to end."""
    soft = [answer.soft_labels for answer in answers if answer.soft_labels is not None]
    if len(soft) == 1:  # which may lie in a file still
        return soft[0]
    return SoftLabels(
        np.concatenate([one.top_ids_TK for one in soft]),
        np.concatenate([one.top_logprobs_TK for one in soft]),
        np.concatenate([one.tail_logprob_T for one in soft]),
    )


def same_tokens(first: Renderer, second: Renderer) -> bool:
    """Whether two renderers write text in the same tokens: one vocabulary, one end of turn."""
    return first is second or (
        first.end_id == second.end_id and first.tokenizer.get_vocab() == second.tokenizer.get_vocab()
    )
