"""Keys and values of a batch under way: a prefix that all its rows share, held once, and each row's own.

Legend: B rows, H query heads, K key heads, G = H / K, L new positions, P positions of the prefix, M own positions
so far, d head width.

The prefix is not copied to the rows. Where few tokens a row are computed, attention over it is one matrix product for
all rows (Juravsky et al. 2024, "Hydragen", arXiv:2402.05099, section 3.2; here the scores of both parts go through one
softmax instead of two that are joined). A row's own keys lie in room taken beforehand, so a step writes one position
and moves nothing. Prompts are padded on the left, so every row writes at the same place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import Cache, DynamicCache

from limbeck.models.attention import is_short
from limbeck.models.last_layer import only_read
from limbeck.models.packing import response_logits

__all__ = ["Memory", "PlainMemory", "Prefix", "read_prefix", "shares_well"]

PIECE_TOKENS = 512
"""Prompts are read so many positions at a time: what a layer makes of them then stays in the processor's cache."""

NOTHING = -1e30
"""Added to a score that must not count; finite, so that a padding position, which sees nothing, is no NaN."""

Prefix = Sequence[tuple[Tensor, Tensor]]
"""Keys and values, (K, P, d) each, of every layer."""


class Memory(Cache):  # type: ignore[misc]  # transformers is untyped here
    """What transformers calls a cache, and the attention over it."""

    def __init__(
        self, starts: Sequence[int], longest: int, room: int, device: torch.device, prefix: Prefix = ()
    ) -> None:
        """Rows whose own prompts fill ``longest`` columns from ``starts`` on; ``room`` columns in all."""
        self.layers: list[Any] = []  # none of transformers' own
        self._prefix = prefix
        self._shared = prefix[0][0].shape[1] if prefix else 0
        self.starts, self.longest = starts, longest
        self._start_B = torch.tensor(starts, device=device)
        self._room, self._filled = room, 0
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._rows = slice(None)
        """Those that are computed now."""
        self._biases: dict[int | None, Tensor] = {}

    def forward(self, model: Any, ids_BL: Tensor) -> Tensor:
        """Logits, (B, V), after the last of the new tokens."""
        rows, new = ids_BL.shape
        piece = max(1, PIECE_TOKENS // new)
        hidden = [self._hidden(model, ids_BL, slice(at, at + piece)) for at in range(0, rows, piece)]
        self._filled += new
        return response_logits(model, torch.cat(hidden))

    def _hidden(self, model: Any, ids_BL: Tensor, rows: slice) -> Tensor:
        """Hidden states, (rows, D), after the last of the new tokens of some rows."""
        self._rows = rows
        self._biases.clear()
        columns_L = torch.arange(self._filled, self._filled + ids_BL.shape[1], device=ids_BL.device)
        positions_BL = (self._shared + columns_L[None] - self._start_B[rows, None]).clamp(min=0)
        decoder, new = model.get_decoder(), ids_BL.shape[1]
        with only_read(decoder, columns_L[-1:] - self._filled, new):
            hidden_BLD = decoder(
                input_ids=ids_BL[rows],
                position_ids=positions_BL,
                # A 4-dimensional mask tells transformers that masking is our affair.
                attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=ids_BL.device),
                past_key_values=self,
                use_cache=True,
                layout=self,
            ).last_hidden_state
        return torch.as_tensor(hidden_BLD[:, -1])

    def select(self, rows: Tensor) -> None:
        """Keep only these rows."""
        self._start_B = self._start_B[rows]
        for layer, (keys, values) in enumerate(zip(self._keys, self._values, strict=True)):
            self._keys[layer], self._values[layer] = keys[rows], values[rows]

    def as_prefix(self) -> Prefix:
        """What one row holds, to be shared by others."""
        held = slice(0, self._filled)
        return [(keys[0, :, held], values[0, :, held]) for keys, values in zip(self._keys, self._values, strict=True)]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the new positions of a layer; gives its rows' own so far, (B, K, M, d). For transformers to call."""
        if layer_idx == len(self._keys):
            shape = (len(self._start_B), key_states.shape[1], self._room, key_states.shape[3])
            self._keys.append(key_states.new_empty(shape))
            self._values.append(value_states.new_empty((*shape[:3], value_states.shape[3])))
        end = self._filled + key_states.shape[2]
        keys, values = self._keys[layer_idx][self._rows], self._values[layer_idx][self._rows]
        keys[:, :, self._filled : end] = key_states
        values[:, :, self._filled : end] = value_states
        return keys[:, :, :end], values[:, :, :end]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions behind, the prefix among them. Asked by transformers."""
        return self._shared + self._filled

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
        """Attention of the new positions over prefix and own, (B, L, H, d)."""
        new, width = query_BHLd.shape[2:]
        bias_B1LM = self._bias(new, window)
        if not is_short(new, width) and softcap is None:
            return self._attend_many(layer, query_BHLd, key_BKMd, value_BKMd, scaling, bias_B1LM)
        return self._attend_each(layer, query_BHLd, key_BKMd, value_BKMd, scaling, softcap, bias_B1LM)

    def _bias(self, new: int, window: int | None) -> Tensor:
        """0 where a new position may look and `NOTHING` where not, (B, 1, L, P + M)."""
        if window not in self._biases:
            start_B = self._start_B[self._rows]
            own_M = torch.arange(self._filled + new, device=start_B.device)
            column_L1 = own_M[self._filled :, None]
            seen_BLM = (own_M[None, None] >= start_B[:, None, None]) & (own_M <= column_L1)[None]
            seen_BLP = seen_BLM.new_ones(1, new, self._shared).expand(len(start_B), -1, -1)
            if window is not None:
                seen_BLM = seen_BLM & (own_M > column_L1 - window)[None]
                place_BL1 = (self._shared + column_L1)[None] - start_B[:, None, None]
                seen_BLP = torch.arange(self._shared, device=start_B.device)[None, None] > place_BL1 - window
            seen = torch.cat([seen_BLP, seen_BLM], dim=2)
            self._biases[window] = torch.where(seen, 0.0, NOTHING)[:, None]
        return self._biases[window]

    def _attend_many(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, bias: Tensor
    ) -> Tensor:
        """Many positions a row, as when long prompts are read: PyTorch's own attention, the prefix spread meanwhile."""
        if self._prefix:
            spread = (x.expand(query.shape[0], -1, -1, -1) for x in self._prefix[layer])
            key, value = (torch.cat([shared, own], dim=2) for shared, own in zip(spread, (key, value), strict=True))
        repeats = query.shape[1] // key.shape[1]
        key, value = (x.repeat_interleave(repeats, dim=1) for x in (key, value))
        return scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scaling).transpose(1, 2)

    def _attend_each(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        softcap: float | None,
        bias: Tensor,
    ) -> Tensor:
        """Few positions a row, one in most steps: products with the prefix for all rows, others with each row's own."""
        rows, heads, new, width = query.shape
        groups = heads // key.shape[1]
        scale = width**-0.5 if scaling is None else scaling
        # Heads that share a key head are rows of one matrix: no key is copied for them.
        query_BKQd = (query * scale).reshape(rows, -1, groups * new, width)
        scores_BKQM = query_BKQd @ key.transpose(2, 3)
        if self._prefix:
            prefix_key, prefix_value = self._prefix[layer]
            query_KRd = query_BKQd.transpose(0, 1).flatten(1, 2)
            over_KRP = query_KRd @ prefix_key.transpose(1, 2)
            over_BKQP = over_KRP.view(len(over_KRP), rows, groups * new, -1).transpose(0, 1)
            scores_BKQM = torch.cat([over_BKQP, scores_BKQM], dim=3)
        if softcap is not None:
            scores_BKQM = softcap * torch.tanh(scores_BKQM / softcap)
        shaped = scores_BKQM.view(rows, -1, groups, new, scores_BKQM.shape[3]) + bias[:, :, None]
        shares_BKQM = shaped.softmax(-1).flatten(2, 3)
        out_BKQd = shares_BKQM[..., self._shared :] @ value
        if self._prefix:
            shares_KRP = shares_BKQM[..., : self._shared].transpose(0, 1).flatten(1, 2)
            out_KRd = shares_KRP @ prefix_value
            out_BKQd = out_BKQd + out_KRd.view(len(out_KRd), rows, groups * new, -1).transpose(0, 1)
        out = out_BKQd.view(rows, -1, groups, new, value.shape[3]).permute(0, 3, 1, 2, 4)
        return out.reshape(rows, new, heads, value.shape[3])


class PlainMemory:
    """The same for an architecture whose attention is not ours to compute: transformers' own cache, nothing shared."""

    def __init__(self, starts: Sequence[int], longest: int, model: Any) -> None:
        self.starts, self.longest = starts, longest
        self._start_B = torch.tensor(starts, device=model.device)
        self._cache = DynamicCache(config=model.config)
        self._filled = 0

    def forward(self, model: Any, ids_BL: Tensor) -> Tensor:
        """See `Memory.forward`."""
        columns = torch.arange(self._filled + ids_BL.shape[1], device=ids_BL.device)
        mask_BM = (columns[None] >= self._start_B[:, None]).long()
        positions_BL = (columns[None, self._filled :] - self._start_B[:, None]).clamp(min=0)
        self._filled += ids_BL.shape[1]
        out = model(
            input_ids=ids_BL,
            attention_mask=mask_BM,
            position_ids=positions_BL,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return torch.as_tensor(out.logits[:, -1])

    def select(self, rows: Tensor) -> None:
        """See `Memory.select`."""
        self._start_B = self._start_B[rows]
        self._cache.batch_select_indices(rows)


def read_prefix(model: Any, prefix: Sequence[int]) -> Prefix:
    """Keys and values after reading ``prefix``."""
    memory = Memory([0], len(prefix), len(prefix), model.device)
    memory.forward(model, torch.tensor([list(prefix)], device=model.device))
    return memory.as_prefix()


@torch.inference_mode()
def shares_well(model: Any) -> bool:
    """Whether `Memory` computes what the model itself does: seen on two rows with a prefix, one step each.

    An architecture that keeps another kind of state, or takes its attention from elsewhere, is found out here.
    """
    ids = torch.arange(3, 15, device=model.device) % model.config.get_text_config().vocab_size
    prompts = [ids[:9].tolist(), [*ids[:4].tolist(), *ids[9:12].tolist()]]
    try:
        memory = Memory([0, 2], 5, 6, model.device, read_prefix(model, prompts[0][:4]))
        memory.forward(model, torch.tensor([prompts[0][4:], [0, 0, *prompts[1][4:]]], device=model.device))
        ours = memory.forward(model, ids[:1].expand(2, 1))
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError):
        return False
    whole = (torch.tensor([[*prompt, int(ids[0])]], device=model.device) for prompt in prompts)
    plain = torch.stack([model(one).logits[0, -1] for one in whole])
    return bool((ours - plain).abs().max() < 1e-2 * plain.abs().max().clamp(min=1.0))
