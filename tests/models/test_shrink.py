import json

import pytest
import torch
from tests.factory import pairs
from transformers import AutoModelForCausalLM, SmolLM3Config

import limbeck
from limbeck.errors import InvalidRecipe
from limbeck.inference.engine import Engine
from limbeck.inference.export import export
from limbeck.models.importance import measure
from limbeck.models.loading import load, save
from limbeck.models.shrink import Cut, choose, choose_layers, cut, keep_layers
from limbeck.models.students import begin
from limbeck.recipe import Recipe, Shrink
from limbeck.records import Message, Prompt

SAMPLE = [range(3, 40), range(100, 160), range(7, 300, 7)]
IDS = torch.arange(3, 40)[None]


def said(model):
    with torch.no_grad():
        return model.eval()(IDS).logits


def test_layers_are_spread_evenly_with_the_first_and_the_last():
    assert choose_layers(6, 30) == (0, 6, 12, 17, 23, 29)
    assert choose_layers(2, 30) == (0, 29)
    assert choose_layers(30, 30) == tuple(range(30))
    assert choose_layers(1, 30) == (0,)


def test_a_list_is_taken_as_it_is():
    assert choose_layers([0, 1, 10, 29], 30) == (0, 1, 10, 29)


@pytest.mark.parametrize("wish", [0, 31, [], [3, 1], [1, 1], [0, 30]])
def test_what_cannot_be_kept_is_refused_with_what_can(wish):
    with pytest.raises(InvalidRecipe, match=r"student\.shrink\.layers: found .*; .*(30|29)"):
        choose_layers(wish, 30)


def test_a_student_with_all_layers_is_its_teacher(tiny):
    student = keep_layers(tiny.model, (0, 1, 2, 3))
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        assert torch.equal(student(ids).logits, tiny.model(ids).logits)


def test_kept_layers_keep_their_weights_and_are_copies(tiny):
    student = keep_layers(tiny.model, (0, 2))
    assert student.config.num_hidden_layers == 2
    kept, original = student.model.layers[1].mlp.up_proj.weight, tiny.model.model.layers[2].mlp.up_proj.weight
    assert torch.equal(kept, original)
    with torch.no_grad():
        kept.add_(1.0)
    assert not torch.equal(kept, original)
    assert tiny.model.config.num_hidden_layers == 4


def test_a_layer_that_does_nothing_is_the_least_important(tiny):
    with torch.no_grad():
        for projection in (tiny.model.model.layers[1].self_attn.o_proj, tiny.model.model.layers[1].mlp.down_proj):
            projection.weight.zero_()
    found = measure(tiny.model, SAMPLE)
    assert found.layers[1].abs() < 1e-3 < found.layers[[0, 2, 3]].min()
    kept = choose(Shrink(layers=3, choose="importance"), tiny.model, SAMPLE)
    assert kept == Cut((0, 2, 3))
    assert torch.allclose(said(cut(tiny.model, kept)), said(tiny.model), atol=1e-5)


def test_neurons_and_heads_that_do_nothing_are_dropped_and_no_logit_changes(tiny):
    """A third of the neurons, and one of the two groups of heads, are silenced, others in each layer."""
    silent = [set(range(layer % 3, 96, 3)) if layer % 2 else set(range(32)) for layer in range(4)]
    with torch.no_grad():
        for layer, block in enumerate(tiny.model.model.layers):
            block.mlp.up_proj.weight[sorted(silent[layer])] = 0
            group = layer % 2
            block.self_attn.v_proj.weight[8 * group : 8 * group + 8] = 0
    kept = choose(Shrink(feed_forward=0.66, heads=3), tiny.model, SAMPLE)
    assert kept.groups == ((1,), (0,), (1,), (0,))
    assert [set(range(96)) - set(neurons) for neurons in kept.neurons] == silent
    student = cut(tiny.model, kept)
    widths = ("intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim")
    assert [getattr(student.config, name) for name in widths] == [64, 3, 1, 8]
    assert torch.allclose(said(student), said(tiny.model), atol=1e-5)


@pytest.mark.parametrize("heads", [1, 4, 9])
def test_heads_that_part_a_group_are_refused_with_those_that_can_be(tiny, heads):
    with pytest.raises(InvalidRecipe, match=rf"student\.shrink\.heads: found {heads}; 3 heads share .* one of 3, 6"):
        choose(Shrink(heads=heads), tiny.model, SAMPLE)


def test_heads_that_no_model_may_have_are_refused_before_anything_is_learned(tiny):
    tiny.model.config.num_key_value_heads = 6  # now each alone: 1 to 6
    with pytest.raises(InvalidRecipe, match=r"found 5; .* one of 1, 2, 3, 4, 6$"):  # 48 wide, not to be parted in 5
        choose(Shrink(heads=5), tiny.model, SAMPLE)


def test_a_narrow_student_loads_anywhere_and_is_the_same_as_gguf(tiny, settings, tmp_path):
    prompts = [Prompt((Message("user", "my kettle leaks"),)), Prompt((Message("user", "still covered?"),))]
    wish = Shrink(layers=2, choose="importance", feed_forward=0.4, heads=3)
    student = begin(tiny, wish, "narrow", prompts)
    assert student.fingerprint == begin(tiny, wish, "narrow", prompts).fingerprint != tiny.fingerprint
    save(student.model, student.renderer.tokenizer, tmp_path / "narrow")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "narrow")
    torch.testing.assert_close(said(plain), said(student.model))
    loaded = load(str(tmp_path / "narrow"), settings)
    assert loaded.parameters == student.parameters < 0.6 * tiny.parameters
    parity = export(Engine(loaded), tmp_path / "narrow", "f32", [loaded.renderer.prompt(p) for p in prompts], 1)
    assert parity.equal_texts == 1.0 and parity.largest_difference < 1e-3


def test_a_wish_that_cuts_nothing_is_refused():
    job = {"kind": "fine-tuning", "name": "a", "source": {"prompts": "p.jsonl"}}
    for shrink, fault in (
        ({}, "nothing is cut"),
        ({"choose": "importance"}, "nothing is cut"),
        ({"layers": [0, 1], "choose": "importance"}, "choose: importance would change nothing"),
    ):
        with pytest.raises(InvalidRecipe, match=fault):
            Recipe.build({**job, "student": {"model": "m", "shrink": shrink}})


def test_a_job_cuts_by_its_own_prompts_and_examines_the_same_cut_untrained(tmp_path, tiny_folder):
    made = limbeck.fine_tune(
        {
            "kind": "fine-tuning",
            "name": "narrow",
            "source": {"prompts": str(pairs(tmp_path / "pairs.jsonl", 16))},
            "student": {
                "model": str(tiny_folder),
                "shrink": {"layers": 2, "choose": "importance", "feed_forward": 0.4, "heads": 3},
            },
            "synthesis": {"max_response_tokens": 4},
            "training": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-9, "warmup": 0.0, "weight_decay": 0.0},
            "evaluation": {"latency_requests": 2, "baseline": False},
            "export": {"gguf": "none"},
        },
        home=tmp_path / "home",
    )
    config = json.loads((made.path / "config.json").read_text())
    assert [config[name] for name in ("num_hidden_layers", "intermediate_size", "num_attention_heads")] == [2, 32, 3]
    report = json.loads((made.path / "lineage.json").read_text())["lineage"]["report"]["models"]
    assert report["student before"]["exact_match"] == report["student after"]["exact_match"]


def test_what_a_configuration_says_of_each_layer_goes_with_the_layer(tmp_path):
    """SmolLM3 turns positions in some layers alone; and two layers are no reason to drop one of three ends."""
    torch.manual_seed(0)
    config = SmolLM3Config(
        vocab_size=320, hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=2, no_rope_layers=[1, 0, 1], initializer_range=0.1, bos_token_id=1, pad_token_id=2,
        eos_token_id=[2, 3, 4],
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    student = keep_layers(model, (1, 2))
    assert (student.config.no_rope_layers, student.config.eos_token_id) == ([0, 1], [2, 3, 4])
    model.config.use_cache = False  # whose places go by the layers' numbers
    model.model.layers = model.model.layers[1:]
    model.config.num_hidden_layers = 2
    assert torch.equal(said(student), said(model))
    student.save_pretrained(tmp_path)
    assert torch.equal(said(AutoModelForCausalLM.from_pretrained(tmp_path)), said(model))
