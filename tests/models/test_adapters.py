"""An adapter begins as nothing, learns alone, resumes to the same bits, and is merged without a change."""

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from tests.factory import pairs
from tests.training.test_loop import PLAN, StopAt, bits, run, same_bits
from transformers import AutoModelForCausalLM

import limbeck
from limbeck.errors import InvalidRecipe, NotYet, Stopped
from limbeck.models import adapters
from limbeck.models.loading import load_weights, save
from limbeck.progress import StopSignal
from limbeck.recipe import Adapter, Recipe
from limbeck.training import checkpoints, load_trained

KINDS = [Adapter(rank=4), Adapter(kind="dora", rank=4, alpha=4, targets=("q_proj", "up_proj"))]
IDS = torch.arange(3, 40)[None]


def said(model):
    with torch.no_grad():
        return model.eval()(IDS).logits


@pytest.mark.parametrize("adapter", KINDS, ids=["lora", "dora"])
def test_an_adapter_learns_alone_and_is_merged_into_what_it_computed(tiny, tmp_path, adapter):
    model, before, plain = tiny.model, said(tiny.model), bits(tiny.model)
    kinds = [type(module) for module in model.modules()]
    adapters.attach(model, adapter, 0)
    assert torch.allclose(said(model), before, atol=1e-5)
    run(model, tmp_path / "t")
    learned = load_weights(tmp_path / "t" / "weights.safetensors")
    assert learned and all(".lora_" in name for name in learned)
    assert all(
        torch.equal(value, plain[name.replace(".base_layer", "")])
        for name, value in bits(model).items()
        if "lora_" not in name
    )
    adapted = said(model)
    assert not torch.allclose(adapted, before, atol=0.01)
    adapters.merge(model)
    assert [type(module) for module in model.modules()] == kinds
    assert bits(model).keys() == plain.keys()
    assert torch.allclose(said(model), adapted, atol=1e-4)


@pytest.mark.parametrize("adapter", KINDS, ids=["lora", "dora"])
def test_a_resumed_adapter_ends_with_the_bits_of_an_unbroken_one(tiny, tmp_path, adapter):
    base = bits(tiny.model)

    def fresh():
        model = type(tiny.model)(tiny.model.config)
        model.load_state_dict(base)
        adapters.attach(model, adapter, 0)
        return model

    unbroken, resumed, stop = fresh(), fresh(), StopSignal()
    run(unbroken, tmp_path / "whole")
    with pytest.raises(Stopped):
        run(fresh(), tmp_path / "broken", stop=stop, progress=StopAt(stop, 4))
    kept = load_weights(checkpoints.latest(tmp_path / "broken") / "weights.safetensors")
    assert all(".lora_" in name for name in kept), "a frozen base is in no checkpoint"
    run(resumed, tmp_path / "broken", PLAN)
    assert same_bits(bits(resumed), bits(unbroken))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # PEFT's own affair
@pytest.mark.parametrize("adapter", KINDS, ids=["lora", "dora"])
def test_a_kept_adapter_on_its_base_is_the_merged_model_in_plain_peft(tiny, tiny_folder, tmp_path, adapter):
    adapters.attach(tiny.model, adapter, 0)
    run(tiny.model, tmp_path / "t", PLAN.model_copy(update={"epochs": 1}))
    for _ in range(2):  # the second time over what a job that was broken off has left
        adapters.save(tiny.model, str(tiny_folder), tmp_path / "adapter")
    assert len({path.stat().st_mode for path in (tmp_path / "adapter").iterdir()}) == 1  # read by the same people
    load_trained(tiny.model, tmp_path / "t")
    adapters.merge(tiny.model)
    save(tiny.model, tiny.renderer.tokenizer, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    base = AutoModelForCausalLM.from_pretrained(tiny_folder)
    untouched = said(base)
    adapted = PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert torch.allclose(said(adapted), said(merged), atol=1e-4)
    assert not torch.allclose(said(merged), untouched, atol=1e-3)


def test_targets_a_model_does_not_have_are_refused_with_those_it_has(tiny):
    with pytest.raises(InvalidRecipe, match=r"student\.adapter\.targets: .*expected all-linear, or some of .*q_proj"):
        adapters.attach(tiny.model, Adapter(targets=("query",)), 0)


def test_what_embeddings_and_head_share_takes_no_adapter(tiny):
    for targets in (("q_proj", "lm_head"), ("embed_tokens",)):
        with pytest.raises(InvalidRecipe, match="embeddings and head share"):
            adapters.attach(tiny.model, Adapter(targets=targets), 0)


def test_what_cannot_be_is_refused_before_anything_runs():
    job = {"kind": "fine-tuning", "name": "a", "source": {"prompts": "p.jsonl"}}
    four_bits = Recipe.build({**job, "student": {"model": "m", "adapter": {"kind": "qlora"}}})
    with pytest.raises(NotYet, match=r"qlora .* need a CUDA device"):
        four_bits.check_kind()
    with pytest.raises(InvalidRecipe, match=r"student: adapter\.keep: "):
        Recipe.build({**job, "student": {"model": "m", "shrink": {"layers": 2}, "adapter": {"keep": True}}})
    with pytest.raises(InvalidRecipe, match=r"freeze_embeddings: beside student\.adapter"):
        Recipe.build({**job, "student": {"model": "m", "adapter": {}}, "training": {"freeze_embeddings": False}})
    with pytest.raises(InvalidRecipe, match=r"freeze_layers: beside student\.adapter"):
        Recipe.build({**job, "student": {"model": "m", "adapter": {}}, "training": {"freeze_layers": 1}})
    with pytest.raises(InvalidRecipe, match=r"freeze_layers: the embeddings below"):
        frozen = {"freeze_layers": 1, "freeze_embeddings": False}
        Recipe.build({**job, "student": {"model": "m"}, "training": frozen})


@pytest.mark.slow
def test_a_job_with_an_adapter_leaves_a_plain_model_and_the_adapter_beside_it(tmp_path, tiny_folder):
    recipe = {
        "kind": "fine-tuning",
        "name": "adapted",
        "source": {"prompts": str(pairs(tmp_path / "pairs.jsonl", 24))},
        "student": {"model": str(tiny_folder), "adapter": {"kind": "dora", "keep": True}},
        "synthesis": {"max_response_tokens": 4},
        "training": {"epochs": 2, "batch_size": 8, "learning_rate": 0.01},
        "evaluation": {"latency_requests": 2},
    }
    made = limbeck.fine_tune(recipe, home=tmp_path / "home")
    (made.path / "manifest.json").unlink()  # as if it had been broken off while it was written
    assert limbeck.fine_tune(recipe, home=tmp_path / "home", resume=True).fingerprint == made.fingerprint
    assert {path.name for path in (made.path / "adapter").iterdir()} >= {
        "adapter_model.safetensors",
        "adapter_config.json",
    }
    assert (made.path / "model-f16.gguf").exists() and not (made.path / "adapter_config.json").exists()
    names = load_weights(made.path / "model.safetensors")
    assert not any("lora" in name or "base_layer" in name for name in names)
    learned, base = (
        said(AutoModelForCausalLM.from_pretrained(made.path)),
        said(AutoModelForCausalLM.from_pretrained(tiny_folder)),
    )
    assert not torch.allclose(learned, base, atol=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # PEFT's own affair
def test_an_adapter_on_a_gguf_file_names_a_base_that_peft_can_load(tmp_path, tiny_folder):
    limbeck.export(str(tiny_folder), tmp_path / "exported", home=tmp_path / "home")
    recipe = {
        "kind": "fine-tuning",
        "name": "adapted",
        "source": {"prompts": str(pairs(tmp_path / "pairs.jsonl", 24))},
        "student": {"model": str(tmp_path / "exported" / "model-f16.gguf"), "adapter": {"keep": True}},
        "synthesis": {"max_response_tokens": 4},
        "training": {"epochs": 1, "batch_size": 8, "learning_rate": 0.01},
        "evaluation": {"latency_requests": 2},
        "export": {"gguf": "none"},
    }
    made = limbeck.fine_tune(recipe, home=tmp_path / "home")
    adapted = AutoPeftModelForCausalLM.from_pretrained(made.path / "adapter")
    assert torch.allclose(said(adapted), said(AutoModelForCausalLM.from_pretrained(made.path)), atol=1e-4)
