"""A GGUF file is read as what it says, whatever lies beside it, and once."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import make_model
from tests.factory import message, pairs, write_rows
from tests.models.test_gguf_vocabulary import SAMPLES, TOKENIZERS, save
from tests.models.test_gguf_vocabulary import model_folder as model_folder  # a fixture
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

import limbeck
from limbeck.errors import DamagedArtifact
from limbeck.models import identity, loading
from limbeck.models.chat import Renderer
from limbeck.models.gguf_file import write_gguf
from limbeck.models.identity import fingerprint, known_fingerprint
from limbeck.models.loading import load
from limbeck.models.tokenizer import Tokenizer
from limbeck.records import Message, Prompt


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
    monkeypatch.setattr(identity, "fingerprint", lambda folder: (read.append(folder), fingerprint(folder))[1])
    first, second = (load(str(path), settings) for _ in range(2))
    assert first.fingerprint == second.fingerprint == fingerprint(read[0]) and len(read) == 1
    assert known_fingerprint(first.source, settings) == first.fingerprint and len(read) == 1
    write_gguf(folder, path, "f16")
    assert load(str(path), settings).fingerprint != first.fingerprint and len(read) == 2
    assert load(str(folder), settings).fingerprint and load(str(folder), settings) and read[2:] == [folder, folder]


def test_a_base_model_is_given_a_plain_template_which_its_student_keeps(tiny_folder, tmp_path, settings):
    base = shutil.copytree(tiny_folder, tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    renderer = load(str(base), settings).renderer
    asked = Prompt((Message("system", "Be short."), Message("user", "leak?")))
    assert renderer.tokenizer.decode(renderer.prompt(asked)) == "System:\nBe short.\n\nUser:\nleak?\n\nAssistant:\n"
    assert renderer.end_id == renderer.tokenizer.eos_token_id

    text = write_rows(tmp_path / "text.jsonl", [{"input": " ".join(message(i))} for i in range(30)])
    usual = {"student": {"model": str(base)}, "training": {"epochs": 1}, "evaluation": {"latency_requests": 2}}
    read = limbeck.pretrain({**usual, "name": "read", "source": {"prompts": str(text)}}, home=settings.home)
    taught = {"prompts": str(pairs(tmp_path / "pairs.jsonl", 30))}
    tuned = limbeck.fine_tune(
        {
            **usual,
            "name": "tuned",
            "source": taught,
            "synthesis": {"max_response_tokens": 6},
            "student": {"model": "read"},
        },
        home=settings.home,
    )
    for made in (read, tuned):
        kept = Renderer(Tokenizer.open(made.path))  # as it is hosted
        assert kept.prompt(asked) == renderer.prompt(asked) and kept.response("x") == renderer.response("x")


def test_a_base_model_that_begins_its_texts_with_a_token_of_its_own_begins_conversations_so(
    tiny_folder, tmp_path, settings
):
    base = shutil.copytree(tiny_folder, tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base, bos_token="<|im_start|>")
    begin = ("<|im_start|>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[begin])
    tokenizer.save_pretrained(base)
    renderer = load(str(base), settings).renderer
    begun = renderer.prompt(Prompt((Message("user", "leak?"),)))
    assert begun[0] == tokenizer.bos_token_id and tokenizer.bos_token_id not in begun[1:]


def test_whoever_may_read_a_models_configuration_may_read_its_weights(tiny, tmp_path):
    loading.save(tiny.model, tiny.renderer.tokenizer, tmp_path)
    modes = {path.name: path.stat().st_mode for path in tmp_path.iterdir()}
    assert set(modes.values()) == {modes["config.json"]} and "model.safetensors" in modes


def with_weights(folder, change):
    """``change`` is given the folder's weights to alter."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def with_layers(folder, count):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": count}))


@pytest.fixture
def copied(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "copied")


def test_a_weight_that_is_not_there_is_never_drawn_at_random(copied, settings):
    with_weights(copied, lambda weights: weights.pop("model.layers.2.mlp.up_proj.weight"))
    with pytest.raises(DamagedArtifact, match=r"copied: model\.layers\.2\.mlp\.up_proj\.weight is not in its files"):
        load(str(copied), settings)


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (6, r"model\.layers\.4\.input_layernorm\.weight and 17 more weights are not in its files"),
        (2, r"model\.layers\.2\.\S+ is in its files, and its configuration has 2 layers"),
    ],
)
def test_a_configuration_of_another_depth_than_the_files_is_refused(copied, settings, count, told):
    with_layers(copied, count)
    with pytest.raises(DamagedArtifact, match=told):
        load(str(copied), settings)


def test_a_head_of_its_own_is_missed_and_a_tied_one_is_not(copied, settings, tmp_path):
    assert "lm_head.weight" not in load_file(copied / "model.safetensors")
    load(str(copied), settings)
    untied = make_model(tmp_path / "untied", tied=False)
    with_weights(untied, lambda weights: weights.pop("lm_head.weight"))
    with pytest.raises(DamagedArtifact, match=r"untied: lm_head\.weight is not in its files"):
        load(str(untied), settings)


def test_a_file_that_breaks_off_and_a_weight_of_another_shape_are_told(copied, settings):
    with_weights(copied, lambda weights: weights.update({"model.norm.weight": torch.zeros(40)}))
    with pytest.raises(DamagedArtifact, match=r"model\.norm\.weight is \[40\] in its files; expected \[48\]"):
        load(str(copied), settings)
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamagedArtifact, match="copied: not whole"):
        load(str(copied), settings)


def test_what_breaks_off_while_a_file_is_converted_leaves_nothing(tiny_folder, tmp_path, settings, monkeypatch):
    write_gguf(tiny_folder, tmp_path / "model.gguf", "f32")

    def full(path, folder):
        unpack(path, folder)
        raise OSError("no space left on device")

    unpack = loading.unpack
    monkeypatch.setattr(loading, "unpack", full)
    with pytest.raises(OSError, match="no space"):
        load(str(tmp_path / "model.gguf"), settings)
    assert not list(settings.cache.iterdir())
