"""Weights in Hugging Face layout become a GGUF file: what llama.cpp, Ollama and LM Studio read.

    write_gguf(Path("6-model"), Path("model-q8_0.gguf"), "q8_0")

Known are the Llama, Qwen (2, 2.5, 3) and Gemma (2, 3, text only) families. Each tensor is read, turned, quantized and
written before the next, so memory holds one. Neither torch nor transformers is needed.

What differs between the two worlds, beside the names:

- Llama's rotary embedding turns the two halves of a head in transformers, neighboring pairs in llama.cpp: the rows of
  its query and key projections are put in the other order.
- Gemma's norms multiply by 1 + weight in transformers, by the weight in llama.cpp.
- Llama 3's stretched frequencies are a formula in transformers, a tensor in GGUF.
- A file has a token for each row of the embeddings, padding included.

What GGUF or llama.cpp cannot hold is refused with `NotYet`, never written nearly right.
"""

from __future__ import annotations

import errno
import math
import os
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter, LlamaFileType, RopeScalingType, quant_shape_to_byte_shape, quantize
from gguf.constants import GGML_QUANT_VERSION, MODEL_ARCH, MODEL_ARCH_NAMES
from gguf.tensor_mapping import get_tensor_name_map

from limbeck.errors import NotYet
from limbeck.models.gguf_families import Convertible
from limbeck.models.gguf_vocabulary import Vocabulary, read_vocabulary
from limbeck.records import Quantization

__all__ = ["gguf_name", "write_gguf"]

BLOCK = 32
"""Numbers that share a scale at 8 or 4 bits; a tensor with rows that it does not divide stays in 16."""

FILE_TYPES: Mapping[Quantization, LlamaFileType] = {
    "f32": LlamaFileType.ALL_F32,
    "f16": LlamaFileType.MOSTLY_F16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
    "q4_1": LlamaFileType.MOSTLY_Q4_1,
    "q4_0": LlamaFileType.MOSTLY_Q4_0,
}


def gguf_name(quantization: Quantization) -> str:
    """What the file is called in a model's folder."""
    return f"model-{quantization}.gguf"


def write_gguf(folder: Path, path: Path, quantization: Quantization = "f16") -> None:
    """Write the model in ``folder`` to ``path``, whole or not at all.

    Norms and biases stay fp32. With 4 bits the embedding and the head get 8 bits, as what is lost there is lost for
    every token. Raises `NotYet` for what a GGUF file cannot hold, `DamagedArtifact` for a folder that is not whole.
    """
    model = Convertible(folder)
    vocabulary = read_vocabulary(folder, model.rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    making = Path(name)
    try:
        with closing(GGUFWriter(making, MODEL_ARCH_NAMES[model.family.arch])) as writer:
            _add_settings(writer, model)
            _add_vocabulary(writer, vocabulary)
            writer.add_file_type(FILE_TYPES[quantization])
            writer.add_quantization_version(GGML_QUANT_VERSION)
            _write_tensors(writer, model, quantization)
        with making.open("rb+") as file:
            os.fsync(file.fileno())
        making.chmod(0o644)
        making.replace(path)
    except OSError as error:
        if "requested and" not in str(error):
            raise
        # All that NumPy tells of a full disk is how much it took.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
    finally:
        making.unlink(missing_ok=True)


def _add_settings(writer: GGUFWriter, model: Convertible) -> None:
    writer.add_type("model")
    writer.add_vocab_size(model.rows)
    writer.add_context_length(int(model.number("max_position_embeddings")))
    writer.add_embedding_length(int(model.number("hidden_size")))
    writer.add_block_count(model.layers)
    writer.add_feed_forward_length(int(model.number("intermediate_size")))
    writer.add_head_count(model.heads)
    writer.add_head_count_kv(model.key_heads)
    writer.add_key_length(model.head_width)
    writer.add_value_length(model.head_width)
    writer.add_layer_norm_rms_eps(float(model.number("rms_norm_eps")))
    writer.add_rope_dimension_count(model.head_width)
    writer.add_rope_freq_base(model.base("full_attention"))
    _add_scaling(writer, model)
    if model.family.arch is MODEL_ARCH.GEMMA2:
        writer.add_attn_logit_softcapping(float(model.number("attn_logit_softcapping")))
        writer.add_final_logit_softcapping(float(model.number("final_logit_softcapping")))
    if model.family.arch is MODEL_ARCH.GEMMA3:
        writer.add_rope_freq_base_swa(model.base("sliding_attention"))
    if model.period is not None:
        writer.add_sliding_window(int(model.number("sliding_window")))
        if model.period != model.family.sliding_period:
            writer.add_sliding_window_pattern(model.period)


def _add_scaling(writer: GGUFWriter, model: Convertible) -> None:
    """How the model was stretched to longer contexts. Llama 3's way is a tensor: see `_llama3_factors`."""
    rope = model.rope
    match model.stretching:
        case "default" | "llama3":
            return
        case "linear":
            writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        case "yarn" if not any(rope.get(key) for key in ("attention_factor", "mscale", "mscale_all_dim")):
            writer.add_rope_scaling_type(RopeScalingType.YARN)
            writer.add_rope_scaling_orig_ctx_len(int(_original_context(model)))
            writer.add_rope_scaling_yarn_beta_fast(float(rope.get("beta_fast") or 32))
            writer.add_rope_scaling_yarn_beta_slow(float(rope.get("beta_slow") or 1))
        case kind:
            raise NotYet(
                f"{model.folder / 'config.json'}: positions stretched by {kind} cannot be written as GGUF yet;"
                " expected default, linear, llama3, or yarn with its own attention factor"
            )
    writer.add_rope_scaling_factor(float(rope["factor"]))


def _original_context(model: Convertible) -> float:
    return float(model.rope.get("original_max_position_embeddings") or model.number("max_position_embeddings"))


def _llama3_factors(model: Convertible) -> npt.NDArray[np.float32]:
    """What each rotary frequency is divided by, (head width / 2): 1 for short waves, ``factor`` for long ones.

    The formula is Llama 3.1's, as transformers 5.23 has it (modeling_rope_utils.py, _compute_llama3_parameters).
    """
    rope, width = model.rope, model.head_width
    wave = 2 * math.pi * model.base("full_attention") ** (np.arange(0, width, 2, dtype=np.float64) / width)
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    smooth = np.clip((_original_context(model) / wave - low) / (high - low), 0.0, 1.0)
    return np.asarray(1.0 / ((1 - smooth) / float(rope["factor"]) + smooth), dtype=np.float32)


def _add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    add = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "eot": writer.add_eot_token_id,
        "unk": writer.add_unk_token_id,
        "pad": writer.add_pad_token_id,
    }
    for name, token in vocabulary.special.items():
        add[name](token)
    writer.add_add_bos_token(vocabulary.add_bos)
    writer.add_add_eos_token(vocabulary.add_eos)
    writer.add_add_space_prefix(vocabulary.add_space_prefix)
    if vocabulary.chat_template is not None:
        writer.add_chat_template(vocabulary.chat_template)


def _write_tensors(writer: GGUFWriter, model: Convertible, quantization: Quantization) -> None:
    """The table of all tensors first, then their values, one by one."""
    names = get_tensor_name_map(model.family.arch, model.layers)
    plan: list[tuple[str, Type]] = []
    factors = _llama3_factors(model) if model.stretching == "llama3" else None
    if factors is not None:
        writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
    for name, tensor in model.weights.items():
        if name.endswith("rotary_emb.inv_freq") or (name == "lm_head.weight" and model.tied):
            continue
        placed = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if placed is None:
            raise NotYet(f"{tensor.file}: the tensor {name} has no place in GGUF's {writer.arch}")
        kind = _type_of(placed, tensor.shape, quantization)
        size = math.prod(quant_shape_to_byte_shape(tensor.shape, kind))
        writer.add_tensor_info(placed, tensor.shape, np.dtype(np.float32), size, raw_dtype=kind)
        plan.append((name, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors is not None:
        writer.write_tensor_data(factors)
    for name, kind in plan:
        writer.write_tensor_data(quantize(_turned(name, model), kind))


def _type_of(name: str, shape: tuple[int, ...], quantization: Quantization) -> Type:
    if len(shape) < 2 or quantization == "f32":
        return Type.F32
    if quantization == "f16" or shape[-1] % BLOCK:
        return Type.F16
    if quantization == "q8_0" or name in ("token_embd.weight", "output.weight"):
        return Type.Q8_0
    return Type.Q4_1 if quantization == "q4_1" else Type.Q4_0


def _turned(name: str, model: Convertible) -> npt.NDArray[np.float32]:
    """A tensor's values as llama.cpp wants them."""
    values = model.weights.read(name)
    if model.family.paired_rotary and ".q_proj." in name:
        return _paired(values, model.heads)
    if model.family.paired_rotary and ".k_proj." in name:
        return _paired(values, model.key_heads)
    if model.family.norms_add_one and name.endswith("norm.weight"):
        return values + np.float32(1)
    return values


def _paired(values: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Rows of each head in the order first, first of the second half, second, …: halves become pairs."""
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))
