"""A trimmed vocabulary cuts a task's texts into the same tokens, spells every other text, and says the same of both."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import make_model
from tests.factory import message, pairs
from tests.models.test_gguf_vocabulary import SAMPLES, TOKENIZERS, TRAINING
from tokenizers import Tokenizer, decoders, models
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

import limbeck
from limbeck.errors import InvalidRecipe, NotYet
from limbeck.inference.engine import Engine
from limbeck.models.loading import load
from limbeck.models.tokenizer import Tokenizer as Served
from limbeck.models.trimming import check_trimmable, needed, trim, trimmed_tokenizer
from limbeck.recipe import Recipe
from limbeck.records import GenerationSettings, Message, Prompt

TASK = ["my kettle leaks, is it covered by the warranty?", "name the intent", "noise 12", "leak"]
WORDS = sorted({word for text in (*TASK, *TRAINING, *SAMPLES) for word in text.split(" ")})
TEXTS = st.one_of(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), st.text(max_size=30))


def trimmed(name: str, most: int = 256):
    """A tokenizer of one kind, the same trimmed to `TASK`, and the new ids by the old."""
    backend = TOKENIZERS[name]()
    if backend.decoder is None:
        spaces = decoders.Replace("▁", " ")
        backend.decoder = decoders.Sequence([spaces, decoders.ByteFallback(), decoders.Fuse()])
    whole = PreTrainedTokenizerFast(tokenizer_object=backend)
    layout = json.loads(whole.backend_tokenizer.to_str())
    used = {token for text in TASK for token in whole.encode(text)}
    place = {token: at for at, token in enumerate(needed(layout, used, most))}
    return whole, trimmed_tokenizer(whole, layout, place), place


MADE = {name: trimmed(name) for name in TOKENIZERS}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_only_what_the_task_needs_is_kept(name):
    whole, smaller, place = MADE[name]
    assert len(smaller) == len(place) < len(whole)
    assert sorted(smaller.get_vocab().values()) == list(range(len(place)))


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=TEXTS)
def test_a_text_of_kept_tokens_is_cut_as_before_and_every_other_is_spelled(name, text):
    whole, smaller, place = MADE[name]
    before, after = whole.encode(text), smaller.encode(text)
    assert smaller.decode(after) == whole.decode(before)
    if all(token in place for token in before):
        assert after == [place[token] for token in before]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_texts_of_the_task_are_cut_as_before(name):
    whole, smaller, place = MADE[name]
    for text in TASK:
        assert smaller.encode(text) == [place[token] for token in whole.encode(text)]


def test_the_commonest_fill_up_what_is_asked_for_and_all_changes_nothing():
    for most in (320, 360):
        _, smaller, place = trimmed("smollm", most)
        assert len(smaller) <= most and len(place) > most - 3
    whole, smaller, _ = trimmed("smollm", 10_000)
    assert smaller.get_vocab() == whole.get_vocab()


@pytest.mark.parametrize("tied", [True, False])
def test_kept_tokens_are_as_likely_as_before_among_themselves(tied, tmp_path, settings):
    model = load(str(make_model(tmp_path / "model", tied=tied)), settings)
    prompt = Prompt((Message("user", TASK[0]),))
    ids = model.renderer.prompt(prompt)
    smaller, _ = trim(model, [ids, model.renderer.response("leak")], 256)
    assert smaller.parameters < model.parameters and smaller.fingerprint != model.fingerprint
    ours = smaller.renderer.prompt(prompt)
    vocabulary, kept = model.renderer.tokenizer.get_vocab(), smaller.renderer.tokenizer.get_vocab()
    assert [smaller.renderer.tokenizer.decode([one]) for one in ours] == [
        model.renderer.tokenizer.decode([one]) for one in ids
    ]
    with torch.no_grad():
        before = model.model(torch.tensor([ids])).logits[0]
        after = smaller.model(torch.tensor([ours])).logits[0]
    rows = [vocabulary[token] for token in sorted(kept, key=kept.__getitem__)]
    assert torch.allclose(after, before[:, rows], atol=1e-6)
    ends = {model.renderer.tokenizer.convert_ids_to_tokens(one) for one in model.renderer.stop_ids}
    assert ends == {smaller.renderer.tokenizer.convert_ids_to_tokens(one) for one in smaller.renderer.stop_ids}
    for settings_of in (smaller.model.config, smaller.model.generation_config):
        assert smaller.renderer.tokenizer.convert_ids_to_tokens(settings_of.eos_token_id) == "<|im_end|>"


def test_a_job_leaves_a_trimmed_model_that_every_engine_reads_alike(taught_folder, tmp_path, settings):
    rows, held_out = pairs(tmp_path / "p.jsonl", 40, labelled=False), pairs(tmp_path / "t.jsonl", 10, start=1000)
    recipe = {
        "kind": "distillation",
        "name": "whole",
        "source": {"prompts": str(rows), "held_out": str(held_out), "minimum": 10, "system": "Name the intent."},
        "teacher": {"model": str(taught_folder)},
        "student": {"shrink": {"layers": 2}},
        "synthesis": {"max_response_tokens": 6},
        "training": {"freeze_embeddings": False, "epochs": 5, "batch_size": 16, "learning_rate": 0.005},
        "evaluation": {"latency_requests": 2, "baseline": False},
        "export": {"gguf": "none"},
    }
    whole = limbeck.distill(recipe, home=settings.home)
    smaller = {"name": "trimmed", "student": {"shrink": {"layers": 2, "vocabulary": 256}}, "export": {"gguf": "f32"}}
    made = limbeck.distill({**recipe, **smaller}, home=settings.home)

    system = Message("system", "Name the intent.")
    asked = [Prompt((system, Message("user", text))) for text in (message(3)[0], "zebras, жираф?")]
    answer = GenerationSettings(6)
    ours, theirs = load(made.name, settings), load(whole.name, settings)
    assert ours.parameters < theirs.parameters
    known, unknown = Engine(ours).generate([ours.renderer.prompt(one) for one in asked], answer)
    (before,) = Engine(theirs).generate([theirs.renderer.prompt(asked[0])], answer)
    assert known.text == before.text and unknown.text
    tokenizer, plain = AutoTokenizer.from_pretrained(made.path), AutoModelForCausalLM.from_pretrained(made.path)
    ids = ours.renderer.prompt(asked[0])
    written = plain.generate(torch.tensor([ids]), max_new_tokens=6, do_sample=False)[0, len(ids) :]
    assert tokenizer.decode(written, skip_special_tokens=True) == known.text
    served = Served.open(made.path)
    for text in (*TASK, *SAMPLES):
        assert served.encode(text) == tokenizer.encode(text)
    parity = json.loads((made.path / "parity.json").read_text())
    assert parity["largest_difference"] < 1e-3
    figures = json.loads((made.path / "lineage.json").read_text())["lineage"]["report"]["models"]
    assert figures["student after"]["parameters"] == ours.parameters < figures["student before"]["parameters"]
    again = limbeck.distill({**recipe, **smaller}, home=settings.home, resume=True)
    assert again.fingerprint == made.fingerprint


def test_what_cannot_be_spelled_in_bytes_is_refused():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?")))
    with pytest.raises(NotYet, match=r"student\.shrink\.vocabulary: .* \(WordLevel\); expected BPE"):
        check_trimmable(tokenizer)


def test_reading_plain_text_keeps_all_words():
    job = {"kind": "continued-pre-training", "name": "a", "source": {"prompts": "p.txt"}}
    with pytest.raises(InvalidRecipe, match=r"student\.shrink\.vocabulary: what is read here is any text"):
        Recipe.build({**job, "student": {"model": "m", "shrink": {"vocabulary": 8000}}})
