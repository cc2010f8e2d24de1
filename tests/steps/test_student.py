"""A student that cannot be trained as its recipe has it is refused before anything else."""

import pytest
import torch
from tests.curation.made import example
from tests.factory import message
from tests.families import make
from transformers import GPT2Config, GPT2LMHeadModel

from limbeck.errors import InvalidInput, InvalidRecipe, NotYet
from limbeck.models.loading import load
from limbeck.recipe import Recipe
from limbeck.steps.student import begun
from limbeck.storage.workspace import Workspace, read_json
from limbeck.training import precision


def begin(base, tmp_path, training=None, **student):
    source = {"prompts": "p.jsonl"}
    job = {"kind": "fine-tuning", "name": "a", "source": source, "student": {"model": "m", **student}}
    return begun(base, Recipe.build({**job, "training": training or {}}), [], Workspace(tmp_path / "a"))


@pytest.mark.parametrize("shrink", [None, {"layers": 1}, {"feed_forward": 0.5}, {"parameters": 0.5}])
def test_an_architecture_of_other_parts_cut_or_not(tiny, tmp_path, settings, shrink):
    config = GPT2Config(n_layer=2, n_embd=48, n_head=4, vocab_size=420, bos_token_id=1, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt")
    tiny.renderer.tokenizer.save_pretrained(tmp_path / "gpt")
    with pytest.raises(NotYet, match="GPT2LMHeadModel: an architecture of other parts"):
        begin(load(str(tmp_path / "gpt"), settings), tmp_path, shrink=shrink)


def test_one_that_computes_something_else_in_a_pack(tiny, tmp_path):
    attention = tiny.model.model.layers[0].self_attn
    forward = attention.forward
    attention.forward = lambda **given: (forward(**given)[0] + given["hidden_states"].mean(1, keepdim=True), None)
    with pytest.raises(NotYet, match="computes something else when examples are packed"):
        begin(tiny, tmp_path)


def test_one_that_looks_back_over_less_than_is_tried(tmp_path, settings):
    base = load(str(make("gemma2", tmp_path / "gemma2")), settings)
    assert base.sequence_tokens == 16 < base.context_tokens
    for layer in base.model.model.layers:
        layer.self_attn.sliding_window = 4
    with pytest.raises(NotYet, match="longer than the model's sliding window of 4"):
        begin(base, tmp_path)


def test_an_adapter_on_layers_that_are_not_there(tiny, tmp_path):
    with pytest.raises(InvalidRecipe, match=r'student\.adapter\.targets: found "query"; .* some of .*q_proj'):
        begin(tiny, tmp_path, adapter={"targets": ["q_proj", "query"]})
    before = [name for name, _ in tiny.model.named_modules()]
    assert [name for name, _ in begin(tiny, tmp_path, adapter={"targets": ["q_proj"]}).model.named_modules()] == before


def test_bf16_where_there_is_none(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda device: False)
    with pytest.raises(InvalidInput, match=r"training\.precision: bf16"):
        begin(tiny, tmp_path, {"precision": "bf16"})
    assert begin(tiny, tmp_path).model.dtype == torch.float32


def test_prompts_that_are_made_later_change_nothing_of_what_is_cut(tiny, tmp_path):
    values = {"kind": "fine-tuning", "name": "a", "source": {"prompts": "p.jsonl"}}
    recipe = Recipe.build({**values, "student": {"model": "m", "shrink": {"feed_forward": 0.5}}})
    given = [example(message(i)[0]) for i in range(4)]
    made = [example(message(i)[0], origin="augmented") for i in range(4, 40)]
    more = [example(message(i)[0]) for i in range(4, 40)]

    def begins(*rows):
        return begun(tiny, recipe, rows, Workspace(tmp_path / "a")).fingerprint

    assert begins(*given) == begins(*given, *made) != begins(*given, *more)


def test_a_budget_is_measured_again_where_the_rows_are_others(tiny, tmp_path):
    values = {"kind": "fine-tuning", "name": "a", "source": {"prompts": "p.jsonl"}}
    recipe = Recipe.build({**values, "student": {"model": "m", "shrink": {"parameters": 0.8}}})
    path = tmp_path / "a" / "cut.json"

    def measured(numbers):
        begun(tiny, recipe, [example(message(i)[0]) for i in numbers], Workspace(tmp_path / "a"))
        return read_json(path)["candidates"], path.stat().st_ino

    first = measured(range(4))
    assert measured(range(4)) == first
    assert measured(range(4, 12))[0] != first[0]
