"""Checksums a client sends with a body: each must be the body's.

zlib and hashlib have all but two that S3's clients use, CRC-32C and CRC-64/NVME. Those are computed here over many
lanes of the body at once, with numpy, and the lanes' sums joined: a table look-up a byte in Python would take a second
for every few megabytes.
Reference: the catalog of parametrised CRC algorithms, CRC-32/ISCSI and CRC-64/NVME; both are reflected.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InvalidInput
from limbeck.storage.objects.base import pieces

__all__ = ["Crc", "WrongChecksum", "check"]

LANES = 4096
"""How much of a body is summed side by side: enough that numpy's calls cost less than their work."""

Words = NDArray[np.uint64]


class WrongChecksum(InvalidInput):
    """A checksum that is not the body's."""


class Sum(Protocol):
    """A checksum on its way, as hashlib has them."""

    def update(self, data: bytes, /) -> None:
        """Take the next bytes."""

    def digest(self) -> bytes:
        """The checksum of all that came."""


def check(headers: Mapping[str, str], file: IO[bytes]) -> dict[str, str]:
    """Compare every checksum in ``headers`` with the rest of ``file``; gives those to be told again.

    Raises `WrongChecksum` for one that is not the body's.
    """
    asked = {name: make() for name, make in SUMS.items() if name in headers}
    if asked:
        for piece in pieces(file):
            for one in asked.values():
                one.update(piece)
    for name, one in asked.items():
        if headers[name] != base64.b64encode(one.digest()).decode():
            raise WrongChecksum(f"{name} is not that of the body that arrived; send it again")
    return {name: headers[name] for name in asked if name != "content-md5"}


class Crc:
    """A reflected CRC of ``bits`` bits with the reversed ``polynomial``, all ones at first and inverted at last."""

    def __init__(self, polynomial: int, bits: int) -> None:
        self._table = _table(polynomial)
        self._bits = bits
        self._ones = np.uint64((1 << bits) - 1)
        self._register = self._ones

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        steps = len(data) // LANES
        if steps:
            self._register = self._lanes(np.frombuffer(data, np.uint8, steps * LANES).reshape(LANES, steps))
        for byte in data[steps * LANES :]:
            self._register = self._table[(int(self._register) ^ byte) & 0xFF] ^ (self._register >> np.uint64(8))

    def digest(self) -> bytes:
        """The checksum of all that came, its highest byte first."""
        return int(self._register ^ self._ones).to_bytes(self._bits // 8, "big")

    def _lanes(self, data: NDArray[np.uint8]) -> np.uint64:
        """The register after the lanes of ``data``, one after the other.

        A register that starts at nought is linear in the bytes, so lanes are summed from nought, all but the first,
        which starts where we are; neighbors are joined by moving the left one on over as many zero bytes as the
        right one has.
        """
        registers: Words = np.zeros(len(data), np.uint64)
        registers[0] = self._register
        for column in np.ascontiguousarray(data.T):
            registers = self._table[(registers ^ column) & np.uint64(0xFF)] ^ (registers >> np.uint64(8))
        moved = self._moved(data.shape[1])
        while len(registers) > 1:
            registers = _apply(moved, registers[0::2]) ^ registers[1::2]
            moved = _apply(moved, moved)
        return np.uint64(registers[0])

    def _moved(self, count: int) -> Words:
        """What ``count`` zero bytes make of each single bit of the register."""
        made: Words = np.uint64(1) << np.arange(self._bits, dtype=np.uint64)
        power = self._table[made & np.uint64(0xFF)] ^ (made >> np.uint64(8))
        while count:
            if count & 1:
                made = _apply(power, made)
            power, count = _apply(power, power), count >> 1
        return made


def _table(polynomial: int) -> Words:
    table: Words = np.arange(256, dtype=np.uint64)
    for _ in range(8):
        table = np.where(table & np.uint64(1), (table >> np.uint64(1)) ^ np.uint64(polynomial), table >> np.uint64(1))
    return table


def _apply(images: Words, registers: Words) -> Words:
    """The linear map that takes bit i to ``images[i]``, of every register."""
    made: Words = np.zeros(len(registers), np.uint64)
    for place, image in enumerate(images):
        made ^= np.where((registers >> np.uint64(place)) & np.uint64(1), image, np.uint64(0))
    return made


class _Crc32:
    def __init__(self) -> None:
        self._sum = 0

    def update(self, data: bytes) -> None:
        self._sum = zlib.crc32(data, self._sum)

    def digest(self) -> bytes:
        return self._sum.to_bytes(4, "big")


def _hash(name: str) -> Callable[[], Any]:
    return lambda: hashlib.new(name, usedforsecurity=False)


SUMS: Mapping[str, Callable[[], Sum]] = {
    "content-md5": _hash("md5"),
    "x-amz-checksum-crc32": _Crc32,
    "x-amz-checksum-crc32c": lambda: Crc(0x82F63B78, 32),
    "x-amz-checksum-crc64nvme": lambda: Crc(0x9A6C9329AC4BC9B5, 64),
    "x-amz-checksum-sha1": _hash("sha1"),
    "x-amz-checksum-sha256": _hash("sha256"),
}
