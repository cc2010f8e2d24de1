"""A model leaves for other engines: a GGUF file, Ollama's Modelfile, and how far the file is from the weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from limbeck.inference.engine import Engine
from limbeck.inference.parity import Parity, measure
from limbeck.models.gguf_file import gguf_name, write_gguf
from limbeck.models.modelfile import modelfile
from limbeck.records import Quantization
from limbeck.storage.workspace import write_json, writing

__all__ = ["HEADING", "export", "section"]

HEADING = "## Other engines"
"""Of the last section of a model card."""


def export(
    engine: Engine,
    folder: Path,
    quantization: Quantization,
    prompts: Sequence[Sequence[int]],
    threads: int,
    system: str | None = None,
) -> Parity:
    """Write ``model-QUANTIZATION.gguf``, ``Modelfile`` and ``parity.json`` beside the safetensors in ``folder``.

    ``engine`` has the same weights; ``prompts`` (token ids) are what the file is measured on;
    ``system`` is the system prompt the model learned with, for the Modelfile. Raises `NotYet` for a
    model that GGUF cannot hold, `DamagedArtifact` for a file that llama.cpp cannot read; no GGUF file is left then.
    """
    path = folder / gguf_name(quantization)
    write_gguf(folder, path, quantization)
    try:
        parity = measure(engine, path, quantization, prompts, threads)
    except BaseException:
        path.unlink()
        raise
    with writing(folder / "Modelfile") as file:
        file.write(modelfile(folder, path.name, system))
    write_json(folder / "parity.json", parity.to_json())
    return parity


def section(exported: Parity | str) -> str:
    """The last section of a model card: of the GGUF file and what it loses, or the reason why there is none."""
    if isinstance(exported, str):
        return f"{HEADING}\n\nThere is no GGUF file: {exported}.\n"
    return (
        f"{HEADING}\n\n`{gguf_name(exported.quantization)}` is for llama.cpp and LM Studio, and for Ollama with"
        f" `ollama create NAME -f Modelfile`. Against the safetensors, on {exported.prompts} prompts that were held"
        f" out or given: {exported}.\n"
    )
