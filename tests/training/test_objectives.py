"""Each objective against a float64 reference written from the formula alone, and against finite differences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from tests.training import reference

from limbeck.inference.engine import drawn_labels_of
from limbeck.recipe import Objective
from limbeck.training import objectives
from limbeck.training.objectives import (
    cross_entropy,
    forward_kl,
    hidden_distance,
    merged,
    universal,
)
from limbeck.training.targets import stack

PARAMETERS = {
    "forward_kl": {},
    "reverse_kl": {},
    "jensen_shannon": {"beta": 0.3},
    "skewed_forward_kl": {"skew": 0.1},
    "skewed_reverse_kl": {"skew": 0.1},
}
DIVERGENCES = list(PARAMETERS)


def soft(teacher_logits, k, temperature=1.0):
    """The teacher's buckets: ids and log-probabilities."""
    logprobs = (teacher_logits.double() / temperature).log_softmax(-1)
    top, ids = logprobs.topk(k, -1)
    tail = logprobs.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)
    return ids, torch.cat([top, tail], -1)[:, : logprobs.shape[-1]].clamp(min=objectives.LOG_NOTHING)


def divergence(name, logits, teacher, k, temperature=1.0):
    ids, teacher_RB = soft(teacher, k, temperature)
    student_RB = merged(logits, ids, temperature)
    return getattr(objectives, name)(teacher_RB.to(logits.dtype), student_RB, **PARAMETERS[name])


def random_logits(rows, vocabulary, seed, scale=3.0):
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 6), vocabulary=st.integers(2, 40))
@examples(max_examples=60)
def test_cross_entropy_is_the_negative_log_likelihood(seed, rows, vocabulary):
    logits = random_logits(rows, vocabulary, seed)
    targets = torch.randint(vocabulary, (rows,), generator=torch.Generator().manual_seed(seed))
    expected = [reference.cross_entropy(row, t) for row, t in zip(logits.numpy(), targets.tolist(), strict=True)]
    assert cross_entropy(logits, targets).tolist() == pytest.approx(expected, rel=1e-10)
    assert cross_entropy(logits.float(), targets).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@given(
    name=st.sampled_from(DIVERGENCES),
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 4),
    vocabulary=st.integers(2, 40),
    k=st.integers(1, 40),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
)
@examples(max_examples=200)
@pytest.mark.row(66)
def test_a_divergence_is_that_of_the_merged_distributions(name, seed, rows, vocabulary, k, temperature):
    k = min(k, vocabulary)
    logits, teacher = random_logits(rows, vocabulary, seed), random_logits(rows, vocabulary, seed + 1)
    expected = [
        reference.divergence(name, *pair, k, temperature, **PARAMETERS[name])
        for pair in zip(logits.numpy(), teacher.numpy(), strict=True)
    ]
    found = divergence(name, logits, teacher, k, temperature)
    assert found.tolist() == pytest.approx(expected, rel=1e-10, abs=1e-12)
    single = divergence(name, logits.float(), teacher, k, temperature)
    assert single.tolist() == pytest.approx(expected, rel=1e-4, abs=2e-5)


def test_drawn_targets_are_unbiased_and_the_likeliest_are_not():
    """The mean gradient over many sets of draws is that of the whole divergence; that of the top k is another."""
    logits, teacher = random_logits(1, 30, 5, 1.0), random_logits(1, 30, 6, 1.0)
    p = teacher.softmax(-1)
    sets, draws = 20_000, 4
    drawn = drawn_labels_of(teacher.expand(sets, -1), draws, 1.0, torch.Generator().manual_seed(0))
    x = logits.clone().requires_grad_()
    values = stack([drawn]).loss(x.expand(sets, -1), torch.zeros(sets).long(), slice(None), Objective(forward_kl=1))
    values.mean().backward()
    whole = logits.softmax(-1) - p  # the gradient of KL(p ‖ q) by the logits
    # The loss itself is off by a number that does not depend on the student: -log N stands for minus the entropy.
    entropy = -(p * p.log()).sum().item()
    error = values.std().item() / sets**0.5
    value = values.mean().item() + math.log(draws) - entropy
    assert abs(value - divergence("forward_kl", logits, teacher, 30).item()) < 4 * error
    assert (x.grad - whole).abs().max() < 4 * (0.25 / (sets * draws)) ** 0.5
    renormalized = logits.clone().requires_grad_()
    ids = p.topk(draws).indices
    (-(p.gather(-1, ids) / p.gather(-1, ids).sum()) * renormalized.log_softmax(-1).gather(-1, ids)).sum().backward()
    assert (renormalized.grad - whole).abs().max() > 0.05


@given(seed=st.integers(0, 10_000), vocabulary=st.integers(2, 40), k=st.integers(1, 40))
@examples(max_examples=60)
def test_universal_distance_pairs_likeliest_with_likeliest(seed, vocabulary, k):
    k = min(k, vocabulary)
    logits, teacher = random_logits(3, vocabulary, seed), random_logits(3, vocabulary + 5, seed + 1)
    expected = [reference.universal(*row, k) for row in zip(logits.numpy(), teacher.numpy(), strict=True)]
    assert universal(soft(teacher, k)[1], logits).tolist() == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("measure", ["cosine", "mse", "relative"])
def test_hidden_states_are_as_far_apart_as_the_formula_says(measure):
    student, teacher = random_logits(5, 7, 1).requires_grad_(), random_logits(5, 7, 2)
    rows = list(zip(student.detach().numpy(), teacher.numpy(), strict=True))
    found = hidden_distance(student, teacher, measure)
    assert found.tolist() == pytest.approx([reference.hidden_distance(*row, measure) for row in rows], rel=1e-10)
    assert torch.autograd.gradcheck(lambda x: hidden_distance(x, teacher, measure), (student,))


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("k", [1, 3, 7])
def test_gradients_are_those_of_finite_differences(name, k):
    logits, teacher = random_logits(4, 7, 3).requires_grad_(), random_logits(4, 7, 4)
    assert torch.autograd.gradcheck(lambda x: divergence(name, x, teacher, k, 1.5), (logits,))


def test_gradients_of_the_others_are_too():
    logits, teacher = random_logits(4, 7, 3).requires_grad_(), random_logits(4, 7, 4)
    targets = torch.tensor([0, 2, 6, 1])
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, targets), (logits,))
    assert torch.autograd.gradcheck(lambda x: universal(soft(teacher, 3)[1], x), (logits,))


@given(name=st.sampled_from(DIVERGENCES), seed=st.integers(0, 10_000), k=st.integers(1, 20))
@examples(max_examples=100)
def test_more_candidates_never_lower_a_divergence(name, seed, k):
    logits, teacher = random_logits(5, 21, seed), random_logits(5, 21, seed + 1)
    less, more = (divergence(name, logits, teacher, n) for n in (k, k + 1))
    assert (more >= less - 1e-12).all()


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_student_that_is_its_teacher_loses_nothing_and_has_no_gradient(name):
    teacher = random_logits(4, 30, 1)
    logits = teacher.clone().requires_grad_()
    loss = divergence(name, logits, teacher, 5).sum()
    loss.backward()
    assert abs(loss.item()) < 1e-12
    assert logits.grad.abs().max() < 1e-12


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_teacher_that_leaves_no_tail_gives_finite_numbers(name):
    logits = random_logits(2, 10, 2).float().requires_grad_()
    ids = torch.tensor([[3], [4]])
    nothing = torch.full((2, 1), objectives.LOG_NOTHING)
    loss = getattr(objectives, name)(
        torch.cat([torch.zeros(2, 1), nothing], 1), merged(logits, ids), **PARAMETERS[name]
    )
    loss.sum().backward()
    if name == "forward_kl":
        assert loss.tolist() == pytest.approx(cross_entropy(logits, ids[:, 0]).tolist(), rel=1e-5)
    assert torch.isfinite(loss).all() and torch.isfinite(logits.grad).all()


def merged_plainly(logits, ids):
    """The formula, left to autograd."""
    total = logits.logsumexp(-1, keepdim=True)
    tail = logits.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([logits.gather(-1, ids), tail], -1) - total


@pytest.mark.parametrize("lift", [0.0, 60.0, 95.0, 300.0], ids=lambda lift: f"candidates {lift:.0f} nats above")
@pytest.mark.parametrize("ids", [[[1, 4, 7], [0, 2, 9]], [[3, 3, 5], [6, 6, 6]]], ids=["apart", "some twice"])
def test_merging_has_the_gradient_of_its_formula_however_faint_the_rest(lift, ids):
    ids, weights = torch.tensor(ids), random_logits(2, 4, 9)
    start = random_logits(2, 10, 8).scatter_add(1, ids, torch.full((2, 3), lift, dtype=torch.float64))
    found = []
    for form, precision in ((merged, torch.float64), (merged_plainly, torch.float64), (merged, torch.float32)):
        logits = start.clone().detach().to(precision).requires_grad_()
        value = form(logits, ids)
        (value * weights.to(precision)).sum().backward()
        found.append((value.detach().double(), logits.grad.double()))
    for (value, gradient), limit in ((found[0], 1e-12), (found[2], 1e-4)):
        assert torch.allclose(value, found[1][0], rtol=limit, atol=limit)
        assert torch.allclose(gradient, found[1][1], rtol=limit, atol=limit)


def test_places_without_a_candidate_are_part_of_the_rest():
    logits, teacher = random_logits(2, 10, 2), random_logits(2, 10, 3)
    ids, teacher_RB = soft(teacher, 3)
    absent = torch.tensor([[False, False, False, True]] * 2)
    nothing = torch.full((2, 1), objectives.LOG_NOTHING, dtype=torch.float64)
    padded = torch.cat([teacher_RB[:, :3], nothing, teacher_RB[:, 3:]], 1)
    student = merged(logits, torch.cat([ids, ids[:, :1]], 1), absent_RK=absent)
    expected = forward_kl(teacher_RB, merged(logits, ids))
    assert forward_kl(padded, student).tolist() == pytest.approx(expected.tolist(), rel=1e-12)


def test_the_tail_keeps_its_precision_where_the_candidates_hold_nearly_all():
    logits = torch.full((1, 1000), -20.0)
    logits[0, 0] = 20.0
    student = logits.clone()
    student[0, 1:] += 3.0
    expected = reference.divergence("forward_kl", student[0].double().numpy(), logits[0].double().numpy(), 1)
    assert divergence("forward_kl", student, logits, 1).item() == pytest.approx(expected, abs=1e-7)
