"""Safetensors read without torch: the same numbers, and a file that is not whole is found by its header."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from limbeck.errors import DamagedArtifact
from limbeck.models.weights import INDEX, Weights, read_header, write_weights

GENERATOR = torch.Generator().manual_seed(0)
VALUES = torch.randn(3, 5, generator=GENERATOR)
WHOLE = save({"a": VALUES, "b": VALUES[0].to(torch.bfloat16)}, {"format": "pt"})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_values_are_those_torch_reads(dtype, tmp_path):
    save_file({"w": VALUES.to(dtype), "scalar": torch.tensor(2.5, dtype=dtype)}, tmp_path / "model.safetensors")
    weights = Weights(tmp_path)
    assert torch.equal(torch.tensor(weights.read("w")), VALUES.to(dtype).float())
    assert float(weights.read("scalar")) == 2.5
    assert (weights.parameters, weights["w"].shape) == (16, (3, 5))


def test_what_is_written_is_what_the_library_writes(tmp_path):
    tensors = {"b": VALUES, "a.weight": VALUES[0].clone(), "d": torch.zeros(0, 5), "c": VALUES.T.contiguous()}
    save_file(tensors, tmp_path / "theirs.safetensors", {"format": "pt"})
    shapes = {name: tuple(values.shape) for name, values in tensors.items()}
    write_weights(tmp_path / "ours.safetensors", shapes, lambda name: tensors[name].numpy())
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()


def test_integers_are_no_weights(tmp_path):
    save_file({"w": torch.arange(4)}, tmp_path / "model.safetensors")
    with pytest.raises(DamagedArtifact, match="w is I64; expected unquantized weights"):
        Weights(tmp_path).read("w")


def test_several_files_are_those_their_index_names(tmp_path):
    for name in ("one", "two", "stray"):
        save_file({name: VALUES}, tmp_path / f"{name}.safetensors")
    index = {"weight_map": {"one": "one.safetensors", "two": "two.safetensors"}}
    (tmp_path / INDEX).write_text(json.dumps(index))
    assert set(Weights(tmp_path)) == {"one", "two"}
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(DamagedArtifact, match=r"two\.safetensors: missing"):
        Weights(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(DamagedArtifact, match=r"no \*\.safetensors; expected the weights"):
        Weights(tmp_path)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("headers") / "model.safetensors"


@given(st.integers(0, len(WHOLE) - 1))
@examples(max_examples=60, deadline=None)
def test_a_file_cut_anywhere_is_found(scratch, length):
    scratch.write_bytes(WHOLE[:length])
    with pytest.raises(DamagedArtifact, match=r"model\.safetensors"):
        read_header(scratch)


@given(st.binary(max_size=60), st.integers(8, 60))
@examples(max_examples=100, deadline=None)
def test_a_header_of_anything_is_refused_or_read_but_never_a_surprise(scratch, noise, at):
    scratch.write_bytes(WHOLE[:at] + noise + WHOLE[at + len(noise) :])
    try:
        read_header(scratch)
    except DamagedArtifact as told:
        assert "model.safetensors" in str(told)
