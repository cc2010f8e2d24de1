"""A budget is kept, its candidates are measured, and the nearest to the base is taken."""

import json

import pytest
import torch
from tests.conftest import make_model
from tests.factory import pairs
from tests.models.test_shrink import SAMPLE

import limbeck
from limbeck.errors import InvalidRecipe
from limbeck.intake import read_examples
from limbeck.models import budget, shrink
from limbeck.models.budget import candidates
from limbeck.models.importance import measure
from limbeck.models.loading import load
from limbeck.models.shrink import choose, cut
from limbeck.recipe import Recipe, Shrink
from limbeck.settings import Settings
from limbeck.steps.student import begun
from limbeck.storage.workspace import Workspace


def size(model):
    return sum(p.numel() for p in model.parameters())


def test_each_shape_is_as_deep_as_the_budget_lets_it_be(tiny):
    found = candidates(Shrink(parameters=0.7), tiny.model, SAMPLE)
    assert {one.shrink.feed_forward for one in found} == {None, 0.75, 0.5}
    assert [one.divergence for one in found] == sorted(one.divergence for one in found)
    assert found[0].divergence > 0
    for one in found:
        made = cut(tiny.model, choose(one.shrink, tiny.model, SAMPLE))
        assert size(made) / size(tiny.model) == pytest.approx(one.parameters)
        assert one.parameters <= 0.7
        deeper = one.shrink.model_copy(update={"layers": one.shrink.layers + 1})
        assert budget._parameters(tiny.model, deeper) > 0.7 * size(tiny.model)


def test_the_nearest_is_the_one_whose_logits_are(tiny):
    """Two layers that do nothing: half the depth is half the model and loses nothing."""
    with torch.no_grad():
        for layer in (1, 2):
            block = tiny.model.model.layers[layer]
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
    best = candidates(Shrink(parameters=0.72), tiny.model, SAMPLE)[0]
    assert (best.shrink.layers, best.shrink.feed_forward) == (2, None)
    assert best.divergence == pytest.approx(0.0, abs=1e-5)


def test_a_budget_of_time_goes_by_the_clock(tiny, monkeypatch):
    measured = []
    monkeypatch.setattr(shrink, "measure", lambda *given: (measured.append(given), measure(*given))[1])
    found = candidates(Shrink(latency=0.5), tiny.model, SAMPLE, lambda model, prompt: model.config.num_hidden_layers)
    assert {one.shrink.layers for one in found} == {2}
    assert {one.latency for one in found} == {0.5}
    assert len(measured) == 1  # for all of its candidates
    assert budget.latency(tiny.model, SAMPLE[0]) > 0


def test_a_budget_of_time_does_not_go_by_the_number_of_weights(tiny):
    """Embeddings are weights that take next to no time: a third of them may answer in a sixteenth of it."""
    assert budget._parameters(tiny.model, Shrink(layers=1)) > 0.3 * size(tiny.model)
    found = candidates(Shrink(latency=0.15), tiny.model, SAMPLE, lambda model, _: model.config.num_hidden_layers**2)
    assert {one.shrink.layers for one in found} == {1}


def test_few_depths_are_timed_of_many(tmp_path, settings):
    deep, timed = load(str(make_model(tmp_path / "deep", layers=16)), settings).model, []

    def clock(model, prompt):
        timed.append(model)
        return model.config.num_hidden_layers

    found = candidates(Shrink(latency=0.4), deep, SAMPLE, clock)
    assert {one.shrink.layers for one in found} == {6}
    assert sum(model is not deep for model in timed) <= 3 * 4


def test_an_answer_is_timed_with_the_logits_of_the_last_token_alone(tiny):
    asked = []
    hook = tiny.model.lm_head.register_forward_pre_hook(lambda _, given: asked.append(given[0].shape[1]))
    budget.latency(tiny.model, SAMPLE[0])
    hook.remove()
    assert len(SAMPLE[0]) > 1 and set(asked) == {1}


def test_a_budget_that_nothing_fits_is_refused_with_what_would(tiny):
    with pytest.raises(
        InvalidRecipe, match=r"student\.shrink\.parameters: found 0\.01; the smallest cut .* has 0\.\d+"
    ):
        candidates(Shrink(parameters=0.01), tiny.model, SAMPLE)
    job = {"kind": "fine-tuning", "name": "a", "source": {"prompts": "p.jsonl"}}
    with pytest.raises(InvalidRecipe, match="parameters: a budget chooses for itself"):
        Recipe.build({**job, "student": {"model": "m", "shrink": {"parameters": 0.3, "layers": 6}}})


def test_a_job_within_a_budget_tells_its_candidates_and_measures_once(tmp_path, tiny_folder, monkeypatch):
    job = {
        "kind": "fine-tuning",
        "name": "budgeted",
        "source": {"prompts": str(pairs(tmp_path / "pairs.jsonl", 16))},
        "student": {"model": str(tiny_folder), "shrink": {"parameters": 0.7}},
        "synthesis": {"max_response_tokens": 4},
        "training": {"epochs": 1, "batch_size": 8},
        "evaluation": {"latency_requests": 2, "baseline": False},
        "export": {"gguf": "none"},
    }
    made = limbeck.fine_tune(job, home=tmp_path / "home")
    told = json.loads((tmp_path / "home" / "jobs" / "budgeted" / "cut.json").read_text())
    assert told["chosen"] == told["candidates"][0]["shrink"] and len(told["candidates"]) == 3
    assert json.loads((made.path / "config.json").read_text())["num_hidden_layers"] == told["chosen"]["layers"]
    work = Workspace(tmp_path / "home" / "jobs" / "budgeted")
    other = Recipe.build({**job, "student": {"model": str(tiny_folder), "shrink": {"parameters": 0.9}}})
    base, rows = (
        load(str(tiny_folder), Settings.read(tmp_path / "home")),
        read_examples(work.folder / "1-intake" / "examples.jsonl"),
    )
    before = (work.folder / "cut.json").read_bytes()
    assert begun(base, other, rows, work).parameters > begun(base, Recipe.build(job), rows, work).parameters
    (work.folder / "cut.json").write_bytes(before)
    monkeypatch.setattr("limbeck.steps.student.within", None)
    assert limbeck.fine_tune(job, home=tmp_path / "home", resume=True).fingerprint == made.fingerprint
