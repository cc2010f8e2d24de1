"""What llama.cpp computes from a GGUF file is what transformers computes from the folder it was made from."""

import errno
import json
import shutil

import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file, save_file
from tests.families import MODELS, answers, make, prompts

from limbeck.errors import DamagedArtifact, NotYet
from limbeck.inference.parity import compare
from limbeck.models import gguf_file
from limbeck.models.gguf_file import write_gguf

EXACT = 2e-4
"""Log-probabilities of two fp32 computations in different orders."""
GELU_TABLE = 3e-3
"""llama.cpp looks GELU up in a table of 16-bit numbers; Gemma uses it."""
HALF = 0.05
"""16-bit weights, on random models, whose logits are larger than a trained one's."""


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def tensors(path):
    return {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(path).tensors}


@pytest.mark.parametrize("name", MODELS)
def test_llama_cpp_says_what_transformers_says(name, tmp_path):
    folder = make(name, tmp_path / "model")
    asked = prompts()
    reference = answers(folder, asked)
    for quantization, tolerance in (("f32", GELU_TABLE if "gemma" in name else EXACT), ("f16", HALF)):
        path = tmp_path / f"{quantization}.gguf"
        write_gguf(folder, path, quantization)
        parity = compare(path, quantization, asked, reference, threads=1)
        assert parity.largest_difference < tolerance
    assert parity.tokens == 36


def test_an_older_configuration_that_stretches_positions_makes_the_same_file(tmp_path):
    folder = make("llama stretched as Llama 3", tmp_path / "model")
    write_gguf(folder, tmp_path / "new.gguf", "f16")
    rope = json.loads((folder / "config.json").read_text())["rope_parameters"]
    theta = rope.pop("rope_theta")
    edit(folder, rope_parameters=None, rope_theta=theta, rope_scaling={**rope, "rope_type": None, "type": "llama3"})
    write_gguf(folder, tmp_path / "old.gguf", "f16")
    assert "rope_freqs.weight" in tensors(tmp_path / "old.gguf")
    assert (tmp_path / "old.gguf").read_bytes() == (tmp_path / "new.gguf").read_bytes()


def test_fewer_bits_lose_more_and_take_less_room(tmp_path):
    folder = make("llama", tmp_path / "model")
    asked = prompts()
    reference = answers(folder, asked)
    measured = []
    for quantization in ("f32", "f16", "q8_0", "q4_1", "q4_0"):
        write_gguf(folder, tmp_path / "model.gguf", quantization)
        measured.append(compare(tmp_path / "model.gguf", quantization, asked, reference, threads=1))
    losses, sizes = [one.mean_difference for one in measured], [one.bytes for one in measured]
    f32, f16, q8_0, *four_bits = losses
    assert 27 * f32 < 9 * f16 < 3 * q8_0 < min(four_bits)
    assert sizes == sorted(sizes, reverse=True)


def test_weights_in_bfloat16_are_read_to_the_bit(tmp_path):
    folder = make("llama", tmp_path / "model", torch.bfloat16)
    write_gguf(folder, tmp_path / "model.gguf", "f32")
    found = next(t for t in GGUFReader(tmp_path / "model.gguf").tensors if t.name == "blk.1.ffn_up.weight")
    kept = load_file(folder / "model.safetensors")["model.layers.1.mlp.up_proj.weight"]
    assert torch.equal(torch.tensor(found.data), kept.float())


@pytest.mark.parametrize("quantization", ["q8_0", "q4_1", "q4_0"])
def test_rows_that_do_not_divide_into_blocks_stay_in_16_bits(tiny_folder, tmp_path, quantization):
    write_gguf(tiny_folder, tmp_path / "model.gguf", quantization)
    kinds = tensors(tmp_path / "model.gguf")
    assert kinds["blk.0.ffn_down.weight"] == quantization.upper()  # rows of 96
    assert kinds["blk.0.attn_q.weight"] == kinds["token_embd.weight"] == "F16"  # rows of 48
    assert kinds["blk.0.attn_norm.weight"] == "F32"


def test_embeddings_and_head_keep_eight_bits_where_the_rest_has_four(tmp_path):
    write_gguf(make("llama", tmp_path / "model"), tmp_path / "model.gguf", "q4_0")
    kinds = tensors(tmp_path / "model.gguf")
    assert (kinds["token_embd.weight"], kinds["output.weight"], kinds["blk.0.attn_q.weight"]) == (
        "Q8_0",
        "Q8_0",
        "Q4_0",
    )


def test_a_tied_head_is_not_written_twice(tiny_folder, tmp_path):
    write_gguf(tiny_folder, tmp_path / "model.gguf")
    assert "output.weight" not in tensors(tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        (
            "llama",
            {"architectures": ["MambaForCausalLM"]},
            "architecture MambaForCausalLM .* expected one of LlamaForCausalLM",
        ),
        ("llama", {"hidden_act": "relu"}, "activation relu; expected silu"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "stretched by dynamic"),
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window; expected every layer"),
        ("gemma2", {"final_logit_softcapping": None}, "no final_logit_softcapping"),
        ("gemma2", {"query_pre_attn_scalar": 7}, "query_pre_attn_scalar 7; expected 32"),
        ("gemma3", {"layer_types": ["full_attention", *["sliding_attention"] * 6]}, "only a pattern that repeats"),
    ],
)
def test_what_gguf_cannot_hold_is_refused_and_leaves_nothing(name, changes, told, tmp_path):
    folder = make(name, tmp_path / "model")
    edit(folder, **changes)
    with pytest.raises(NotYet, match=told):
        write_gguf(folder, tmp_path / "out" / "model.gguf")
    assert not list(tmp_path.glob("out/*"))


def test_a_tensor_without_a_place_is_refused_by_name(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "model.layers.0.extra.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    with pytest.raises(NotYet, match=r"model\.layers\.0\.extra\.weight has no place in GGUF's llama"):
        write_gguf(folder, tmp_path / "out" / "model.gguf")
    assert not list(tmp_path.glob("out/*"))


def test_a_broken_folder_is_told_by_its_file(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(DamagedArtifact, match=r"no tokenizer\.json; expected one"):
        write_gguf(folder, tmp_path / "model.gguf")
    shutil.copy(tiny_folder / "tokenizer.json", folder)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-10])
    with pytest.raises(DamagedArtifact, match=r"model\.safetensors: .* bytes; its header says"):
        write_gguf(folder, tmp_path / "model.gguf")


def test_a_write_that_breaks_off_leaves_the_file_that_was_there(tiny_folder, tmp_path, monkeypatch):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"before")

    def full(values, kind):
        raise OSError("no space left on device")

    monkeypatch.setattr(gguf_file, "quantize", full)
    with pytest.raises(OSError, match="no space"):
        write_gguf(tiny_folder, path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.gguf"] and path.read_bytes() == b"before"


def test_a_disk_that_takes_no_more_is_told_and_leaves_nothing_behind(tiny_folder, tmp_path, monkeypatch):
    def full(*asked):
        raise OSError("2304 requested and 464 written")  # as ndarray.tofile has it

    monkeypatch.setattr(gguf_file, "_write_tensors", full)
    with pytest.raises(OSError, match="No space left") as told:
        gguf_file.write_gguf(tiny_folder, tmp_path / "model.gguf")
    assert (told.value.errno, told.value.filename) == (errno.ENOSPC, str(tmp_path / "model.gguf"))
    assert not list(tmp_path.iterdir())
