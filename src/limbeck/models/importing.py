"""A model from elsewhere: looked over without loading it, every fault told at once, then copied whole or not at all.

    found = inspect(Path("downloads/some-model"))          # raises InvalidInput with all that is wrong
    adopt(Path("downloads/some-model"), Path("models/some-model"))

Taken are a folder in Hugging Face layout with safetensors, or one GGUF file. Pickled weights are refused: reading
one runs code that came with it. Neither torch nor transformers is imported; the architectures that transformers
knows are read from its source.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gguf import GGUFReader

from limbeck.errors import Conflict, DamagedArtifact, InvalidInput
from limbeck.models.header import context_told
from limbeck.models.template import MORE_TEMPLATES, chat_template
from limbeck.models.tokenizer import WRITTEN_BY
from limbeck.models.weights import INDEX, Weights, weight_files
from limbeck.storage.workspace import read_json

__all__ = ["GGUF_NAME", "Imported", "adopt", "copy_layout", "inspect", "making"]

GGUF_NAME = "model.gguf"
"""What a GGUF file is called once it is adopted."""

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
PASSED_OVER = (
    *PICKLES,
    "*.gguf",
    "Modelfile",
    "parity.json",
    "*.h5",
    "*.msgpack",
    "*.onnx",
    "*.py",
    "manifest.json",
    ".*",
)
"""What is in such folders beside the model, and stays behind: other forms of the weights, code, what speaks of them."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
LAYER = re.compile(r"\.layers\.(\d+)\.")
"""In a weight's name. Some families keep layers beyond their depth, which only loading knows to pass over."""


@dataclass(frozen=True)
class Imported:
    """A model that was looked over and can be used."""

    path: Path
    """The folder, or the GGUF file."""
    architecture: str
    """As its configuration names it: LlamaForCausalLM, or llama in a GGUF file."""
    context_tokens: int | None
    """The most tokens, prompt and answer together; None where the configuration does not say."""
    parameters: int
    has_chat_template: bool
    notes: tuple[str, ...] = ()
    """What works all the same, and what it means."""


def inspect(source: Path) -> Imported:
    """Look a folder or a GGUF file over. Raises `InvalidInput` with a line for each thing that is wrong."""
    if source.is_dir():
        return _inspect_folder(source)
    if source.suffix == ".gguf" and source.is_file():
        return _inspect_gguf(source)
    found = "a file" if source.exists() else "nothing there"
    raise InvalidInput(f"{source}: {found}; expected a folder in Hugging Face layout or a .gguf file")


def adopt(source: Path, destination: Path) -> Imported:
    """Copy a model that passes `inspect` to the folder ``destination``, whole or not at all.

    Raises `InvalidInput` as `inspect` does, `Conflict` if there is something at ``destination``.
    """
    found = inspect(source)
    with making(destination) as folder:
        if source.is_dir():
            copy_layout(source, folder)
        else:
            shutil.copyfile(source, folder / GGUF_NAME)
    # What was copied is looked over again: the source may have changed meanwhile, and the paths are new.
    return inspect(destination if found.path.is_dir() else destination / GGUF_NAME)


@contextmanager
def making(destination: Path) -> Iterator[Path]:
    """A folder to fill that becomes ``destination`` if all goes well, and vanishes if not. Raises `Conflict`."""
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise Conflict(f"{destination}: there is something already; choose another place or empty it")
    destination.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=destination.parent, prefix=f".{destination.name}."))
    folder.chmod(0o755)
    try:
        yield folder
        try:
            folder.replace(destination)
        except OSError:
            raise Conflict(f"{destination}: another process made it meanwhile") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copy_layout(source: Path, folder: Path) -> None:
    """Copy the files of a model in Hugging Face layout: weights, configuration, tokenizer, templates, card."""
    left = {path for pattern in PASSED_OVER for path in source.glob(pattern)}
    chosen = set(weight_files(source))
    for path in sorted(path for path in source.iterdir() if path.is_file() and path not in left):
        if path.suffix != ".safetensors" or path in chosen:
            shutil.copyfile(path, folder / path.name)
    for path in (source / MORE_TEMPLATES).glob("*.jinja"):
        (folder / MORE_TEMPLATES).mkdir(exist_ok=True)
        shutil.copyfile(path, folder / MORE_TEMPLATES / path.name)


def _inspect_folder(folder: Path) -> Imported:
    faults: list[str] = []

    def attempt(look: Callable[[], Any]) -> Any:
        try:
            return look()
        except DamagedArtifact as fault:
            faults.append(str(fault))
            return None

    config = attempt(lambda: read_json(folder / "config.json"))
    architecture, context = "unknown", None
    if isinstance(config, dict):
        architecture = str((config.get("architectures") or ["none"])[0])
        context = context_told(config)
        if architecture not in _causal_architectures():
            faults.append(
                f"{folder / 'config.json'}: architecture {architecture}; expected a causal language model that"
                " transformers knows, as LlamaForCausalLM"
            )
        if "quantization_config" in config:
            faults.append(f"{folder / 'config.json'}: quantization_config; expected weights that are not quantized")
    elif config is not None:
        faults.append(f"{folder / 'config.json'}: found no keys; expected a model's configuration")
    weights = _look_at_weights(folder, faults, attempt)
    if isinstance(config, dict) and weights is not None:
        held = {int(found[1]) for name in weights if (found := LAYER.search(name))}
        depth = config.get("num_hidden_layers")
        if held and isinstance(depth, int) and (lost := sorted(set(range(depth)) - held)):
            faults.append(f"{folder}: {depth} layers by config.json, and no weights of layer {lost[0]}; expected all")
    tokenizers = [name for name in TOKENIZERS if (folder / name).exists()]
    if not tokenizers:
        faults.append(f"{folder}: no tokenizer; expected one of {', '.join(TOKENIZERS)}")
    notes = []
    if "tokenizer.json" in tokenizers:
        attempt(lambda: read_json(folder / "tokenizer.json"))
    else:
        notes.append(f"{folder}: no tokenizer.json; it can be trained, not hosted ({WRITTEN_BY})")
    template = attempt(lambda: chat_template(folder))
    if not template:
        notes.append(f"{folder}: no chat template; it can be trained, not asked in conversations")
    if faults:
        raise InvalidInput("\n".join(faults))
    assert weights is not None, "missing weights are a fault"
    return Imported(folder, architecture, context, weights.parameters, bool(template), tuple(notes))


def _look_at_weights(folder: Path, faults: list[str], attempt: Callable[[Callable[[], Any]], Any]) -> Weights | None:
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if not any(folder.glob("*.safetensors")) and not (folder / INDEX).exists() and pickles:
        faults.append(
            f"{folder}: only pickled weights ({', '.join(pickles)}), which run code when they are read; expected"
            " *.safetensors (where you trust them: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new))"
        )
        return None
    weights: Weights | None = attempt(lambda: Weights(folder))
    if weights is not None and (folder / INDEX).exists():
        listed = read_json(folder / INDEX)["weight_map"]
        lost = sorted(set(listed) - set(weights))
        if lost:
            faults.append(f"{folder / INDEX}: names {lost[0]} and {len(lost) - 1} more that are in none of its files")
    return weights


def _inspect_gguf(path: Path) -> Imported:
    try:
        reader = GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items() if "tokenizer.ggml" not in name}
        architecture = str(fields["general.architecture"])
        parameters = sum(int(tensor.n_elements) for tensor in reader.tensors)
    # The reader raises what its parsing runs into; whichever it is, the file is not what it should be.
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError, OSError) as error:
        raise InvalidInput(f"{path}: cannot be read as a GGUF file ({error}); expected a whole one") from None
    if "tokenizer.ggml.tokens" not in reader.fields:
        raise InvalidInput(f"{path}: no tokenizer in it; expected tokenizer.ggml.tokens")
    template = fields.get("tokenizer.chat_template")
    notes = () if template else (f"{path}: no chat template; it can be trained, not asked in conversations",)
    context = fields.get(f"{architecture}.context_length")
    return Imported(path, architecture, context, parameters, bool(template), notes)


@cache
def _causal_architectures() -> frozenset[str]:
    """The classes transformers has for causal language models, read from its source: importing it takes seconds."""
    package = importlib.util.find_spec("transformers")
    assert package is not None and package.submodule_search_locations, "a dependency"
    source = Path(package.submodule_search_locations[0]) / "models" / "auto" / "modeling_auto.py"
    table = source.read_text(encoding="utf-8").partition("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES = OrderedDict(")[2]
    names = frozenset(re.findall(r'\("\w+", "(\w+)"\)', table.partition("\n)\n")[0]))
    assert "LlamaForCausalLM" in names, f"{source} is written otherwise than expected"
    return names
