"""A GGUF file becomes a folder in Hugging Face layout: what training computes with. The way back is `gguf_file`.

    unpack(Path("model.gguf"), Path("folder"))

transformers can read GGUF as well, and takes forty seconds for a file that this reads in three: it parses the
vocabulary four times and makes the table of names anew for each tensor. Known here are the architectures whose tensors
and tokenizers `gguf_file` and `tokenizer` know; of any other `unpackable` says no. Weights come as fp32, exactly as the
file's blocks say them, one tensor in memory at a time. Neither torch nor transformers is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, dequantize, quant_shape_to_byte_shape
from gguf.constants import MODEL_ARCH_NAMES
from gguf.tensor_mapping import get_tensor_name_map

from limbeck.errors import DamagedArtifact
from limbeck.models.gguf_families import FAMILIES
from limbeck.models.header import GGUFTensor, read_gguf, read_gguf_tensors
from limbeck.models.tokenizer import GGUF_SPLITS, Tokenizer
from limbeck.models.weights import write_weights
from limbeck.storage.workspace import write_json

__all__ = ["unpack", "unpackable"]

BY_ARCHITECTURE = {MODEL_ARCH_NAMES[family.arch]: name for name, family in FAMILIES.items()}
PLAIN = ("llama", "qwen2", "qwen3")
"""Architectures that differ in nothing but names and the order of rotary pairs."""

BLOCK_TENSORS = {
    "input_layernorm": "weight",
    "post_attention_layernorm": "weight",
    "self_attn.q_proj": "weight bias",
    "self_attn.k_proj": "weight bias",
    "self_attn.v_proj": "weight bias",
    "self_attn.o_proj": "weight bias",
    "self_attn.q_norm": "weight",
    "self_attn.k_norm": "weight",
    "mlp.gate_proj": "weight bias",
    "mlp.up_proj": "weight bias",
    "mlp.down_proj": "weight bias",
}
"""What a layer may hold, as transformers names it."""


def unpackable(path: Path) -> bool:
    """Whether `unpack` knows all there is in the file: architecture, tokenizer, and how positions turn."""
    header = read_gguf(path)
    architecture = header.get("general.architecture")
    return (
        architecture in PLAIN
        and header.get("tokenizer.ggml.model") == "gpt2"
        and header.get("tokenizer.ggml.pre", "default") in GGUF_SPLITS
        and header.get(f"{architecture}.rope.scaling.type", "none") in ("none", "linear", "yarn")
        and f"{architecture}.expert_count" not in header
        and "rope_freqs.weight" not in read_gguf_tensors(path)
    )


def unpack(path: Path, folder: Path) -> None:
    """Write weights, configuration, tokenizer and chat template of the file into ``folder``.

    Raises `DamagedArtifact` for a file that is not whole, or lacks what its architecture needs.
    """
    header, tensors = read_gguf(path), read_gguf_tensors(path)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        config = _config(header, tensors)
        placed = _placed(tensors, config)
        data = np.memmap(path, mode="r", dtype=np.uint8)
        shapes = {name: tensor.shape for name, tensor in placed.items()}
        write_weights(
            folder / "model.safetensors", shapes, lambda name: _turned(name, _read(data, placed[name]), config)
        )
    except (KeyError, ValueError) as error:
        raise DamagedArtifact(f"{path}: not a whole {header.get('general.architecture')} model: {error}") from None
    write_json(folder / "config.json", config)
    ends = dict.fromkeys(header[key] for key in _END_KEYS if key in header)
    named = {key: config[key] for key in ("bos_token_id", "pad_token_id") if key in config}
    write_json(folder / "generation_config.json", {**named, "eos_token_id": list(ends)} if ends else named)
    Tokenizer.open(path).save(folder)


_END_KEYS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")


def _config(header: Mapping[str, Any], tensors: Mapping[str, GGUFTensor]) -> dict[str, Any]:
    architecture = str(header["general.architecture"])

    def told(key: str, otherwise: Any = None) -> Any:
        return header.get(f"{architecture}.{key}", otherwise)

    heads, width = header[f"{architecture}.attention.head_count"], header[f"{architecture}.embedding_length"]
    config = {
        "architectures": [BY_ARCHITECTURE[architecture]],
        "model_type": architecture,
        "dtype": "float32",
        "vocab_size": tensors["token_embd.weight"].shape[0],
        "hidden_size": width,
        "intermediate_size": header[f"{architecture}.feed_forward_length"],
        "num_hidden_layers": header[f"{architecture}.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": told("attention.head_count_kv", heads),
        "head_dim": told("attention.key_length", width // heads),
        "hidden_act": "silu",
        "max_position_embeddings": header[f"{architecture}.context_length"],
        "rms_norm_eps": told("attention.layer_norm_rms_epsilon"),
        "rope_parameters": {"rope_theta": told("rope.freq_base", 10_000.0), **_stretched(told)},
        "tie_word_embeddings": "output.weight" not in tensors,
    }
    if architecture != "qwen2":  # whose projections have a bias whatever the configuration says
        config["attention_bias"] = "blk.0.attn_q.bias" in tensors
    if architecture == "llama":
        config["mlp_bias"] = "blk.0.ffn_up.bias" in tensors
    for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        if (token := header.get(f"tokenizer.ggml.{key}_token_id")) is not None:
            config[f"{name}_token_id"] = token
    return config


def _stretched(told: Callable[[str], Any]) -> dict[str, Any]:
    """How positions were stretched to a longer context; the names are those of transformers' rope_parameters."""
    kind = told("rope.scaling.type") or "none"
    if kind == "none":
        return {"rope_type": "default"}
    names = {
        "factor": "factor",
        "original_max_position_embeddings": "original_context_length",
        "beta_fast": "yarn_beta_fast",
        "beta_slow": "yarn_beta_slow",
    }
    found = {name: told(f"rope.scaling.{key}") for name, key in names.items()}
    return {"rope_type": kind, **{name: value for name, value in found.items() if value is not None}}


def _placed(tensors: Mapping[str, GGUFTensor], config: Mapping[str, Any]) -> dict[str, GGUFTensor]:
    """Every tensor by the name transformers has for it."""
    layers = config["num_hidden_layers"]
    places = get_tensor_name_map(FAMILIES[config["architectures"][0]].arch, layers)
    named = {name: places.get_name(name, try_suffixes=(".weight", ".bias")) for name in _names(layers)}
    placed = {name: tensors[place] for name, place in named.items() if place in tensors}
    left = sorted(set(tensors) - set(named.values()))
    if left:
        raise ValueError(f"the tensors {', '.join(left[:4])} have no place in it")
    return placed


def _turned(name: str, values: npt.NDArray[np.float32], config: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """A tensor's values as transformers wants them."""
    if FAMILIES[config["architectures"][0]].paired_rotary and (".q_proj." in name or ".k_proj." in name):
        return _halved(values, config["num_attention_heads" if ".q_proj." in name else "num_key_value_heads"])
    return values


def _names(layers: int) -> Iterator[str]:
    yield from ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")
    for layer in range(layers):
        for part, kinds in BLOCK_TENSORS.items():
            for kind in kinds.split():
                yield f"model.layers.{layer}.{part}.{kind}"


def _read(data: npt.NDArray[np.uint8], tensor: GGUFTensor) -> npt.NDArray[np.float32]:
    kind = GGMLQuantizationType(tensor.kind)
    rows = quant_shape_to_byte_shape(tensor.shape, kind)
    size = int(np.prod(rows))
    if tensor.start + size > len(data):
        raise ValueError(f"it ends at byte {len(data):,}, inside a tensor")
    return np.ascontiguousarray(dequantize(data[tensor.start : tensor.start + size].reshape(rows), kind))


def _halved(values: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Rows of each head from neighboring pairs, as llama.cpp turns them, to halves."""
    pairs = values.reshape(heads, values.shape[0] // heads // 2, 2, *values.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(values.shape))
