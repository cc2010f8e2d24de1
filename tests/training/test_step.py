"""The gradient of a batch does not depend on how the batch is cut."""

import pytest
import torch

from limbeck.inference.engine import soft_labels_of
from limbeck.models.packing import Tokens
from limbeck.recipe import Objective
from limbeck.training import step
from limbeck.training.examples import TrainingExample
from limbeck.training.objectives import cross_entropy
from limbeck.training.step import accumulate
from limbeck.training.targets import stack

CE, KL = Objective(cross_entropy=1), Objective(forward_kl=1)
MIXED = Objective(cross_entropy=0.3, forward_kl=0.7)


def batch(count=11, k=6):
    generator = torch.Generator().manual_seed(0)
    made = []
    for i in range(count):
        tail = torch.randint(3, 300, (5 + i,), generator=generator).tolist()
        prompt = (1, *range(20, 40), *tail)
        response = (*torch.randint(3, 300, (1 + i % 4,), generator=generator).tolist(), 2)
        teacher = torch.randn(len(response), 300, generator=generator) * 2
        made.append(TrainingExample(Tokens((*prompt, *response), len(prompt)), soft_labels_of(teacher, k)))
    return made


def gradient_of(model, run):
    model.zero_grad()
    value = run()
    return value, torch.cat([p.grad.flatten() for p in model.parameters()])


def plainly(model, examples, objective):
    """One example at a time, all logits, one mean over all response tokens, one backward pass."""
    tokens = sum(len(e.tokens.response) for e in examples)
    total = torch.zeros(())
    for e in examples:
        logits = model(input_ids=torch.tensor([e.tokens.inputs])).logits[0, e.tokens.response_start - 1 :]
        loss = objective.cross_entropy * cross_entropy(logits, torch.tensor(e.tokens.response))
        loss = loss + stack([e.soft_labels]).loss(logits, torch.tensor(e.tokens.response), slice(None), objective)
        total = total + loss.sum() / tokens
    total.backward()
    return total.item()


@pytest.mark.parametrize("objective", [CE, KL, MIXED], ids=["ce", "kl", "both"])
@pytest.mark.parametrize(
    ("pack_tokens", "chunk", "share"),
    [(4096, 512, True), (4096, 512, False), (60, 512, True), (60, 3, True), (16, 1, False)],
    ids=["one pack", "no sharing", "many packs", "small chunks", "one by one"],
)
def test_loss_and_gradient_are_those_of_the_plain_computation(tiny, monkeypatch, objective, pack_tokens, chunk, share):
    monkeypatch.setattr(step, "CHUNK_POSITIONS", chunk)
    examples = batch()
    expected, direction = gradient_of(tiny.model, lambda: plainly(tiny.model, examples, objective))
    found, ours = gradient_of(
        tiny.model, lambda: accumulate(tiny.model, examples, objective, pack_tokens, share=share).mean
    )
    assert found == pytest.approx(expected, rel=1e-5)
    assert float((ours - direction).norm() / direction.norm()) < 1e-5


def test_the_order_of_examples_does_not_matter(tiny):
    examples = batch()
    first, direction = gradient_of(tiny.model, lambda: accumulate(tiny.model, examples, MIXED, 100).mean)
    second, ours = gradient_of(tiny.model, lambda: accumulate(tiny.model, examples[::-1], MIXED, 100).mean)
    assert first == pytest.approx(second, rel=1e-6)
    assert float((ours - direction).norm() / direction.norm()) < 1e-5


def test_prompts_are_not_learned(tiny):
    examples = batch(3)
    before = accumulate(tiny.model, examples, CE, 4096, backward=False)
    assert before.tokens == sum(len(e.tokens.response) for e in examples)
    assert all(p.grad is None for p in tiny.model.parameters())


def test_a_weight_scales_its_loss_and_cross_entropy_is_always_told(tiny):
    examples = batch(4)
    kl, both = (accumulate(tiny.model, examples, w, 4096, backward=False) for w in (KL, MIXED))
    assert kl.mean_cross_entropy == pytest.approx(both.mean_cross_entropy, rel=1e-6)
    assert both.mean == pytest.approx(0.3 * kl.mean_cross_entropy + 0.7 * kl.mean, rel=1e-5)


def test_a_shared_prefix_is_computed_once_a_pack(tiny):
    examples = batch()
    whole = sum(len(e.tokens.inputs) for e in examples)
    shared = accumulate(tiny.model, examples, CE, 4096, backward=False).computed
    assert shared == whole - 10 * 21


def test_parts_of_a_batch_add_up_to_it(tiny):
    examples = batch()
    tokens = sum(len(e.tokens.response) for e in examples)
    whole, direction = gradient_of(tiny.model, lambda: accumulate(tiny.model, examples, MIXED, 4096))

    def in_parts():
        parts = [examples[:1], examples[1:7], examples[7:]]
        return sum(accumulate(tiny.model, part, MIXED, 4096, of_tokens=tokens).objective for part in parts)

    found, ours = gradient_of(tiny.model, in_parts)
    assert found == pytest.approx(whole.objective, rel=1e-5)
    assert float((ours - direction).norm() / direction.norm()) < 1e-5
