"""The tensors of a folder's safetensors files, read and written without torch.

Each file's header is checked against its size before anything is read, so a download that broke off is found at
once. Values come as fp32, one tensor at a time. Numpy has no bfloat16, so its bytes are widened by hand: bfloat16 is
the upper half of an fp32.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from limbeck.errors import DamagedArtifact
from limbeck.storage.workspace import read_json

__all__ = ["INDEX", "Tensor", "Weights", "read_header", "weight_files", "write_weights"]

INDEX = "model.safetensors.index.json"
"""Names the file of each tensor, where there are several files."""

BYTES_OF = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
MAXIMUM_HEADER = 100_000_000
"""Bytes; the safetensors library's own limit."""


@dataclass(frozen=True)
class Tensor:
    """Where a tensor's bytes are, and what they mean."""

    file: Path
    start: int
    """Of the tensor's first byte in the file."""
    dtype: str
    """As safetensors names it: F32, BF16."""
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


class Weights(Mapping[str, Tensor]):
    """The tensors of a folder in Hugging Face layout, by name. Raises `DamagedArtifact` if a file is not whole."""

    def __init__(self, folder: Path) -> None:
        self._tensors: dict[str, Tensor] = {}
        for path in weight_files(folder):
            self._tensors |= read_header(path)

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Any:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    @property
    def parameters(self) -> int:
        """How many numbers all tensors hold together."""
        return sum(tensor.size for tensor in self._tensors.values())

    def read(self, name: str) -> npt.NDArray[np.float32]:
        """The values of one tensor. Raises `DamagedArtifact` if they are no floating-point numbers."""
        tensor = self._tensors[name]
        if tensor.dtype not in FLOATS:
            raise DamagedArtifact(
                f"{tensor.file}: {name} is {tensor.dtype}; expected unquantized weights ({', '.join(FLOATS)})"
            )
        stored = np.fromfile(tensor.file, FLOATS[tensor.dtype], tensor.size, offset=tensor.start)
        if tensor.dtype == "BF16":
            stored = (stored.astype(np.uint32) << 16).view(np.float32)
        return stored.astype(np.float32).reshape(tensor.shape)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: those its index names, or all there are. Raises `DamagedArtifact` if none."""
    if (folder / INDEX).exists():
        listed = read_json(folder / INDEX).get("weight_map")
        if not isinstance(listed, dict) or not listed:
            raise DamagedArtifact(f"{folder / INDEX}: no weight_map; expected the file of each tensor")
        return [folder / name for name in sorted(set(map(str, listed.values())))]
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise DamagedArtifact(f"{folder}: no *.safetensors; expected the weights")
    return found


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of one file. Raises `DamagedArtifact` if its header cannot be read or names bytes it has not.

    The format: 8 bytes with the header's length, the header in JSON, the tensors' bytes without gaps
    (https://huggingface.co/docs/safetensors, "Format").
    """
    if not path.is_file():
        raise DamagedArtifact(f"{path}: missing")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MAXIMUM_HEADER):
            raise DamagedArtifact(f"{path}: {size:,} bytes, with no whole header; expected a safetensors file")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            tensors = {name: _tensor(path, 8 + length, row) for name, row in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedArtifact(f"{path}: its header is not that of a safetensors file ({error})") from None
    end = 8 + length + max((int(row["data_offsets"][1]) for row in header.values()), default=0)
    if end != size:
        raise DamagedArtifact(f"{path}: {size:,} bytes; its header says {end:,}")
    return tensors


def write_weights(
    path: Path, shapes: Mapping[str, tuple[int, ...]], values: Callable[[str], npt.NDArray[np.float32]]
) -> None:
    """Write fp32 tensors as the safetensors library does, but one after another, so that memory holds one.

    ``values`` gives those of the tensor of a name, in its shape.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in sorted(shapes):
        start, end = end, end + 4 * math.prod(shapes[name])
        header[name] = {"dtype": "F32", "shape": shapes[name], "data_offsets": [start, end]}
    told = json.dumps(header, separators=(",", ":")).encode()
    told += b" " * (-len(told) % 8)
    with path.open("wb") as file:
        file.write(len(told).to_bytes(8, "little") + told)
        for name in sorted(shapes):
            file.write(np.ascontiguousarray(values(name), "<f4").data)  # not tofile: it loses why a disk took no more


def _tensor(path: Path, data: int, row: Mapping[str, Any]) -> Tensor:
    start, stop = map(int, row["data_offsets"])
    tensor = Tensor(path, data + start, str(row["dtype"]), tuple(map(int, row["shape"])))
    if tensor.dtype in BYTES_OF and stop - start != tensor.size * BYTES_OF[tensor.dtype]:
        raise ValueError(f"{stop - start} bytes for {tensor.dtype} of shape {list(tensor.shape)}")
    return tensor
