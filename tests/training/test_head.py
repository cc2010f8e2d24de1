"""Embeddings that learn: their gradient is autograd's, made in one place that stays."""

import pytest
import torch
from tests.training.test_step import batch
from transformers import LlamaConfig, LlamaForCausalLM

from limbeck.models.attention import ATTENTION
from limbeck.models.packing import response_logits
from limbeck.recipe import Objective
from limbeck.training import head, parallel, step
from limbeck.training.parallel import Replicas
from limbeck.training.step import accumulate

OBJECTIVE = Objective(forward_kl=1.0, cross_entropy=0.5)


def model(tied: bool):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=None, attn_implementation=ATTENTION, tie_word_embeddings=tied,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def autograd(student, examples):
    """The gradient as the head's own module and dense embeddings give it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(head, "logits", response_logits)
        accumulate(student, examples, OBJECTIVE, 64)
    return {name: p.grad.clone() for name, p in student.named_parameters()}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("chunk", [512, 5])
def test_the_gradient_is_autograds_over_packs_and_chunks(tied, chunk, monkeypatch):
    examples = batch()
    expected = autograd(model(tied), examples)
    monkeypatch.setattr(step, "CHUNK_POSITIONS", chunk)
    student = model(tied)
    head.learn_in_place(student)
    accumulate(student, examples, OBJECTIVE, 64)
    for name, p in student.named_parameters():
        assert not p.grad.is_sparse
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_large_gradient_stays_where_it_is_and_begins_every_step_empty(replicas, monkeypatch):
    monkeypatch.setattr(head, "LARGE", 400 * 32)
    examples, student = batch(), model(tied=True)
    expected = autograd(model(tied=True), examples)
    head.learn_in_place(student)
    several = Replicas(student, None, replicas, 2)
    places = set()
    for _ in range(3):
        several.accumulate(examples, OBJECTIVE, 64)
        for name, p in student.named_parameters():
            torch.testing.assert_close(p.grad, expected[name], rtol=1e-4, atol=1e-6)
        places.add(student.lm_head.weight.grad.data_ptr())
        head.clear(student.parameters())
        small = [p for p in student.parameters() if p.numel() < head.LARGE]
        assert all(p.grad is None for p in small) and not student.lm_head.weight.grad.any()
    assert len(places) == 1


@pytest.mark.parametrize(("noted", "taken"), [(256, 14), (5, 1), (0, 0)])
@pytest.mark.parametrize("tied", [True, False])
def test_replicas_note_what_the_heads_gradient_is_the_product_of(tied, noted, taken, monkeypatch):
    """A replica that notes all has no gradient of its own for it; with more than it may note, it adds the rest itself."""
    monkeypatch.setattr(parallel, "WORTH", float("inf"))
    monkeypatch.setattr(head, "NOTED", noted)
    monkeypatch.setattr(step, "CHUNK_POSITIONS", 3)
    notes, own = [], []
    settle = Replicas._add_up

    def settled(self, noted):
        notes.extend(one for some in noted for one in some.taken)
        own.append(self._all[1][0].lm_head.weight.grad)
        settle(self, noted)

    monkeypatch.setattr(Replicas, "_add_up", settled)
    examples, student = batch(), model(tied)
    expected = autograd(model(tied), examples)
    head.learn_in_place(student)
    several = Replicas(student, None, 2, 2)
    for _ in range(2):
        several.accumulate(examples, OBJECTIVE, 64)
        for name, p in student.named_parameters():
            assert not p.grad.is_sparse and not p.grad.requires_grad
            torch.testing.assert_close(p.grad, expected[name], rtol=1e-4, atol=1e-6)
        head.clear(student.parameters())
    assert (len(notes) >= 2 * taken) if taken else not notes
    assert all(len(hidden_RD) <= 3 for _, hidden_RD in notes)
    if noted == 256:
        assert all(one is None or one.is_sparse for one in own)
    else:
        assert all(one is not None and not one.is_sparse for one in own)


def test_frozen_embeddings_get_no_gradient():
    student = model(tied=True)
    student.get_input_embeddings().weight.requires_grad_(False)
    head.learn_in_place(student)
    accumulate(student, batch(), OBJECTIVE, 64)
    assert student.lm_head.weight.grad is None and not student.get_input_embeddings().sparse
