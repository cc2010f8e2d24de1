"""Attention within a pack: nothing is computed between strangers, and what all share is asked once.

Legend: N tokens of a pack, H query heads, K key heads, r = H / K, d head width; B segments of a block, L the longest of
them, P tokens of the prefix they share (`limbeck.models.packing` has the words).

Queries are arranged key head by key head, (K, B, r, L, d): so all that ask about one key head's prefix lie together
as one matrix, (B r L, d), and all that ask about one segment's keys as another, (r L, d). Neither keys nor values are
repeated for the heads that share them, nor spread over the segments that share a prefix. Where segments are long, the
weights between all their tokens would be too many to keep: then it is PyTorch's own attention.

Works with any transformers decoder that takes its attention from the attention interface (Llama, Qwen, Gemma, …).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from limbeck.errors import NotYet
from limbeck.models.packing import Pack

__all__ = ["ATTENTION", "Attending", "is_short", "numbers_kept"]

ATTENTION = "limbeck_packed"
"""The name under which transformers knows our attention; without a layout it is plain SDPA."""


UNKNOWN = ("s_aux", "position_bias", "indices", "block_indices")
"""What some models hand to their attention besides (sinks, biases, chosen blocks); without it they are others."""


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


def _attention(
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
    if unknown := [name for name in UNKNOWN if kwargs.get(name) is not None]:
        raise NotYet(
            f"{type(module).__name__} weighs with {', '.join(unknown)}; such an attention is not known here yet"
        )
    softcap, window = kwargs.get("softcap"), kwargs.get("sliding_window")
    if isinstance(layout, Pack):
        # Where linear layers compute in bf16, what attention weighs and sums up is fp32 all the same.
        rounded = torch.bfloat16 in (query.dtype, key.dtype, value.dtype)
        with torch.autocast(query.device.type, enabled=False) if rounded else nullcontext():
            wide = (x.float() if x.dtype == torch.bfloat16 else x for x in (query, key, value))
            query_NHd, key_NKd, value_NKd = (x.transpose(1, 2)[0] for x in wide)
            return _attend(query_NHd, key_NKd, value_NKd, layout, scaling, softcap, window)[None], None
    if layout is not None:
        return layout.attend(module.layer_idx, query, key, value, scaling, softcap, window), None
    if softcap is not None:
        key, value = _repeated(query.shape[1] // key.shape[1], key, value)
        return _capped(query, key, value, attention_mask, scaling, softcap).transpose(1, 2), None
    plain: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
    )
    return plain


def _attend(
    query_NHd: Tensor,
    key_NKd: Tensor,
    value_NKd: Tensor,
    layout: Pack,
    scaling: float | None,
    softcap: float | None,
    window: int | None,
) -> Tensor:
    """Every token's attention over its own sequence up to itself, (N, H, d)."""
    width = query_NHd.shape[-1]
    scale = width**-0.5 if scaling is None else scaling
    arranged = _arrangement(layout, query_NHd.shape[1], key_NKd.shape[1])
    keys, values = arranged.told.blocks(key_NKd), arranged.told.blocks(value_NKd)
    found = []
    for at, query_KBrLd in enumerate(arranged.asking.blocks(query_NHd)):
        own, prefix = (keys[at].squeeze(2), values[at].squeeze(2)), arranged.prefixes[at]
        before = () if prefix is None else (keys[prefix].squeeze((1, 2)), values[prefix].squeeze((1, 2)))
        length, shared = query_KBrLd.shape[3], before[0].shape[1] if before else 0
        if window is not None and shared + length > window:
            raise NotYet(
                f"a sequence of {shared + length} tokens is longer than the model's sliding window of {window}"
            )
        if _by_products(length, width, softcap):
            found.append(_Products.apply(scale, query_KBrLd, *own, *before))  # type: ignore[no-untyped-call]
        else:
            mask = arranged.seen(shared, length, query_KBrLd.device) if before else None
            found.append(_spread(scale, softcap, mask, query_KBrLd, *own, *before))
    return arranged.asking.put_back(found)


def is_short(length: int, width: int) -> bool:
    """Whether weights of so few tokens take less memory than keys and values that are repeated and spread."""
    return length <= 2 * width


def _by_products(length: int, width: int, softcap: float | None) -> bool:
    """Whether a block of segments so long is computed by `_Products`."""
    return is_short(length, width) and softcap is None


def numbers_kept(layout: Pack, heads: int, kept: int, width: int, softcap: float | None = None) -> int:
    """How many numbers the backward pass of attention in one layer keeps."""
    numbers = 0
    for group in layout.groups:
        prefix = group.stop - group.start
        shapes = [tuple(block.rows_BL.shape) for block in group.blocks]
        for segments, length, shared in [(1, prefix, 0)] * bool(prefix) + [(*shape, prefix) for shape in shapes]:
            asking = segments * length * heads
            numbers += 2 * asking * width + 2 * segments * length * kept * width  # Q, O; K, V
            if _by_products(length, width, softcap):
                numbers += asking * (shared + length)
            else:
                numbers += 2 * segments * (shared + length) * heads * width
    return numbers


class _Products(torch.autograd.Function):
    """Attention of a block as matrix products; its weights are kept for the way back.

    With S the scores, W their softmax and O = W V: dV = Wᵀ dO, dS = W (dO Vᵀ - the sum of dO O), dQ = dS K, dK = dSᵀ Q.
    Columns of S that stand for the prefix are held apart from the segments' own.
    """

    @staticmethod
    def forward(
        ctx: Any, scale: float, query_KBrLd: Tensor, key_KBLd: Tensor, value_KBLd: Tensor, *prefix: Tensor
    ) -> Tensor:
        kept, segments, repeats, length, _ = query_KBrLd.shape
        query, key, value = (x.flatten(0, 1) for x in (query_KBrLd.flatten(2, 3), key_KBLd, value_KBLd))
        own = torch.baddbmm(_later(repeats, length, query.dtype, query.device), query, key.mT, alpha=scale)
        highest = own.amax(-1, keepdim=True)
        if prefix:
            key_KPd, value_KPd = prefix
            before = torch.bmm(query_KBrLd.flatten(1, 3), key_KPd.mT).mul_(scale)
            highest = torch.maximum(highest, before.amax(-1).view_as(highest))
        total = own.sub_(highest).exp_().sum(-1, keepdim=True)
        if prefix:
            total += before.sub_(highest.view(kept, -1, 1)).exp_().sum(-1).view_as(total)
            before.div_(total.view(kept, -1, 1))
        output = torch.bmm(own.div_(total), value)
        if prefix:
            output.view(kept, -1, output.shape[-1]).baddbmm_(before, value_KPd)
        ctx.save_for_backward(query_KBrLd, key_KBLd, value_KBLd, own, output, *((before, *prefix) if prefix else ()))
        ctx.scale = scale
        return output.view(kept, segments, repeats, length, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_KBrLd: Tensor) -> tuple[Tensor | None, ...]:
        query_KBrLd, key_KBLd, value_KBLd, own, output, *prefix = ctx.saved_tensors
        query, key, value = (x.flatten(0, 1) for x in (query_KBrLd.flatten(2, 3), key_KBLd, value_KBLd))
        gradient = gradient_KBrLd.reshape(output.shape)
        inner = (gradient * output).sum(-1, keepdim=True)
        slope = torch.bmm(gradient, value.mT).sub_(inner).mul_(own).mul_(ctx.scale)
        of_query, of_key, of_value = torch.bmm(slope, key), torch.bmm(slope.mT, query), torch.bmm(own.mT, gradient)
        of_prefix = []
        if prefix:
            before, key_KPd, value_KPd = prefix
            gradient, inner = (x.view(len(before), -1, x.shape[-1]) for x in (gradient, inner))
            slope = torch.bmm(gradient, value_KPd.mT).sub_(inner).mul_(before).mul_(ctx.scale)
            of_query.view(len(before), -1, of_query.shape[-1]).baddbmm_(slope, key_KPd)
            of_prefix = [torch.bmm(slope.mT, query_KBrLd.flatten(1, 3)), torch.bmm(before.mT, gradient)]
        of_own = (of_query.view_as(query_KBrLd), of_key.view_as(key_KBLd), of_value.view_as(value_KBLd))
        return None, *of_own, *of_prefix


@lru_cache(maxsize=256)
def _later(repeats: int, length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What is added to a segment's own scores, (r L, L): nothing up to the present, -inf beyond it."""
    return torch.full((length, length), float("-inf"), dtype=dtype, device=device).triu(1).repeat(repeats, 1)


def _spread(
    scale: float,
    softcap: float | None,
    mask: Tensor | None,
    query_KBrLd: Tensor,
    key_KBLd: Tensor,
    value_KBLd: Tensor,
    *prefix: Tensor,
) -> Tensor:
    """Attention of a block by PyTorch's own, prefix and keys written out for all who look at them."""
    kept, segments, repeats, length, _ = query_KBrLd.shape
    key, value = key_KBLd.transpose(0, 1), value_KBLd.transpose(0, 1)
    if prefix:
        key, value = (
            torch.cat([shared.expand(segments, *shared.shape), own], dim=2)
            for shared, own in zip(prefix, (key, value), strict=True)
        )
    key, value = _repeated(repeats, key, value)
    query = query_KBrLd.transpose(0, 1).flatten(1, 2)
    if softcap is not None:
        found = _capped(query, key, value, mask, scale, softcap)
    else:
        found = scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None, scale=scale)
    return found.view(segments, kept, repeats, length, -1).transpose(0, 1)


def _repeated(repeats: int, *heads: Tensor) -> Iterator[Tensor]:
    """Keys and values (B, K, M, d) for every query head, (B, H, M, d)."""
    return (x.repeat_interleave(repeats, dim=1) if repeats > 1 else x for x in heads)


def _capped(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None, softcap: float
) -> Tensor:
    """Attention of (B, H, L, d) over (B, H, M, d) whose scores are capped, c·tanh(s/c), as Gemma 2 has it."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = softcap * torch.tanh(query @ key.transpose(2, 3) * (scale / softcap))
    if mask is None:
        mask = torch.ones_like(scores[0, 0], dtype=torch.bool).tril(scores.shape[-1] - scores.shape[-2])
    scores = scores + mask if mask.is_floating_point() else scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1) @ value


class _Taken(torch.autograd.Function):
    """Rows in another order. Their gradient is that of each in its old place, ``back``: where no row has two places
    whose gradient is not zero, nothing needs to be added up, nor zeros be written first. Rows in ``blank`` have none.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, back: Tensor, blank: Tensor | None) -> Tensor:
        ctx.back, ctx.blank = back, blank
        return rows.index_select(0, order)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        found = gradient.index_select(0, ctx.back)
        return found if ctx.blank is None else found.index_fill_(0, ctx.blank, 0), None, None, None


class _Rows:
    """Rows of tokens and heads, (N, h, d): cut into blocks of (K, B, h / K, L, d), and put back.

    What stands beyond a segment's end is put back nowhere and looked at by nobody, so its gradient is zero.
    """

    def __init__(self, blocks: Sequence[Tensor], heads: int, kept: int) -> None:
        """``blocks``: which tokens, (B, L) each, -1 beyond a segment's end. ``kept``: K."""
        head_K1r1 = torch.arange(heads, device=blocks[0].device).view(kept, 1, -1, 1)
        rows = [block_BL[None, :, None] * heads + head_K1r1 for block_BL in blocks]
        self._shapes = [row_KBrL.shape for row_KBrL in rows]
        found = torch.cat([row_KBrL.flatten() for row_KBrL in rows])
        real, self._beyond = (found >= 0).nonzero()[:, 0], (found < 0).nonzero()[:, 0]
        self._from = found.clamp(min=0)
        self._heads = heads
        self._home = torch.empty_like(real).index_copy_(0, found[real], real)

    def blocks(self, rows_Nhd: Tensor) -> list[Tensor]:
        """Block by block; beyond a segment's end stands some other token, which nobody looks at."""
        taken = _Taken.apply(rows_Nhd.flatten(0, 1), self._from, self._home, None)  # type: ignore[no-untyped-call]
        parts = torch.split_with_sizes(taken, [shape.numel() for shape in self._shapes])
        return [part.view(*shape, -1) for part, shape in zip(parts, self._shapes, strict=True)]

    def put_back(self, blocks: Sequence[Tensor]) -> Tensor:
        """The same rows of what was found for each block, (N, h, d)."""
        found = torch.cat([block.reshape(-1, block.shape[-1]) for block in blocks])
        put = _Taken.apply(found, self._home, self._from, self._beyond)  # type: ignore[no-untyped-call]
        return cast(Tensor, put.view(-1, self._heads, found.shape[-1]))


class _Arrangement(NamedTuple):
    """How the rows of a pack are arranged for a model's heads."""

    asking: _Rows
    told: _Rows
    prefixes: Sequence[int | None]
    """For each block the one that holds its prefix, if there is one."""
    masks: dict[tuple[int, int], Tensor]
    """Made in the first layer that asks for them, and gone with the pack."""

    def seen(self, prefix: int, length: int, device: torch.device) -> Tensor:
        """What a segment may see, (L, P + L): the whole prefix, and itself up to the present."""
        if (prefix, length) not in self.masks:
            whole = torch.ones(length, prefix + length, dtype=torch.bool, device=device)
            self.masks[prefix, length] = whole.tril(prefix)
        return self.masks[prefix, length]


def _arrangement(layout: Pack, heads: int, kept: int) -> _Arrangement:
    """That of ``layout``, made once for all layers."""
    if (heads, kept) not in layout.arranged:
        blocks: list[Tensor] = []
        prefixes: list[int | None] = []
        for group in layout.groups:
            prefix = None
            if group.stop > group.start:
                prefix = len(blocks)
                blocks.append(torch.arange(group.start, group.stop, device=layout.ids_1N.device)[None])
                prefixes.append(None)
            blocks += [block.rows_BL for block in group.blocks]
            prefixes += [prefix] * len(group.blocks)
        made = _Arrangement(_Rows(blocks, heads, kept), _Rows(blocks, kept, kept), prefixes, {})
        layout.arranged[heads, kept] = made
    return cast(_Arrangement, layout.arranged[heads, kept])


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
