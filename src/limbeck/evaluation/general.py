"""What a model still knows of the rest of the world: general text and simple questions, the same for every job.

`general.jsonl` was written for this: 36 passages of plain English (stories, recipes, news, facts), and 48 questions
with four answers each, of which the first is right. It is small, on purpose: it tells whether a job made a model
forget, before and after on the very same words, and not how good a model is among others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

from limbeck.models.loading import LoadedModel
from limbeck.models.packing import Tokens
from limbeck.models.text import negative_log_likelihoods, sequences_of_text
from limbeck.records import Message, Prompt

__all__ = ["Knowledge", "knowledge_of", "likelihoods"]


@dataclass(frozen=True)
class Knowledge:
    """What was measured of one model."""

    nats: list[float]
    """Negative log-likelihood of each text."""
    tokens: list[int]
    """Its length."""
    right: list[float]
    """1.0 for each question whose right answer was found the likeliest, 0.0 for each other."""


def knowledge_of(model: LoadedModel, pack_tokens: int) -> Knowledge:
    """General text read, and the questions answered by likelihood."""
    texts, questions = _general()
    nats, tokens = likelihoods(model, list(texts), pack_tokens)
    return Knowledge(nats, tokens, _answered(model, questions, pack_tokens))


def likelihoods(model: LoadedModel, texts: list[str], pack_tokens: int) -> tuple[list[float], list[int]]:
    """Negative log-likelihood (nats) of each text, and how many tokens were predicted of it."""
    length = min(model.sequence_tokens, pack_tokens)
    owners, sequences = [], []
    for at, text in enumerate(texts):
        for tokens in sequences_of_text(text, model.renderer, length):
            owners.append(at)
            sequences.append(tokens)
    nats, counts = [0.0] * len(texts), [0] * len(texts)
    for at, tokens, found in zip(
        owners, sequences, negative_log_likelihoods(model, sequences, pack_tokens), strict=True
    ):
        nats[at] += found
        counts[at] += len(tokens.learned)
    return nats, counts


def _answered(model: LoadedModel, questions: tuple[tuple[str, tuple[str, ...]], ...], pack_tokens: int) -> list[float]:
    """The likeliest answer to each, by log-likelihood a character, as the LM Evaluation Harness's acc_norm has it."""
    sequences = []
    for asked, answers in questions:
        prompt = model.renderer.prompt(Prompt((Message("user", asked),)))
        for answer in answers:
            # Without the token that ends the turn: whether a model stops there is not what is asked.
            sequences.append(Tokens((*prompt, *model.renderer.response(answer)[:-1]), len(prompt)))
    found = iter(negative_log_likelihoods(model, sequences, pack_tokens))
    right = []
    for _, answers in questions:
        nats = [next(found) / len(answer) for answer in answers]
        right.append(float(nats[0] == min(nats)))
    return right


@cache
def _general() -> tuple[tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]]:
    lines = resources.files(__package__).joinpath("general.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    texts = tuple(row["text"] for row in rows if "text" in row)
    return texts, tuple((row["question"], tuple(row["choices"])) for row in rows if "question" in row)
