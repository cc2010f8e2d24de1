"""A GGUF file is read as what it says, whatever lies beside it, and once."""

import shutil

import pytest
from tests.factory import message, pairs, write_rows
from tests.models.test_gguf_vocabulary import SAMPLES, TOKENIZERS, save
from tests.models.test_gguf_vocabulary import model_folder as model_folder  # a fixture
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

import limbeck
from limbeck.models import loading
from limbeck.models.chat import Renderer
from limbeck.models.gguf_file import write_gguf
from limbeck.models.loading import fingerprint, load
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
    monkeypatch.setattr(loading, "fingerprint", lambda folder: (read.append(folder), fingerprint(folder))[1])
    first, second = (load(str(path), settings) for _ in range(2))
    assert first.fingerprint == second.fingerprint == fingerprint(read[0]) and len(read) == 1
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
