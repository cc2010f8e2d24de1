"""Each objective against a float64 reference written from the formula alone, and against finite differences."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from limbeck.training.objectives import cross_entropy, forward_kl


def softmax(row):
    shifted = np.asarray(row, dtype=np.float64) - max(row)
    return np.exp(shifted) / np.exp(shifted).sum()


def reference_cross_entropy(logits, targets):
    return [-math.log(softmax(row)[target]) for row, target in zip(logits, targets, strict=True)]


def reference_forward_kl(logits, teacher_logits, k):
    """KL of the two distributions with everything outside the teacher's k likeliest merged into one outcome."""
    losses = []
    for row, teacher_row in zip(logits, teacher_logits, strict=True):
        p, q = softmax(teacher_row), softmax(row)
        top = np.argsort(-p, kind="stable")[:k]
        rest = np.setdiff1d(np.arange(len(p)), top)
        pairs = [(p[i], q[i]) for i in top] + ([(p[rest].sum(), q[rest].sum())] if len(rest) else [])
        losses.append(sum(a * math.log(a / b) for a, b in pairs if a > 0))
    return losses


def soft(teacher_logits, k):
    logprobs = teacher_logits.double().log_softmax(-1)
    top, ids = logprobs.topk(k, -1)
    tail = logprobs.scatter(-1, ids, -torch.inf).logsumexp(-1)
    return ids, top, tail


def random_logits(rows, vocabulary, seed, scale=3.0):
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 6), vocabulary=st.integers(2, 40))
@examples(max_examples=60, deadline=None)
def test_cross_entropy_is_the_negative_log_likelihood(seed, rows, vocabulary):
    logits = random_logits(rows, vocabulary, seed)
    targets = torch.randint(vocabulary, (rows,), generator=torch.Generator().manual_seed(seed))
    expected = reference_cross_entropy(logits.tolist(), targets.tolist())
    assert cross_entropy(logits, targets).tolist() == pytest.approx(expected, rel=1e-10)
    assert cross_entropy(logits.float(), targets).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 6), vocabulary=st.integers(2, 40), k=st.integers(1, 40))
@examples(max_examples=100, deadline=None)
@pytest.mark.row(66)
def test_forward_kl_is_the_divergence_of_the_merged_distributions(seed, rows, vocabulary, k):
    k = min(k, vocabulary)
    logits, teacher = random_logits(rows, vocabulary, seed), random_logits(rows, vocabulary, seed + 1)
    expected = reference_forward_kl(logits.tolist(), teacher.tolist(), k)
    found = forward_kl(logits, *soft(teacher, k))
    assert found.tolist() == pytest.approx(expected, rel=1e-10, abs=1e-12)
    ids, top, tail = soft(teacher, k)
    single = forward_kl(logits.float(), ids, top.float(), tail.float())
    assert single.tolist() == pytest.approx(expected, rel=1e-4, abs=2e-5)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_gradients_are_those_of_finite_differences(k):
    logits = random_logits(4, 7, 3).requires_grad_()
    ids, top, tail = soft(random_logits(4, 7, 4), k)
    assert torch.autograd.gradcheck(lambda x: forward_kl(x, ids, top, tail), (logits,))
    targets = torch.tensor([0, 2, 6, 1])
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, targets), (logits,))


@given(seed=st.integers(0, 10_000), k=st.integers(1, 20))
@examples(max_examples=60, deadline=None)
def test_more_candidates_never_lower_the_divergence_and_all_of_them_give_it_whole(seed, k):
    logits, teacher = random_logits(5, 21, seed), random_logits(5, 21, seed + 1)
    less, more = (forward_kl(logits, *soft(teacher, n)) for n in (k, k + 1))
    assert (more >= less - 1e-12).all()
    whole = torch.nn.functional.kl_div(
        logits.log_softmax(-1), teacher.log_softmax(-1), reduction="none", log_target=True
    )
    assert forward_kl(logits, *soft(teacher, 21)).tolist() == pytest.approx(whole.sum(-1).tolist(), rel=1e-10)


def test_a_student_that_is_its_teacher_loses_nothing_and_has_no_gradient():
    teacher = random_logits(4, 30, 1)
    logits = teacher.clone().requires_grad_()
    loss = forward_kl(logits, *soft(teacher, 5)).sum()
    loss.backward()
    assert abs(loss.item()) < 1e-12
    assert logits.grad.abs().max() < 1e-12


def test_a_teacher_that_leaves_no_tail_gives_finite_numbers():
    logits = random_logits(2, 10, 2).float().requires_grad_()
    ids = torch.tensor([[3], [4]])
    loss = forward_kl(logits, ids, torch.zeros(2, 1), torch.full((2,), -torch.inf))
    loss.sum().backward()
    assert loss.tolist() == pytest.approx(cross_entropy(logits, ids[:, 0]).tolist(), rel=1e-5)
    assert torch.isfinite(logits.grad).all()


def test_the_tail_keeps_its_precision_where_the_candidates_hold_nearly_all():
    logits = torch.full((1, 1000), -20.0)
    logits[0, 0] = 20.0
    ids, top, tail = soft(logits.double(), 1)
    student = logits.clone()
    student[0, 1:] += 3.0
    found = forward_kl(student, ids, top.float(), tail.float()).item()
    assert found == pytest.approx(reference_forward_kl(student.tolist(), logits.tolist(), 1)[0], abs=1e-7)
