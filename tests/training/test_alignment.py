"""Hidden states drawn to a teacher's: the plain computation's loss and gradient, and a run that can be taken up again."""

import errno
import os
from dataclasses import replace

import pytest
import torch
from tests.training.test_loop import PLAN, StopAt, bits, rows, same_bits, student
from tests.training.test_step import batch, gradient_of
from transformers import LlamaConfig, LlamaForCausalLM

from limbeck.errors import InvalidInput, Stopped
from limbeck.models.loading import load
from limbeck.models.packing import pack, response_states
from limbeck.progress import Silent, StopSignal
from limbeck.recipe import Hidden, Objective
from limbeck.training import Alignment, train
from limbeck.training.objectives import cross_entropy, hidden_distance
from limbeck.training.step import accumulate


@pytest.fixture
def wide(tiny, settings, tmp_path):
    """A teacher of another width."""
    torch.manual_seed(5)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=tiny.model.config.vocab_size,
            hidden_size=64,
            intermediate_size=80,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            initializer_range=0.1,
        )
    ).save_pretrained(tmp_path / "wide")
    tiny.renderer.tokenizer.save_pretrained(tmp_path / "wide")
    return load(str(tmp_path / "wide"), settings).model


def double_states(model, tokens, layers):
    """transformers' own, in float64, at the response positions."""
    found = model.double()(input_ids=torch.tensor([tokens.inputs]), output_hidden_states=True).hidden_states
    return [found[layer][0, tokens.predictors] for layer in layers]


@pytest.mark.parametrize("measure", ["cosine", "mse", "relative"])
@pytest.mark.parametrize("pack_tokens", [16, 60, 4096])
@pytest.mark.parametrize("pairs", [None, {1: 1, 3: 2, 4: 3}])
def test_loss_and_gradient_are_those_of_the_plain_computation(tiny, wide, tmp_path, measure, pack_tokens, pairs):
    plan, examples = Hidden(weight=0.5, layers=pairs, measure=measure), batch()
    alignment = Alignment(plan, wide.double(), [one.tokens for one in examples])
    model = tiny.model.double()
    head = alignment.head(model).double()
    assert head.pairs == (pairs or {4: 3})
    read = alignment.read(examples, tuple(head.pairs.values()), pack_tokens, tmp_path, Silent(), StopSignal())

    def plainly():
        tokens = sum(len(one.tokens.response) for one in examples)
        total = torch.zeros((), dtype=torch.float64)
        for one in examples:
            with torch.no_grad():
                wanted = double_states(wide, one.tokens, head.pairs.values())
            own = double_states(model, one.tokens, head.pairs)
            logits = model(input_ids=torch.tensor([one.tokens.inputs])).logits[0, one.tokens.predictors]
            loss = cross_entropy(logits, torch.tensor(one.tokens.response))
            for x, y, matrix in zip(own, wanted, head.projections, strict=True):
                # As it is kept: four bytes a number.
                loss = loss + 0.5 * hidden_distance(x @ matrix.T, y.float().double(), measure) / len(head.pairs)
            total = total + loss.sum() / tokens
        total.backward()
        return total.item()

    together = torch.nn.ModuleList([model, head])
    expected, direction = gradient_of(together, plainly)
    ce = Objective(cross_entropy=1)
    found, ours = gradient_of(together, lambda: accumulate(model, read, ce, pack_tokens, aligned=head).mean)
    assert found == pytest.approx(expected, rel=1e-6)
    assert float((ours - direction).norm() / direction.norm()) < 1e-6  # the model's norms round to fp32
    tiny.model.float()


def test_models_of_one_width_need_no_projection_and_a_copy_is_no_distance_away(tiny, tmp_path):
    examples = batch()
    alignment = Alignment(Hidden(layers={2: 2, 4: 4}), tiny.model, [one.tokens for one in examples])
    head = alignment.head(tiny.model)
    assert not list(head.parameters())
    read = alignment.read(examples, (2, 4), 4096, tmp_path, Silent(), StopSignal())
    apart = accumulate(tiny.model, read, Objective(cross_entropy=1), 100, backward=False, aligned=head)
    without = accumulate(tiny.model, read, Objective(cross_entropy=1), 100, backward=False)
    assert apart.mean == pytest.approx(without.mean, abs=1e-5)
    assert apart.tokens == sum(len(one.states_RLD) for one in read)


def test_the_teacher_may_read_the_same_answer_after_a_prompt_of_its_own(tiny, tmp_path):
    examples = batch()
    longer = [
        replace(one.tokens, ids=(1, 7, 8, 9, *one.tokens.ids), response_start=one.tokens.response_start + 4)
        for one in examples
    ]
    alignment = Alignment(Hidden(), tiny.model, longer)
    read = alignment.read(examples, (4,), 60, tmp_path, Silent(), StopSignal())
    with torch.no_grad():
        alone = response_states(tiny.model, pack([longer[3]]), (4,))[-1]
    assert torch.allclose(torch.from_numpy(read[3].states_RLD[:, 0].copy()), alone, atol=1e-5)


def run(model, teacher, folder, stop=None, progress=None, plan=PLAN):
    folder.mkdir(exist_ok=True)
    examples = batch()
    alignment = Alignment(Hidden(weight=2), teacher, [one.tokens for one in examples])
    objective = Objective(forward_kl=1, hidden=Hidden(weight=2))
    return train(
        model, examples, [], objective, plan, folder, progress or Silent(), stop or StopSignal(), alignment=alignment
    )


def test_a_run_comes_nearer_and_a_broken_one_ends_with_the_same_bits(tiny, wide, tmp_path):
    unbroken = student(tiny)
    run(unbroken, wide, tmp_path / "whole")
    losses = [float(row["training_loss"]) for row in rows(tmp_path / "whole" / "metrics.csv")]
    assert losses[-1] < losses[0]
    stop = StopSignal()
    with pytest.raises(Stopped):
        run(student(tiny), wide, tmp_path / "broken", stop, StopAt(stop, 11 + 4))  # eleven answers are read first
    resumed = student(tiny)
    run(resumed, wide, tmp_path / "broken")
    assert same_bits(bits(resumed), bits(unbroken))
    assert sorted(path.name for path in (tmp_path / "broken").iterdir()) == [
        "losses.json",
        "metrics.csv",
        "validation.csv",
        "weights.safetensors",
    ]


def test_a_run_stopped_while_the_teacher_reads_begins_anew(tiny, wide, tmp_path):
    stop = StopSignal()
    stop.set()
    with pytest.raises(Stopped, match="it will read again"):
        run(student(tiny), wide, tmp_path / "t", stop)
    whole, again = student(tiny), student(tiny)
    run(again, wide, tmp_path / "t")
    run(whole, wide, tmp_path / "u")
    assert same_bits(bits(whole), bits(again))


def test_a_disk_without_room_for_the_states_is_told_before_the_teacher_reads(tiny, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr("limbeck.training.alignment.response_states", None)
    alignment = Alignment(Hidden(), tiny.model, [one.tokens for one in batch()])
    with pytest.raises(OSError, match=r"No space left on device: .*states\.npy"):
        alignment.read(batch(), (4,), 60, tmp_path, Silent(), StopSignal())


def test_layers_that_are_not_there_are_refused(tiny, wide):
    for pairs, fault in (({5: 1}, "5; the student has 4 layers; expected 1 to 4"), ({1: 0}, "0; the teacher has 3")):
        with pytest.raises(InvalidInput, match=f"hidden.layers: {fault}"):
            Alignment(Hidden(layers=pairs), wide, []).head(tiny.model)
    with pytest.raises(ValueError, match="every weight is 0"):
        Objective(hidden=Hidden())
    with pytest.raises(ValueError, match=r"hidden\.layers: empty"):
        Objective(forward_kl=1, hidden=Hidden(layers={}))
