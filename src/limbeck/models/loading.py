"""Weights from disk into memory, and back.

Weights are safetensors or GGUF, never pickles, and no code that comes with a model is run. A GGUF file is
dequantized once and kept as safetensors in the home's cache, because reading it takes ten times as long.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Nothing is fetched and nothing is told to anybody: a mistyped folder must fail at once, not after a hub's time-out.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from limbeck.errors import DamagedArtifact, InvalidInput, NotYet
from limbeck.models.assembly import assembled
from limbeck.models.attention import ATTENTION
from limbeck.models.catalog import ModelSource, find
from limbeck.models.chat import Renderer
from limbeck.models.cutting import provide
from limbeck.models.device import device_called, moved
from limbeck.models.gguf_folder import unpack, unpackable
from limbeck.models.header import UNKNOWN_CONTEXT, context_told, read_gguf, read_gguf_tensors
from limbeck.models.identity import converted_folder, fingerprint_of
from limbeck.models.importing import GGUF_NAME
from limbeck.models.packing import window_of
from limbeck.models.quick import quickened
from limbeck.models.template import PLAIN
from limbeck.settings import Settings
from limbeck.storage.tensor_files import tensor_file

__all__ = ["LoadedModel", "folder_of", "load", "save"]

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


@dataclass
class LoadedModel:
    """A model ready to compute, with what turns conversations into its tokens."""

    id: str
    model: Any
    """A transformers causal language model in fp32, in evaluation mode."""
    renderer: Renderer
    source: ModelSource
    fingerprint: str
    """SHA-256 over weights, configuration, tokenizer and chat template."""

    @property
    def context_tokens(self) -> int:
        """The most tokens, prompt and answer together."""
        return context_told(vars(self.model.config.get_text_config())) or UNKNOWN_CONTEXT

    @property
    def sequence_tokens(self) -> int:
        """The most tokens of one sequence in a pack: the context, or a sliding window that is shorter."""
        return min(self.context_tokens, window_of(self.model.config) or self.context_tokens)

    @property
    def parameters(self) -> int:
        """How many weights; a tied embedding counts once."""
        return sum(p.numel() for p in self.model.parameters())


def load(name: str, settings: Settings) -> LoadedModel:
    """Load the model called ``name`` (see `catalog.find`) in fp32. Raises `UnknownModel` or `DamagedArtifact`.

    One without a chat template is given a plain one, which stays with what is made of it.
    """
    torch.set_num_threads(settings.threads)
    device = device_called(settings.device)
    source = find(name, settings)
    folder = folder_of(source, settings)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with tensor_file(folder):
            model, told = AutoModelForCausalLM.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                attn_implementation=ATTENTION,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are told in words by `_check_whole`
            )
    except KeyError as error:
        if error.args != (ATTENTION,):
            raise
        raise NotYet(f"{folder}: its attention is its architecture's own, which is not known here yet") from None
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedArtifact(f"{folder}: cannot be loaded as a causal language model: {reason}") from None
    _check_whole(model, told, folder)
    # Nothing is ever padded here, and where the padding token is also the end of a turn, as in SmolLM2, a padding
    # index would keep that token's embedding from being learned.
    model.get_input_embeddings().padding_idx = None
    if not tokenizer.chat_template and tokenizer.eos_token:
        begins = tokenizer.encode("a")[:1] == [tokenizer.bos_token_id]
        tokenizer.chat_template = ("{{ bos_token }}" if begins else "") + PLAIN
    return LoadedModel(
        source.id,
        moved(quickened(model.eval()), device),
        Renderer(tokenizer, _stop_ids(model)),
        source,
        source.fingerprint or fingerprint_of(folder, settings),
    )


def folder_of(source: ModelSource, settings: Settings) -> Path:
    """A model's folder in Hugging Face layout: its own, or that of a GGUF file's dequantized weights."""
    return _converted(source, settings) if source.path.suffix == ".gguf" else source.path


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model in Hugging Face layout: safetensors, configuration, tokenizer, chat template."""
    implementation = model.config._attn_implementation
    # The name of our attention function must not reach config.json: plain transformers does not know it.
    model.config._attn_implementation = "sdpa"
    try:
        with tensor_file(folder):
            _here(model).save_pretrained(folder)
        for weights in folder.glob("*.safetensors"):
            shutil.copymode(folder / "config.json", weights)  # safetensors lets nobody else read what it writes
        tokenizer.save_pretrained(folder)
    finally:
        model.config._attn_implementation = implementation


def _here(model: Any) -> Any:
    """``model``, or a copy of it on the processor."""
    if model.device.type == "cpu":
        return model
    copied = assembled(model.config, model.state_dict(), model.dtype, torch.device("cpu"))
    copied.generation_config = model.generation_config
    return copied


def _check_whole(model: Any, told: Mapping[str, Any], path: Path) -> None:
    """Raise `DamagedArtifact` where ``path`` holds other weights than its configuration describes, or more layers.

    ``told`` is transformers' own account: it draws at random what is missing or of another shape, and leaves out what
    is too much. A head that is tied to the embeddings is not missing.
    """
    if told["mismatched_keys"]:
        name, found, described = min(told["mismatched_keys"])
        raise DamagedArtifact(
            f"{path}: {name} is {list(found)} in its files; expected {list(described)}, as its configuration describes:"
            " mend config.json, or bring the model here again"
        )
    if missing := sorted(told["missing_keys"]):
        more = f" and {len(missing) - 1} more weights are" if missing[1:] else " is"
        raise DamagedArtifact(
            f"{path}: {missing[0]}{more} not in its files; expected all that its configuration describes: mend"
            " config.json, or bring the model here again, whole"
        )
    names, depth = model.state_dict().keys(), model.config.get_text_config().num_hidden_layers
    if beyond := sorted(one for one in told["unexpected_keys"] if re.sub(r"\.\d+\.", ".0.", one, count=1) in names):
        raise DamagedArtifact(
            f"{path}: {beyond[0]} is in its files, and its configuration has {depth} layers; expected as many as the"
            " files hold: mend num_hidden_layers in config.json"
        )


def _stop_ids(model: Any) -> list[int]:
    found = model.generation_config.eos_token_id
    return [] if found is None else [found] if isinstance(found, int) else list(found)


def _converted(source: ModelSource, settings: Settings) -> Path:
    """The folder of a GGUF file's dequantized weights, made on first use."""
    if not provide(source).exists():
        raise DamagedArtifact(f"{source.path}: missing; expected the weights of {source.id}")
    folder = converted_folder(source.path, settings)
    if (folder / "config.json").exists():
        return folder
    settings.cache.mkdir(parents=True, exist_ok=True)
    making = settings.cache / f".{folder.name}.{os.getpid()}"
    shutil.rmtree(making, ignore_errors=True)
    try:
        if unpackable(source.path):
            unpack(source.path, making)
        else:
            _convert_by_transformers(source, making)
        with suppress(OSError):  # another process was first
            making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def _convert_by_transformers(source: ModelSource, folder: Path) -> None:
    """What `unpack` does not know, transformers may; but it takes no notice of how positions were stretched."""
    header = read_gguf(source.path)
    scaling = header.get(f"{header.get('general.architecture')}.rope.scaling.type", "none")
    if scaling != "none" or "rope_freqs.weight" in read_gguf_tensors(source.path):
        raise NotYet(
            f"{source.path}: its positions are stretched for a longer context in a way that cannot be read from GGUF"
            " yet; expected the same model as a folder of safetensors (it can be hosted from the file as it is)"
        )
    if importlib.util.find_spec("accelerate") is None:  # which transformers needs for GGUF files only
        raise InvalidInput(
            f"{source.path}: reading this kind of GGUF file needs the extra: pip install 'limbeck[gguf]'"
        )
    with tempfile.TemporaryDirectory() as alone, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Alone in a folder: what lies beside the file, a tokenizer's settings say, would be mixed with its own.
        (Path(alone) / GGUF_NAME).symlink_to(source.path.resolve())
        tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file=GGUF_NAME)
        read = AutoModelForCausalLM.from_pretrained(alone, gguf_file=GGUF_NAME, dtype=torch.float32)
    # transformers refuses to save what it counts as quantized, so the model is built anew from its parts.
    values = {key: value for key, value in read.config.to_dict().items() if key != "quantization_config"}
    values["_name_or_path"] = source.id
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**values))
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    save(model, tokenizer, folder)


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file by name, on the processor. Raises as `tensor_file` does."""
    with tensor_file(path):
        return load_file(path)


def save_weights(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Write tensors as safetensors. Raises as `tensor_file` does."""
    with tensor_file(path):
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, path)
