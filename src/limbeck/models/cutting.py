"""A GGUF file with a choice of another's layers: the untouched student that ships as a base model. No torch.

Tensors are copied as they are stored; the kept layers close ranks, as `shrink.keep_layers` has it in memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from limbeck.models.catalog import ModelSource

__all__ = ["cut_gguf", "provide"]

_BLOCK = re.compile(r"blk\.(\d+)\.(.*)")


def provide(source: ModelSource) -> Path:
    """The path of ``source``, its file made first if it is one that is cut from another."""
    if source.cut_from is not None and not source.path.exists():
        whole, layers = source.cut_from
        cut_gguf(whole, layers, source.path)
    return source.path


def cut_gguf(source: Path, layers: Sequence[int], path: Path) -> Path:
    """Write ``layers`` of the model in ``source`` (numbers from 0, rising) to ``path``, whole or not at all."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter  # half a second, and only on first use of such a model

    reader = GGUFReader(source)
    architecture = str(reader.fields["general.architecture"].contents())
    making = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(making, architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = len(layers) if name == f"{architecture}.block_count" else field.contents()
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, field.types[0], sub_type=inner)
    position = {layer: place for place, layer in enumerate(layers)}
    for tensor in reader.tensors:
        found = _BLOCK.fullmatch(tensor.name)
        if found is None:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        elif int(found[1]) in position:
            writer.add_tensor(f"blk.{position[int(found[1])]}.{found[2]}", tensor.data, raw_dtype=tensor.tensor_type)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        making.replace(path)
    finally:
        making.unlink(missing_ok=True)
    return path
