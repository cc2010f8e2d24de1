"""Replicas find what one model finds, share its weights, and a run with them is repeated to the bit."""

import pytest
import torch
from tests.training.test_loop import PLAN, StopAt, bits, rows, run, same_bits, student
from tests.training.test_step import batch, gradient_of

from limbeck.errors import InvalidInput, Stopped
from limbeck.models import adapters
from limbeck.models.packing import pack, response_hidden, tokens_computed
from limbeck.progress import Silent, StopSignal
from limbeck.recipe import Adapter, Hidden, Objective
from limbeck.training import ALONE, Alignment, loop, parallel
from limbeck.training.parallel import Replicas, shares_of

FORWARD_KL = Objective(forward_kl=1)


@pytest.fixture
def always(monkeypatch):
    """However much a batch grows by being shared out."""
    monkeypatch.setattr(parallel, "WORTH", float("inf"))


def test_shares_are_whole_and_about_as_long():
    lengths = [len(one.tokens.ids) for one in batch(12)]
    shares = shares_of([one.tokens for one in batch(12)], 3)
    assert sorted(at for share in shares for at in share) == list(range(12))
    tokens = [sum(lengths[at] for at in share) for share in shares]
    assert max(tokens) - min(tokens) <= max(lengths)


@pytest.mark.parametrize("count", [2, 4, 16])
def test_loss_and_gradient_are_those_of_one_model(tiny, always, count):
    """Sixteen for eleven examples: some have nothing to do."""
    model, examples = tiny.model, batch()
    expected, direction = gradient_of(
        model, lambda: Replicas(model, None, 1, 1).accumulate(examples, FORWARD_KL, 60).mean
    )
    replicas = Replicas(model, None, count, count)
    for _ in range(2):
        found, ours = gradient_of(model, lambda: replicas.accumulate(examples, FORWARD_KL, 60).mean)
        assert found == pytest.approx(expected, rel=1e-6)
        assert float((ours - direction).norm() / direction.norm()) < 1e-5
    watched = replicas.accumulate(examples, FORWARD_KL, 60, backward=False)
    assert watched.mean == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_replicas_of_an_adapter_share_what_is_frozen_and_what_learns(tiny, always, kind):
    model, examples = tiny.model, batch()
    adapters.attach(model, Adapter(kind=kind, rank=4), 0)
    found = []
    for count in (1, 3):
        model.zero_grad()
        Replicas(model, None, count, count).accumulate(examples, FORWARD_KL, 4096)
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad})
    assert found[0].keys() == found[1].keys() and len(found[0]) > 10
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-6) for name in found[0])


def test_what_aligns_hidden_states_learns_from_every_share(tiny, always, tmp_path):
    examples = batch()
    alignment = Alignment(Hidden(layers={2: 3}), tiny.model, [one.tokens for one in examples])
    head = alignment.head(tiny.model)
    head.projections.append(torch.randn(48, 48))
    read = alignment.read(examples, (3,), 4096, tmp_path, Silent(), StopSignal())
    together = torch.nn.ModuleList([tiny.model, head])
    one, three = (Replicas(tiny.model, head, count, count) for count in (1, 3))
    expected, direction = gradient_of(together, lambda: one.accumulate(read, FORWARD_KL, 4096).mean)
    found, ours = gradient_of(together, lambda: three.accumulate(read, FORWARD_KL, 4096).mean)
    assert found == pytest.approx(expected, rel=1e-6)
    assert float((ours - direction).norm() / direction.norm()) < 1e-5


def test_a_broken_run_with_replicas_ends_with_the_bits_of_an_unbroken_one(tiny, always, tmp_path):
    plan = PLAN.model_copy(update={"replicas": 3, "batch_size": 7})
    whole, broken = student(tiny), student(tiny)
    run(whole, tmp_path / "whole", plan)
    stop = StopSignal()
    with pytest.raises(Stopped):
        run(broken, tmp_path / "broken", plan, stop, progress=StopAt(stop, 3))
    again = student(tiny)
    run(again, tmp_path / "broken", plan)
    assert same_bits(bits(whole), bits(again))
    alone = student(tiny)
    run(alone, tmp_path / "alone", plan.model_copy(update={"replicas": 1}))
    losses = [
        [float(row["training_loss"]) for row in rows(tmp_path / name / "metrics.csv")] for name in ("whole", "alone")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3) and losses[0][-1] < losses[0][0]


def test_a_batch_is_not_shared_out_where_most_of_it_is_one_prefix(tiny):
    """Twenty tokens in common of some thirty each: two replicas would compute them twice."""
    replicas, examples = Replicas(tiny.model, None, 2, 2), batch(4)
    found = replicas.accumulate(examples, FORWARD_KL, 4096, backward=False)
    assert found.computed == tokens_computed([one.tokens for one in examples])


def test_a_model_that_drops_out_at_random_has_no_replicas(tiny):
    model = tiny.model
    model.config.attention_dropout = 0.1  # which attention in a pack does not apply
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.1
    packed = pack([one.tokens for one in batch()])
    assert torch.equal(response_hidden(model.train(), packed), response_hidden(model.eval(), packed))
    assert len(Replicas(model, None, 4, 4)._all) == 4
    model.model.layers[1].dropout = torch.nn.Dropout(0.1)
    assert len(Replicas(model, None, 4, 4)._all) == 1


def test_memory_is_forecast_for_all_and_fewer_are_taken_where_it_lacks(tiny, monkeypatch):
    examples = batch(16)
    told = Silent()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    sequences = [e.tokens for e in examples]
    sizes = [loop.memory.forecast(tiny.model, sequences, 16, 2048, count) for count in (1, 2, 4)]
    assert sizes[0].gradients * 4 == sizes[1].gradients * 2 == sizes[2].gradients
    plan = PLAN.model_copy(update={"batch_size": 16})
    for there, count in ((sizes[2].total, 4), (sizes[2].total - 1, 2), (sizes[0].total, 1)):
        monkeypatch.setattr(loop, "memory_of", lambda _, there=there: there)
        assert loop._replicas(tiny.model, sequences, plan, told, ALONE) == count
    with pytest.raises(InvalidInput, match=r"training\.replicas: 1"):
        loop._replicas(tiny.model, sequences, plan.model_copy(update={"replicas": 4}), told, ALONE)
