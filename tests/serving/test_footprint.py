"""What a model will take, from its files' headers: the same files that are loaded, and faults told in words."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from limbeck.errors import DamagedArtifact
from limbeck.models.gguf_file import write_gguf
from limbeck.models.weights import INDEX
from limbeck.serving.footprint import REFERENCE_BYTES, GGUFHeader, gguf_header, reference_bytes
from limbeck.storage.workspace import write_json


def test_the_header_tells_the_context_and_what_a_token_takes(tiny_folder, tmp_path):
    write_gguf(tiny_folder, tmp_path / "tiny.gguf", "f16")
    assert gguf_header(tmp_path / "tiny.gguf") == GGUFHeader(512, 4 * 2 * (8 + 8) * 2)


@pytest.mark.parametrize(
    "content", [b"nothing of the kind", b"GGUF\3\0\0\0" + bytes(16), b"GGUF\3\0\0\0" + b"\xff" * 16]
)
def test_what_is_no_language_model_is_told_with_its_file(tmp_path, content):
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(DamagedArtifact, match=r"bad\.gguf: "):
        gguf_header(tmp_path / "bad.gguf")


def test_the_weights_that_count_are_those_that_are_loaded(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    assert reference_bytes(folder) - REFERENCE_BYTES == 4 * sum(one.numel() for one in weights.values())
    before = reference_bytes(folder)
    save_file(weights, folder / "consolidated.safetensors")
    write_json(folder / INDEX, {"weight_map": dict.fromkeys(weights, "model.safetensors")})
    assert reference_bytes(folder) == before
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(DamagedArtifact, match=r"model\.safetensors: 3 bytes"):
        reference_bytes(folder)
