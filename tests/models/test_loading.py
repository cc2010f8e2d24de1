"""A GGUF file is read as what it says, whatever lies beside it, and once."""

import shutil

import pytest
from tests.models.test_gguf_vocabulary import SAMPLES, TOKENIZERS, save
from tests.models.test_gguf_vocabulary import model_folder as model_folder  # a fixture

from limbeck.models import loading
from limbeck.models.gguf_file import write_gguf
from limbeck.models.loading import fingerprint, load


@pytest.mark.parametrize("name", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_text_is_cut_after_the_way_into_a_gguf_file_and_back_as_before(name, model_folder, tmp_path, settings):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    tokenizer = TOKENIZERS[name]()
    save(tokenizer, folder)
    write_gguf(folder, folder / "model.gguf", "f32")
    renderer = load(str(folder / "model.gguf"), settings).renderer
    for text in SAMPLES:
        assert renderer.tokenizer.encode(text, add_special_tokens=False) == tokenizer.encode(text).ids
    assert renderer.end_id == tokenizer.token_to_id("<|im_end|>")


def test_a_converted_file_is_read_through_once_and_a_changed_one_again(model_folder, tmp_path, settings, monkeypatch):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    save(TOKENIZERS["smollm"](), folder)
    path, read = folder / "model.gguf", []
    write_gguf(folder, path, "f32")
    monkeypatch.setattr(loading, "fingerprint", lambda folder: (read.append(folder), fingerprint(folder))[1])
    first, second = (load(str(path), settings) for _ in range(2))
    assert first.fingerprint == second.fingerprint == fingerprint(read[0]) and len(read) == 1
    write_gguf(folder, path, "f16")
    assert load(str(path), settings).fingerprint != first.fingerprint and len(read) == 2
    assert load(str(folder), settings).fingerprint and load(str(folder), settings) and read[2:] == [folder, folder]
