"""Layers that compute in bf16: near what fp32 gives, with weights, gradients and losses in fp32."""

import pytest
import torch
from tests.training.test_loop import PLAN, StopAt, bits, run, same_bits, student
from tests.training.test_step import batch, gradient_of

from limbeck.errors import InvalidInput, Stopped
from limbeck.progress import Silent, StopSignal
from limbeck.recipe import Objective
from limbeck.training import precision
from limbeck.training.parallel import Replicas
from limbeck.training.step import accumulate

FORWARD_KL = Objective(forward_kl=1)


class Told(Silent):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


BF16 = PLAN.model_copy(update={"precision": "bf16"})


@pytest.mark.parametrize("share", [True, False])
def test_loss_and_gradient_are_near_those_of_fp32(tiny, share):
    model, examples = tiny.model, batch()
    expected, direction = gradient_of(model, lambda: accumulate(model, examples, FORWARD_KL, 60).mean)
    found, ours = gradient_of(model, lambda: accumulate(model, examples, FORWARD_KL, 60, share=share, bf16=True).mean)
    assert found != expected and found == pytest.approx(expected, rel=1e-2)
    assert 1e-5 < float((ours - direction).norm() / direction.norm()) < 5e-2
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}


def test_replicas_compute_in_it_too(tiny, monkeypatch):
    monkeypatch.setattr("limbeck.training.parallel.WORTH", float("inf"))
    one, two = (Replicas(tiny.model, None, count, count, bf16=True) for count in (1, 2))
    found, ours = gradient_of(tiny.model, lambda: two.accumulate(batch(), FORWARD_KL, 4096).mean)
    alone, theirs = gradient_of(tiny.model, lambda: one.accumulate(batch(), FORWARD_KL, 4096).mean)
    assert found == pytest.approx(alone, rel=1e-2) and float((ours - theirs).norm() / theirs.norm()) < 5e-2


def test_a_run_in_it_learns_and_is_repeated_to_the_bit(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda _: True)
    first, second, plain = (student(tiny) for _ in range(3))
    told = [run(one, tmp_path / str(at), BF16) for at, one in enumerate((first, second))]
    run(plain, tmp_path / "plain", PLAN)
    assert same_bits(bits(first), bits(second)) and not same_bits(bits(first), bits(plain))
    assert {p.dtype for p in first.parameters()} == {torch.float32}
    before = accumulate(student(tiny), batch(), Objective(cross_entropy=1), 4096, backward=False).mean
    assert told[0]["training_loss"] < before


@pytest.mark.parametrize("count", [1, 2])
def test_what_is_only_measured_is_not_rounded(tiny, monkeypatch, count):
    monkeypatch.setattr("limbeck.training.parallel.WORTH", float("inf"))
    rounded, exact = (Replicas(tiny.model, None, count, count, bf16=bf16) for bf16 in (True, False))
    for backward in (True, False):
        found, expected = (one.accumulate(batch(), FORWARD_KL, 4096, backward).mean for one in (rounded, exact))
        assert (found == expected) is not backward


def test_a_run_tells_in_which_numbers_it_was(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda _: True)
    stop, told = StopSignal(), Told()
    assert run(student(tiny), tmp_path / "plain", PLAN, progress=told)["precision"] == "fp32"
    assert not any("bf16" in said for said in told.said)
    with pytest.raises(Stopped):
        run(student(tiny), tmp_path / "a", BF16, stop, progress=StopAt(stop, 2))
    assert run(student(tiny), tmp_path / "a", BF16, progress=told)["precision"] == "bf16"
    assert any("layers multiply in bf16" in said for said in told.said)
    assert not any("until there with" in said for said in told.said)


def test_a_run_that_goes_on_in_other_numbers_says_so(tiny, tmp_path, monkeypatch):
    stop, told = StopSignal(), Told()
    plan = PLAN.model_copy(update={"precision": "auto"})
    monkeypatch.setattr(precision, "has_bf16", lambda _: True)
    with pytest.raises(Stopped):
        run(student(tiny), tmp_path / "a", plan, stop, progress=StopAt(stop, 2))
    monkeypatch.setattr(precision, "has_bf16", lambda _: False)
    run(student(tiny), tmp_path / "a", plan, progress=told)
    assert any("products of bf16, and now with" in said for said in told.said)


@pytest.mark.parametrize(
    ("there", "asked", "rounds"), [(True, "auto", True), (False, "auto", False), (True, "fp32", False)]
)
def test_it_is_taken_where_the_processor_has_it(monkeypatch, there, asked, rounds):
    monkeypatch.setattr(precision, "has_bf16", lambda _: there)
    assert precision.rounds(PLAN.model_copy(update={"precision": asked}), torch.device("cpu")) is rounds


def test_asked_for_without_it_it_is_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda _: False)
    with pytest.raises(InvalidInput, match=r"training\.precision: bf16, and this processor .* Use auto, or fp32"):
        run(student(tiny), tmp_path / "a", BF16)
