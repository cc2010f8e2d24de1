"""Plain text as sequences to be learned or measured: no template, every token predicted from those before it.

A document begins with the token a document begins with, or, where the tokenizer puts none, with the one the document
before it would have ended with; it ends with that. One longer than a sequence may be is cut into several, each token of
it in exactly one as what is predicted; positions restart with every sequence, and packing lets none see another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from limbeck.errors import InvalidInput
from limbeck.models.chat import Renderer
from limbeck.models.loading import LoadedModel
from limbeck.models.packing import Tokens, pack, packs_of, response_hidden, response_logits

__all__ = ["negative_log_likelihoods", "sequences_of_text"]

ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")
"""What ends a document where models are trained on text; a chat's end of turn is another token in many."""

CHUNK_POSITIONS = 512
"""Logits held at once."""


def sequences_of_text(text: str, renderer: Renderer, length: int) -> Iterator[Tokens]:
    """``text`` as sequences of at most ``length`` inputs, all of whose tokens but the first are learned.

    Raises `InvalidInput` for a tokenizer with no token that ends a document.
    """
    tokenizer = renderer.tokenizer
    known = {token.content: place for place, token in tokenizer.added_tokens_decoder.items()}
    end = next((known[name] for name in ENDS if name in known), tokenizer.eos_token_id)
    if end is None:
        raise InvalidInput(
            f"{tokenizer.name_or_path}: no token ends a document; expected an eos_token in tokenizer_config.json, or"
            f" one of {', '.join(ENDS)}"
        )
    own, plain = tokenizer.encode("a"), tokenizer.encode("a", add_special_tokens=False)
    first = own[0] if own != plain and own[1 : 1 + len(plain)] == plain else end  # Llama's begins every text with one
    ids = [first, *tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True), end]
    for start in range(0, len(ids) - 1, length):
        yield Tokens(tuple(ids[start : start + length + 1]), 1)


def negative_log_likelihoods(model: LoadedModel, sequences: Sequence[Tokens], pack_tokens: int) -> list[float]:
    """Of each sequence's learned tokens together, in nats."""
    sums = [0.0] * len(sequences)
    with torch.inference_mode():
        for chosen in packs_of(sequences, pack_tokens):
            packed = pack([sequences[at] for at in chosen]).on(model.model.device)
            hidden_RD = response_hidden(model.model, packed)
            losses_R = torch.cat(
                [
                    torch.nn.functional.cross_entropy(
                        response_logits(model.model, hidden_RD[start : start + CHUNK_POSITIONS]),
                        packed.targets_R[start : start + CHUNK_POSITIONS],
                        reduction="none",
                    )
                    for start in range(0, len(hidden_RD), CHUNK_POSITIONS)
                ]
            )
            counts = [len(sequences[at].learned) for at in chosen]
            for at, part_T in zip(chosen, torch.split(losses_R, counts), strict=True):
                sums[at] = float(part_T.cpu().double().sum())
    return sums
