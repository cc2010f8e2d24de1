"""Soft labels in few bytes: a row of bits a response token, all rows of one size, so that a file of them is mapped into
memory and only what is looked at is read.

Legend: T tokens, K candidates, V vocabulary, B bytes of a row.

A row holds, for one token, bit after bit:

| part            | bits                    | how                                                                     |
|-----------------|-------------------------|-------------------------------------------------------------------------|
| candidates' ids | K (l + 1) + (V >> l)    | sorted, then Elias-Fano: l low bits each; the rest in unary             |
| log-probabilities | K b                   | in the ids' order; the cube root of p on a grid of 2^b - 1 steps        |
| tail            | 16                      | the log of the mass outside, as a half-precision float                  |

Sorting throws away the order by likelihood, which the log-probabilities tell anyway, and saves log2 K! bits: 214 at
K = 50. Elias-Fano (Vigna 2013, arXiv:1206.4300) is within half a bit a candidate of what any code for a set needs. The
grid is that of the cube root because an error e in log p costs about p e^2 / 2 nats, and the quantizer that makes the
sum of those smallest has its points as dense as the cube root of that weight (Panter and Dite 1951). b is what fits
into `BUDGET`, but at most 12: at K = 50 a row has at most 128 bytes, with b = 8 for SmolLM2's 49,152 tokens, 6 for
Qwen's 151,936 and 5 for Gemma's 262,144; at K = 32 b is 12.

Packing what was unpacked gives the same bits again. A packed distribution sums to 1 only as nearly as its bits go.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save_file

from limbeck.records import SoftLabels, SoftLabelsLater
from limbeck.storage.tensor_files import tensor_file

__all__ = ["Layout", "Signals", "loss", "read", "write"]

BUDGET = 1024
"""Bits of a row of up to 50 candidates; more candidates get as many each."""

PORTION = 4096
"""Tokens packed at once: the bits of 4,096 rows take 4 MB."""

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """How rows are laid out for K candidates of a vocabulary of V."""

    k: int
    vocabulary: int

    @property
    def low_bits(self) -> int:
        """Of each id, told as they are."""
        return max(0, (self.vocabulary // self.k).bit_length() - 1)

    @property
    def high_bits(self) -> int:
        """The length of the unary part: a one for each id, a zero for each step of what is above its low bits."""
        return self.k + (self.vocabulary - 1 >> self.low_bits)

    @property
    def grid_bits(self) -> int:
        """Of each log-probability."""
        left = BUDGET * max(50, self.k) // 50 - self.k * self.low_bits - self.high_bits - 16
        return min(12, max(4, left // self.k))

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return -(-(self.k * (self.low_bits + self.grid_bits) + self.high_bits + 16) // 8)

    def pack(self, soft: SoftLabels) -> Bytes:
        """Rows, (T, B). A token may be several of the K, as it is where they were drawn."""
        ids_TK = soft.top_ids_TK.astype(np.int64)
        order_TK = ids_TK.argsort(axis=1, kind="stable")
        ids_TK = np.take_along_axis(ids_TK, order_TK, axis=1)
        grid = (1 << self.grid_bits) - 1
        roots_TK = np.exp(np.take_along_axis(soft.top_logprobs_TK, order_TK, axis=1).astype(np.float64) / 3.0)
        codes_TK = np.rint(roots_TK * grid).clip(1, grid).astype(np.int64)
        high_TH = np.zeros((len(ids_TK), self.high_bits), np.uint8)
        np.put_along_axis(high_TH, (ids_TK >> self.low_bits) + np.arange(self.k), 1, axis=1)
        # What is less than a half can tell stands as the least it can: -inf would be a mass that nobody may have.
        tail_T1 = soft.tail_logprob_T.astype(np.float16).view(np.uint16).astype(np.int64)[:, None]
        parts = (high_TH, _bits(ids_TK, self.low_bits), _bits(codes_TK, self.grid_bits), _bits(tail_T1, 16))
        return np.packbits(np.concatenate(parts, axis=1), axis=1)

    def unpack(self, rows_TB: Bytes) -> SoftLabels:
        """What `pack` was given, the likeliest first, as nearly as the bits tell."""
        bits = np.unpackbits(rows_TB, axis=1)
        at = np.cumsum([self.high_bits, self.k * self.low_bits, self.k * self.grid_bits, 16]).tolist()
        high, low, codes, tail = (bits[:, a:b] for a, b in zip([0, *at], at, strict=False))
        above_TK = np.nonzero(high)[1].reshape(-1, self.k) - np.arange(self.k)
        ids_TK = (above_TK << self.low_bits) + _numbers(low, self.k)
        codes_TK = _numbers(codes, self.k)
        order_TK = (-codes_TK).argsort(axis=1, kind="stable")
        logprobs_TK = 3.0 * np.log(np.take_along_axis(codes_TK, order_TK, axis=1) / ((1 << self.grid_bits) - 1))
        tail_T = _numbers(tail, 1)[:, 0].astype(np.uint16).view(np.float16).astype(np.float32)
        return SoftLabels(
            np.take_along_axis(ids_TK, order_TK, axis=1).astype(np.int32), logprobs_TK.astype(np.float32), tail_T
        )


@dataclass(frozen=True, eq=False)
class Signals:
    """The soft labels of many answers, end to end in a file."""

    layout: Layout
    rows: Any
    """(T, B), mapped: what is sliced is read."""
    told: Mapping[str, str]

    def labels(self, start: int, stop: int) -> SoftLabels:
        """Those of the tokens from ``start`` to ``stop``, which stay in the file until they are looked at."""
        return SoftLabelsLater(self.layout.k, lambda: self.layout.unpack(self.rows[start:stop]))


def write(path: Path, soft: SoftLabels, told: Mapping[str, str]) -> dict[str, float]:
    """Write the soft labels of many answers, end to end; gives what that costs: bytes a token, and nats lost by it.

    ``told`` is kept beside them. The vocabulary is as large as the largest id asks for.
    """
    layout = Layout(soft.k, max(soft.k, int(soft.top_ids_TK.max(initial=0)) + 1))
    rows = np.zeros((len(soft.tail_logprob_T), layout.row_bytes), np.uint8)
    lost, mass = 0.0, 0.0
    for start in range(0, len(rows), PORTION):
        own = slice(start, start + PORTION)
        some = SoftLabels(soft.top_ids_TK[own], soft.top_logprobs_TK[own], soft.tail_logprob_T[own])
        rows[own] = layout.pack(some)
        lost += float(loss(some, layout.unpack(rows[own])).sum())
        mass += float(np.exp(some.tail_logprob_T.astype(np.float64)).sum())
    count = max(1, len(rows))
    # One entry: safetensors writes several in another order each time, and the same data are the same file.
    about = json.dumps({"k": layout.k, "vocabulary": layout.vocabulary, "told": dict(told)})
    with tensor_file(path):
        save_file({"rows": rows}, path, metadata={"about": about})
    lost = max(0.0, lost)  # less is rounding
    return {"bytes_a_token": layout.row_bytes, "nats_lost": lost / count, "mass_outside": mass / count}


def read(path: Path) -> Signals:
    """Open a file that `write` made; nothing of it is read yet."""
    with tensor_file(path):
        file: Any = safe_open(path, "numpy")
    about = json.loads(file.metadata()["about"])
    return Signals(Layout(about["k"], about["vocabulary"]), file.get_slice("rows"), about["told"])


def loss(exact: SoftLabels, packed: SoftLabels) -> npt.NDArray[np.float64]:
    """KL(exact ‖ packed) of each token, in nats, over candidates and tail; the packed one is scaled to sum to 1."""
    p, q = (_by_id(soft) for soft in (exact, packed))
    q = q - np.logaddexp.reduce(q, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        terms = np.exp(p) * (p - q)
    divergence: npt.NDArray[np.float64] = np.where(np.isfinite(p), terms, 0.0).sum(axis=1)
    return divergence


def _by_id(soft: SoftLabels) -> npt.NDArray[np.float64]:
    """Log-probabilities in the order of the ids, the tail last, (T, K + 1)."""
    order_TK = soft.top_ids_TK.argsort(axis=1, kind="stable")
    own_TK = np.take_along_axis(soft.top_logprobs_TK, order_TK, axis=1).astype(np.float64)
    return np.concatenate([own_TK, soft.tail_logprob_T.astype(np.float64)[:, None]], axis=1)


def _bits(numbers: npt.NDArray[np.int64], width: int) -> Bytes:
    """The last ``width`` bits of each number of a row, one row a row, the highest first."""
    places = np.arange(width - 1, -1, -1)
    return (numbers[:, :, None] >> places & 1).astype(np.uint8).reshape(len(numbers), numbers.shape[1] * width)


def _numbers(bits: Bytes, count: int) -> npt.NDArray[np.int64]:
    """The ``count`` numbers a row of bits holds."""
    width = bits.shape[1] // count
    powers: npt.NDArray[Any] = 1 << np.arange(width - 1, -1, -1)
    numbers: npt.NDArray[np.int64] = bits.reshape(len(bits), count, width).astype(np.int64) @ powers
    return numbers
