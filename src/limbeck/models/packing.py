"""Many examples computed as one row: no padding in the linear layers, a shared prefix computed once.

Legend: N tokens of a pack, S sequences, P tokens of a group's shared prefix, B segments of a block, L the longest
of them, R response positions, D hidden width, V vocabulary.

A pack holds groups; a group is sequences that begin with the same P tokens. The row is laid out group by group:
the prefix once, then each sequence's own rest (its segment). Every token keeps the position it had in its own
sequence. Where a prefix holds tokens that are learned, its places are asked for once for each sequence that learns
them. Attention runs in two parts, prefix to itself and segments (in blocks of similar length) to the prefix and
themselves, so nothing is ever computed between strangers. The arithmetic is that of the plain, one-by-one
computation; `tests/models/test_packing.py` shows that losses and gradients agree.

Works with any transformers decoder that takes its attention from the attention interface (Llama, Qwen, Gemma, …).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from limbeck.errors import NotYet
from limbeck.models.last_layer import only_read

__all__ = [
    "ATTENTION",
    "Attending",
    "Pack",
    "Tokens",
    "pack",
    "packs_of",
    "response_hidden",
    "response_logits",
    "response_states",
]

ATTENTION = "limbeck_packed"
"""The name under which transformers knows our attention; without a layout it is plain SDPA."""

MINIMUM_SHARED = 8
"""Prefixes shorter than this are not worth a group of their own."""

MAXIMUM_PADDING = 1.3
"""A block's longest segment is at most this times its shortest; only attention sees this padding."""


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
    """Segments of similar length: where their tokens stand in the row, padded at the end to the longest."""

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
    order_N: Tensor
    """Row of each token in the concatenation of the groups' attention outputs."""
    response_R: Tensor
    """Positions whose logits predict a response token, sequence by sequence in the order given to `pack`."""
    targets_R: Tensor
    """The response tokens themselves."""

    @property
    def tokens(self) -> int:
        """How many tokens are computed."""
        return int(self.ids_1N.shape[1])


class Attending(Protocol):
    """A layout that computes its own attention, as a batch under generation does."""

    def attend(
        self,
        layer: int,
        query_BHLd: Tensor,
        key_BKMd: Tensor,
        value_BKMd: Tensor,
        scaling: float | None,
        softcap: float | None,
        window: int | None,
    ) -> Tensor:
        """The attention's output, (B, L, H, d)."""


def pack(sequences: Sequence[Tokens], share: bool = True) -> Pack:
    """Lay out ``sequences`` as one row. With ``share`` false every sequence is computed whole."""
    ids: list[int] = []
    positions: list[int] = []
    groups: list[_Group] = []
    order = [0] * sum(len(s.inputs) for s in sequences)
    first_row = [0] * len(sequences)
    prefixes = [(0, 0)] * len(sequences)  # where each one's prefix begins, and its length
    done = 0  # rows of the concatenated attention outputs so far
    for members, shared in _grouped(sequences) if share else (([i], 0) for i in range(len(sequences))):
        start = len(ids)
        prefix = sequences[members[0]].ids[:shared]
        ids += prefix
        positions += range(shared)
        for row in range(start, len(ids)):
            order[row] = done
            done += 1
        blocks = []
        for block in _similar(members, sequences, shared):
            longest = max(len(sequences[m].inputs) for m in block) - shared
            rows_BL = torch.zeros(len(block), longest, dtype=torch.long)
            for at, member in enumerate(block):
                segment = sequences[member].inputs[shared:]
                first_row[member] = len(ids)
                rows_BL[at, : len(segment)] = torch.arange(len(ids), len(ids) + len(segment))
                order[len(ids) : len(ids) + len(segment)] = range(
                    done + at * longest, done + at * longest + len(segment)
                )
                ids += segment
                positions += range(shared, shared + len(segment))
            done += rows_BL.numel()
            blocks.append(_Block(rows_BL))
        groups.append(_Group(start, start + shared, tuple(blocks)))
        for member in members:
            first_row[member] -= shared
            prefixes[member] = (start, shared)
    response: list[int] = []
    for sequence, first, (start, shared) in zip(sequences, first_row, prefixes, strict=True):
        response += [place + (start if place < shared else first) for place in sequence.predictors]
    return Pack(
        torch.tensor([ids]),
        torch.tensor([positions]),
        tuple(groups),
        torch.tensor(order[: len(ids)]),
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
    ours = torch.ones(1, 1, 1, 1, dtype=torch.bool)
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
    logits_RV = model.get_output_embeddings()(hidden_RD)
    cap = getattr(model.config, "final_logit_softcapping", None)
    return torch.as_tensor(cap * torch.tanh(logits_RV / cap) if cap else logits_RV)


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


@lru_cache(maxsize=256)
def _mask(prefix: int, length: int) -> Tensor:
    """What a segment may see, (L, P + L): the whole prefix, and itself up to the present."""
    own = torch.ones(length, length, dtype=torch.bool).tril()
    return torch.cat([torch.ones(length, prefix, dtype=torch.bool), own], dim=1)


def _packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: Pack | Attending | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention for transformers' interface: query (1, H, N, d), key and value (1, K, N, d) to (1, N, H, d)."""
    softcap = kwargs.get("softcap")
    if layout is not None and not isinstance(layout, Pack):
        window = kwargs.get("sliding_window")
        return layout.attend(module.layer_idx, query, key, value, scaling, softcap, window), None
    if layout is None and softcap is not None:
        repeats = query.shape[1] // key.shape[1]
        key, value = (x.repeat_interleave(repeats, dim=1) for x in (key, value))
        return _capped(query, key, value, attention_mask, scaling, softcap).transpose(1, 2), None
    if layout is None:
        plain: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return plain
    window = kwargs.get("sliding_window")
    query_NHd, key_NKd, value_NKd = (x.transpose(1, 2)[0] for x in (query, key, value))
    repeats = query.shape[1] // key.shape[1]
    outputs = []
    for group in layout.groups:
        shared = group.stop - group.start
        prefix_key, prefix_value = key_NKd[group.start : group.stop], value_NKd[group.start : group.stop]
        if shared:
            outputs.append(
                _attend(
                    query_NHd[None, group.start : group.stop],
                    prefix_key[None],
                    prefix_value[None],
                    scaling,
                    repeats,
                    None,
                    softcap,
                )[0]
            )
        for block in group.blocks:
            segments, length = block.rows_BL.shape
            if window is not None and shared + length > window:
                raise NotYet(
                    f"a sequence of {shared + length} tokens is longer than the model's sliding window of {window}"
                )
            flat = block.rows_BL.flatten()
            query_BLHd, key_BLKd, value_BLKd = (
                x.index_select(0, flat).view(segments, length, *x.shape[1:]) for x in (query_NHd, key_NKd, value_NKd)
            )
            mask = None
            if shared:
                key_BLKd = torch.cat([prefix_key.expand(segments, *prefix_key.shape), key_BLKd], dim=1)
                value_BLKd = torch.cat([prefix_value.expand(segments, *prefix_value.shape), value_BLKd], dim=1)
                mask = _mask(shared, length)
            outputs.append(_attend(query_BLHd, key_BLKd, value_BLKd, scaling, repeats, mask, softcap).flatten(0, 1))
    return torch.cat(outputs).index_select(0, layout.order_N)[None], None


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None,
    repeats: int,
    mask: Tensor | None,
    softcap: float | None,
) -> Tensor:
    """Attention of (B, L, H, d) over (B, M, K, d), causal where no mask is given."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    if softcap is not None:
        return _capped(query, key, value, mask, scaling, softcap).transpose(1, 2)
    out = scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling)
    return out.transpose(1, 2)


def _capped(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None, softcap: float
) -> Tensor:
    """Attention of (B, H, L, d) over (B, H, M, d) whose scores are capped, c·tanh(s/c), as Gemma 2 has it."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = softcap * torch.tanh(query @ key.transpose(2, 3) * (scale / softcap))
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril(scores.shape[-1] - scores.shape[-2])
    bias = mask if mask.dtype.is_floating_point else torch.zeros(mask.shape).masked_fill_(~mask, float("-inf"))
    return (scores + bias).softmax(-1) @ value


AttentionInterface.register(ATTENTION, _packed_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
