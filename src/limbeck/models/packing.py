"""Many examples computed as one row: no padding in the linear layers, a shared prefix computed once.

Legend: N tokens of a pack, S sequences, P tokens of a group's shared prefix, B segments of a block, L the longest
of them, R response positions, D hidden width, V vocabulary.

A pack holds groups; a group is sequences that begin with the same P tokens. The row is laid out group by group:
the prefix once, then each sequence's own rest (its segment). Every token keeps the position it had in its own
sequence. Where a prefix holds tokens that are learned, its places are asked for once for each sequence that learns
them. A long row ends with tokens that nobody reads, each alone (see `products.EVEN`). Attention
(`limbeck.models.attention`) runs in two parts, prefix to itself and segments (in blocks of similar
length) to the prefix and themselves: nothing is ever computed between strangers. The arithmetic is that of the plain,
one-by-one computation; `tests/models/test_packing.py` shows that losses and gradients agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from limbeck.models.last_layer import only_read
from limbeck.models.products import EVEN

__all__ = [
    "Pack",
    "Tokens",
    "capped_logits",
    "pack",
    "packs_of",
    "packs_well",
    "plain_logits",
    "response_hidden",
    "response_logits",
    "response_states",
    "window_of",
]

MINIMUM_SHARED = 8
"""Prefixes shorter than this are not worth a group of their own."""

MAXIMUM_PADDING = 1.3
"""A block's longest segment is at most this times its shortest; only attention sees this padding."""

LONG = 256
"""Rows of so many tokens or more are filled up to a multiple of `EVEN`."""


@dataclass(frozen=True)
class Tokens:
    """One example as tokens: the prompt, then the response from ``response_start`` (at least 1) on."""

    ids: tuple[int, ...]
    response_start: int
    read: tuple[range, ...] = ()
    """Places after ``response_start`` that are only read: what stands between the answers of a conversation."""

    @cached_property
    def learned(self) -> tuple[int, ...]:
        """The places of the tokens that are learned."""
        only_read = {place for stretch in self.read for place in stretch}
        return tuple(place for place in range(self.response_start, len(self.ids)) if place not in only_read)

    @property
    def response(self) -> tuple[int, ...]:
        """The tokens that are learned."""
        return tuple(self.ids[place] for place in self.learned)

    @property
    def predictors(self) -> list[int]:
        """The places whose logits predict a token that is learned, each the one before it."""
        return [place - 1 for place in self.learned]

    @property
    def inputs(self) -> tuple[int, ...]:
        """What is fed: all but the last token, which is only ever predicted."""
        return self.ids[:-1]


@dataclass(frozen=True)
class _Block:
    """Segments of similar length: where their tokens stand in the row, -1 from a segment's end to the longest's."""

    rows_BL: Tensor


@dataclass(frozen=True)
class _Group:
    """A prefix (tokens ``start`` to ``stop`` of the row; empty where nothing is shared) and its segments."""

    start: int
    stop: int
    blocks: tuple[_Block, ...]


@dataclass(frozen=True)
class Pack:
    """Sequences laid out as one row, ready for a forward pass."""

    ids_1N: Tensor
    positions_1N: Tensor
    groups: tuple[_Group, ...]
    response_R: Tensor
    """Positions whose logits predict a response token, sequence by sequence in the order given to `pack`."""
    targets_R: Tensor
    """The response tokens themselves."""
    arranged: dict[tuple[int, int], Any] = field(default_factory=dict, repr=False, compare=False)
    """What attention knows of this layout, by query heads and key heads: found in the first layer, used in all."""

    @property
    def tokens(self) -> int:
        """How many tokens are computed."""
        return int(self.ids_1N.shape[1])

    def on(self, device: torch.device) -> Pack:
        """The same, to be computed on ``device``."""
        if self.ids_1N.device == device:
            return self
        groups = (
            replace(group, blocks=tuple(_Block(block.rows_BL.to(device)) for block in group.blocks))
            for group in self.groups
        )
        tensors = (self.ids_1N, self.positions_1N, self.response_R, self.targets_R)
        ids, positions, response, targets = (one.to(device) for one in tensors)
        return Pack(ids, positions, tuple(groups), response, targets)


def pack(sequences: Sequence[Tokens], share: bool = True) -> Pack:
    """Lay out ``sequences`` as one row. With ``share`` false every sequence is computed whole."""
    ids: list[int] = []
    positions: list[int] = []
    groups: list[_Group] = []
    first_row = [0] * len(sequences)
    prefixes = [(0, 0)] * len(sequences)  # where each one's prefix begins, and its length
    for members, shared in _grouped(sequences) if share else (([i], 0) for i in range(len(sequences))):
        start = len(ids)
        prefix = sequences[members[0]].ids[:shared]
        ids += prefix
        positions += range(shared)
        blocks = []
        for block in _similar(members, sequences, shared):
            longest = max(len(sequences[m].inputs) for m in block) - shared
            rows_BL = torch.full((len(block), longest), -1)
            for at, member in enumerate(block):
                segment = sequences[member].inputs[shared:]
                first_row[member] = len(ids)
                rows_BL[at, : len(segment)] = torch.arange(len(ids), len(ids) + len(segment))
                ids += segment
                positions += range(shared, shared + len(segment))
            blocks.append(_Block(rows_BL))
        groups.append(_Group(start, start + shared, tuple(blocks)))
        for member in members:
            first_row[member] -= shared
            prefixes[member] = (start, shared)
    if (filler := -len(ids) % EVEN) and len(ids) >= LONG:
        alone_B1 = torch.arange(len(ids), len(ids) + filler)[:, None]
        groups.append(_Group(len(ids), len(ids), (_Block(alone_B1),)))
        ids += [0] * filler
        positions += [0] * filler
    response: list[int] = []
    for sequence, first, (start, shared) in zip(sequences, first_row, prefixes, strict=True):
        response += [place + (start if place < shared else first) for place in sequence.predictors]
    return Pack(
        torch.tensor([ids]),
        torch.tensor([positions]),
        tuple(groups),
        torch.tensor(response),
        torch.tensor([token for sequence in sequences for token in sequence.response]),
    )


def packs_of(sequences: Sequence[Tokens], budget: int) -> list[list[int]]:
    """Divide ``sequences`` into packs of about ``budget`` tokens or fewer (a longer sequence goes alone).

    Gives indices. Sequences that share a prefix go together, and the prefix is reckoned once a pack.
    """
    packs: list[list[int]] = []
    room = 0
    for members, shared in _grouped(sequences):
        here = False  # whether this group's prefix is in the pack being filled
        for member in members:
            own = len(sequences[member].inputs) - shared
            if not packs or own + (0 if here else shared) > room:
                packs.append([])
                room, here = budget, False
            packs[-1].append(member)
            room -= own + (0 if here else shared)
            here = True
    return packs


def tokens_computed(sequences: Sequence[Tokens]) -> int:
    """How many tokens one pack of ``sequences`` computes, shared prefixes once."""
    return sum(
        shared + sum(len(sequences[at].inputs) - shared for at in members) for members, shared in _grouped(sequences)
    )


def response_hidden(model: Any, pack: Pack) -> Tensor:
    """Hidden states, (R, D), from which a pack's response tokens are predicted."""
    return response_states(model, pack, ())[-1]


def response_states(model: Any, pack: Pack, layers: Sequence[int]) -> list[Tensor]:
    """Hidden states, (R, D) each, after ``layers``, and last those from which the response tokens are predicted.

    A layer is named by how many have been passed, from 1; of the whole body the state is taken after its last norm.
    """
    decoder = model.get_decoder()
    held: dict[int, Tensor] = {}
    hooks = [
        decoder.layers[layer - 1].register_forward_hook(partial(_hold, held, layer))
        for layer in layers
        if layer < len(decoder.layers)
    ]
    try:
        last_RD = _body(decoder, pack)
    finally:
        for hook in hooks:
            hook.remove()
    inner = [held[layer][0].index_select(0, pack.response_R) if layer in held else last_RD for layer in layers]
    return [*inner, last_RD]


def _hold(held: dict[int, Tensor], layer: int, module: Any, given: Any, output: Any) -> None:
    held[layer] = output[0] if isinstance(output, tuple) else output


def _body(decoder: Any, pack: Pack) -> Tensor:
    # A 4-dimensional mask tells transformers that masking is our affair; the attention function ignores it.
    ours = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=pack.ids_1N.device)
    with only_read(decoder, pack.response_R, pack.tokens):
        hidden_1ND = decoder(
            input_ids=pack.ids_1N,
            position_ids=pack.positions_1N,
            attention_mask=ours,
            use_cache=False,
            layout=pack,
        ).last_hidden_state
    return torch.as_tensor(hidden_1ND[0].index_select(0, pack.response_R))


def response_logits(model: Any, hidden_RD: Tensor) -> Tensor:
    """Logits, (R, V), of hidden states."""
    return capped_logits(model, model.get_output_embeddings()(hidden_RD))


def plain_logits(model: Any, tokens: Tokens) -> Tensor:
    """Logits, (R, V), that predict one sequence's response, computed as transformers computes them."""
    ids_1T, places_R = (torch.tensor(one, device=model.device) for one in ([tokens.inputs], tokens.predictors))
    return torch.as_tensor(model(input_ids=ids_1T).logits[0].index_select(0, places_R))


@torch.inference_mode()
def packs_well(model: Any) -> bool:
    """Whether a pack computes what the model itself does: seen on two sequences with a prefix.

    An architecture that keeps another kind of state, or does more to its logits than is known here, is found out.
    """
    size = model.config.get_text_config().vocab_size
    first = tuple(token % size for token in range(3, 3 + MINIMUM_SHARED + 8))
    both = [Tokens(first, len(first) - 3), Tokens((*first[:-4], *first[4:12]), len(first) - 2)]
    try:
        packed = response_logits(model, response_hidden(model, pack(both).on(model.device)))
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError):
        return False
    plain = torch.cat([plain_logits(model, tokens) for tokens in both])
    return bool((packed - plain).abs().max() < 1e-2 * plain.abs().max().clamp(min=1.0))


def window_of(config: Any) -> int | None:
    """How many tokens back some layer looks at most; None where all look back to the beginning."""
    config = config.get_text_config()
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    slides = "sliding_attention" in kinds if kinds else getattr(config, "use_sliding_window", True)
    return int(window) if window and slides else None


def capped_logits(model: Any, logits_RV: Tensor) -> Tensor:
    """What the head's product becomes in models that cap it, c·tanh(l/c), as Gemma 2 does."""
    cap = getattr(model.config, "final_logit_softcapping", None)
    return cap * torch.tanh(logits_RV / cap) if cap else logits_RV


def _grouped(sequences: Sequence[Tokens]) -> Iterator[tuple[list[int], int]]:
    """Sequences that share a prefix, with its length. A group's prefix ends before any member's last input."""
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].ids)
    members: list[int] = []
    shared = 0
    for index in order:
        tokens = sequences[index]
        limit = len(tokens.inputs) - 1
        if members:
            common = min(_common(sequences[members[0]].ids[:shared], tokens.ids), limit)
            # A newcomer joins if it does not cost the others most of what they share.
            if common >= MINIMUM_SHARED and (len(members) == 1 or 2 * common >= shared):
                members.append(index)
                shared = common
                continue
            yield (members, shared) if len(members) > 1 else (members, 0)
        members, shared = [index], limit
    if members:
        yield (members, shared) if len(members) > 1 else (members, 0)


def _similar(members: Sequence[int], sequences: Sequence[Tokens], shared: int) -> Iterator[list[int]]:
    """Members in blocks of similar segment length."""
    block: list[int] = []
    shortest = 0
    for member in sorted(members, key=lambda m: len(sequences[m].inputs)):
        length = len(sequences[member].inputs) - shared
        if block and length > max(MAXIMUM_PADDING * shortest, shortest + 4):
            yield block
            block = []
        if not block:
            shortest = length
        block.append(member)
    if block:
        yield block


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the common prefix: compared in C, found by halving."""
    low, high = 0, min(len(first), len(second))
    if tuple(first[:high]) == tuple(second[:high]):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if tuple(first[low:middle]) == tuple(second[low:middle]):
            low = middle
        else:
            high = middle
    return low
