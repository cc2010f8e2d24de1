"""A folder made from a GGUF file holds the weights the file says, under transformers' names."""

import json
import warnings
import weakref

import pytest
import torch
from safetensors.torch import load_file
from tests.families import MODELS, make, prompts
from transformers import AutoModelForCausalLM

from limbeck.errors import DamagedArtifact, NotYet
from limbeck.models import gguf_folder
from limbeck.models.gguf_file import write_gguf
from limbeck.models.gguf_folder import unpack, unpackable
from limbeck.models.loading import load

LEFT = [name for name in MODELS if "Llama 3" in name or "gemma" in name]
PLAIN = [name for name in MODELS if name not in LEFT]


def logits(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.inference_mode():
        return torch.cat([model(torch.tensor([tokens])).logits[0] for tokens in prompts()])


@pytest.mark.parametrize("name", PLAIN)
def test_a_model_written_and_unpacked_is_the_same_model(name, tmp_path):
    folder = make(name, tmp_path / "model")
    write_gguf(folder, tmp_path / "model.gguf", "f32")
    assert unpackable(tmp_path / "model.gguf")
    unpack(tmp_path / "model.gguf", tmp_path / "unpacked")
    before, after = (load_file(one / "model.safetensors") for one in (folder, tmp_path / "unpacked"))
    assert all(torch.equal(before[key], after[key]) for key in after)
    assert torch.equal(logits(folder), logits(tmp_path / "unpacked"))


@pytest.mark.parametrize("quantization", ["f16", "q8_0", "q4_1"])
def test_fewer_bits_are_read_as_transformers_reads_them(quantization, tmp_path):
    folder = make("llama", tmp_path / "model")
    write_gguf(folder, tmp_path / "model.gguf", quantization)
    unpack(tmp_path / "model.gguf", tmp_path / "unpacked")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32)
    ours = load_file(tmp_path / "unpacked" / "model.safetensors")
    assert all(torch.equal(values, ours[name]) for name, values in theirs.state_dict().items())
    generation = json.loads((tmp_path / "unpacked" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [theirs.generation_config.eos_token_id]


def test_one_tensor_is_held_at_a_time(tmp_path, monkeypatch):
    write_gguf(make("llama", tmp_path / "model"), tmp_path / "model.gguf", "f16")
    read, made = gguf_folder._read, []

    def watched(*given):
        assert not any(values() is not None for values in made)
        values = read(*given)
        made.append(weakref.ref(values))
        return values

    monkeypatch.setattr(gguf_folder, "_read", watched)
    unpack(tmp_path / "model.gguf", tmp_path / "unpacked")
    assert len(made) == len(load_file(tmp_path / "unpacked" / "model.safetensors"))


@pytest.mark.parametrize("name", LEFT)
def test_what_it_does_not_know_whole_it_leaves(name, tmp_path):
    write_gguf(make(name, tmp_path / "model"), tmp_path / "model.gguf", "f32")
    assert not unpackable(tmp_path / "model.gguf")


def test_what_transformers_would_read_wrongly_is_refused(tmp_path, settings):
    write_gguf(make("llama stretched as Llama 3", tmp_path / "model"), tmp_path / "model.gguf", "f32")
    with pytest.raises(NotYet, match="positions are stretched"):
        load(str(tmp_path / "model.gguf"), settings)


def test_a_file_that_broke_off_is_no_model(tmp_path):
    write_gguf(make("llama", tmp_path / "model"), tmp_path / "model.gguf", "f16")
    whole = (tmp_path / "model.gguf").read_bytes()
    (tmp_path / "model.gguf").write_bytes(whole[: len(whole) - 5000])
    with pytest.raises(DamagedArtifact, match="inside a tensor"):
        unpack(tmp_path / "model.gguf", tmp_path / "unpacked")
