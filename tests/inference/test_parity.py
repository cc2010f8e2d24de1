"""A GGUF file against the weights it was made from: sameness is found, and so is any difference."""

import json

import pytest
from tests.conftest import make_model

from limbeck.errors import DamagedArtifact, InvalidInput, NotYet
from limbeck.inference.engine import Engine
from limbeck.inference.export import HEADING, export, section
from limbeck.inference.parity import measure
from limbeck.models.gguf_file import write_gguf
from limbeck.models.loading import save

PROMPTS = [[1, *range(10, 10 + length)] for length in (4, 11, 30)]


@pytest.fixture
def engine(tiny):
    return Engine(tiny)


def test_the_file_of_a_model_says_what_the_model_says(engine, tiny_folder, tmp_path):
    write_gguf(tiny_folder, tmp_path / "model.gguf", "f32")
    parity = measure(engine, tmp_path / "model.gguf", "f32", PROMPTS, threads=1)
    assert (parity.prompts, parity.equal_texts, parity.equal_tokens) == (3, 1.0, 1.0)
    assert 0 < parity.mean_difference <= parity.largest_difference < 2e-4
    assert parity.bytes == (tmp_path / "model.gguf").stat().st_size
    assert "100% of 3 greedy answers the same" in str(parity)


def test_the_answers_hold_parts_of_characters_which_are_measured_too(engine):
    from limbeck.records import GenerationSettings

    answers = engine.generate(PROMPTS, GenerationSettings(32))
    pieces = [engine.renderer.tokenizer.decode([token]) for answer in answers for token in answer.token_ids]
    assert any("\ufffd" in piece for piece in pieces)


def test_the_file_of_another_model_does_not(engine, tmp_path):
    write_gguf(make_model(tmp_path / "other", seed=1), tmp_path / "model.gguf", "f32")
    parity = measure(engine, tmp_path / "model.gguf", "f32", PROMPTS, threads=1)
    assert parity.equal_texts == 0.0 and parity.equal_tokens < 0.5
    assert parity.largest_difference > 1


def test_one_changed_layer_is_seen(engine, tiny_folder, tmp_path, tiny):
    import torch

    with torch.no_grad():
        tiny.model.model.layers[2].post_attention_layernorm.weight.mul_(1.05)
    write_gguf(tiny_folder, tmp_path / "model.gguf", "f32")
    assert measure(engine, tmp_path / "model.gguf", "f32", PROMPTS, threads=1).largest_difference > 2e-3


@pytest.mark.parametrize("content", [b"", b"GGUF nothing more", None])
def test_a_file_llama_cpp_cannot_read_is_told(engine, tiny_folder, tmp_path, content):
    path = tmp_path / "model.gguf"
    write_gguf(tiny_folder, path, "f32")
    path.write_bytes(path.read_bytes()[:-5000] if content is None else content)
    with pytest.raises(DamagedArtifact, match=r"model\.gguf: llama\.cpp cannot read it: "):
        measure(engine, path, "f32", PROMPTS, threads=1)


def test_an_export_is_a_file_its_modelfile_and_its_parity(engine, tiny, tmp_path):
    save(tiny.model, tiny.renderer.tokenizer, tmp_path)
    parity = export(engine, tmp_path, "q8_0", PROMPTS, threads=1)
    assert json.loads((tmp_path / "parity.json").read_text()) == parity.to_json()
    assert (tmp_path / "model-q8_0.gguf").stat().st_size == parity.bytes
    assert "FROM ./model-q8_0.gguf" in (tmp_path / "Modelfile").read_text()
    assert str(parity) in section(parity)
    assert section("it is too odd") == f"{HEADING}\n\nThere is no GGUF file: it is too odd.\n"


def test_a_model_that_gguf_cannot_hold_leaves_no_file(engine, tiny, tmp_path):
    save(tiny.model, tiny.renderer.tokenizer, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["MambaForCausalLM"]}))
    with pytest.raises(NotYet, match="MambaForCausalLM"):
        export(engine, tmp_path, "f16", PROMPTS, threads=1)
    assert not list(tmp_path.glob("*.gguf")) and not (tmp_path / "Modelfile").exists()


def test_a_reading_that_takes_too_long_is_told(engine, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("limbeck.inference.parity.TIME_LIMIT", 0.01)
    write_gguf(tiny_folder, tmp_path / "model.gguf", "f32")
    with pytest.raises(DamagedArtifact, match=r"model\.gguf: llama\.cpp has not read it within 0\.01 seconds"):
        measure(engine, tmp_path / "model.gguf", "f32", PROMPTS, threads=1)


def test_without_a_prompt_nothing_is_measured(engine, tmp_path):
    with pytest.raises(InvalidInput, match="no prompts to measure it on"):
        measure(engine, tmp_path / "model.gguf", "f32", [], threads=1)
