"""Norms by hand: what they compute, which models get them, and that they are still their models' norms."""

import copy

import pytest
import torch
from torch.autograd import gradcheck
from transformers import Gemma2Config, Gemma2ForCausalLM, Qwen3Config, Qwen3ForCausalLM
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

from limbeck.models import norms
from limbeck.models.norms import rms_norm, shortened
from limbeck.models.quick import quickened


def plain(width=24):
    torch.manual_seed(0)
    norm = LlamaRMSNorm(width, eps=1e-3)
    norm.weight.data.normal_(1.0, 0.5)
    return norm


def by_hand(norm):
    short = copy.deepcopy(norm)
    assert shortened(short)
    return short


def reference(x, weight, epsilon):
    """In float64, as the formula says it."""
    return weight * x / (x.pow(2).mean(-1, keepdim=True) + epsilon).sqrt()


@pytest.mark.parametrize("shape", [(24,), (7, 24), (1, 5, 24), (2, 3, 4, 24)])
def test_outputs_and_gradients_are_the_formulas(shape):
    norm = plain()
    short = by_hand(norm)
    given = torch.randn(shape) * 3
    first, second = given.double().requires_grad_(), given.clone().requires_grad_()
    weight = norm.weight.detach().double().requires_grad_()
    expected, found = reference(first, weight, 1e-3), short(second)
    assert type(found.grad_fn).__name__ == "_NormBackward"
    drawn = torch.randn(shape)
    expected.backward(drawn.double())
    found.backward(drawn)
    for one, other in ((found, expected), (second.grad, first.grad), (short.weight.grad, weight.grad)):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


def test_the_gradient_is_checked_numerically():
    x, weight = torch.randn(3, 6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    assert gradcheck(lambda x, w: rms_norm(x, w, 0.1), (x.requires_grad_(), weight.requires_grad_()))
    assert gradcheck(lambda x: rms_norm(x, weight.detach(), 0.1), (x,))
    assert gradcheck(lambda w: rms_norm(x.detach(), w, 0.1), (weight,))


def test_inputs_may_have_any_strides():
    norm = plain(5)
    wide = torch.randn(5, 8)
    first, second = wide.clone().requires_grad_(), wide.clone().requires_grad_()
    drawn = torch.randn(8, 1).expand(8, 5)
    norm(first.T).backward(drawn)
    by_hand(norm)(second.T).backward(drawn)
    torch.testing.assert_close(second.grad, first.grad)


def test_less_is_kept_for_the_gradient():
    def kept(norm):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: (sizes.append(x.numel()), x)[1], lambda x: x):
            norm(torch.randn(1, 100, 24, requires_grad=True))
        return sum(sizes)

    assert kept(by_hand(plain())) < 0.5 * kept(plain())


def test_it_is_still_its_models_norm():
    norm = plain()
    short = by_hand(norm)
    assert isinstance(short, LlamaRMSNorm) and type(short).__name__ == "LlamaRMSNorm"
    assert short.state_dict().keys() == norm.state_dict().keys()
    copied = copy.deepcopy(short)
    assert type(copied) is type(short) and copied.weight is not short.weight
    assert not shortened(torch.nn.LayerNorm(4)) and not shortened(torch.nn.Linear(4, 4))


def test_without_a_gradient_or_in_fewer_bits_it_is_the_models_own(monkeypatch):
    norm, given = plain(), torch.randn(3, 24)
    short = by_hand(norm)
    monkeypatch.setattr(norms, "rms_norm", None)
    with torch.no_grad():
        assert torch.equal(short(given), norm(given))
    assert torch.equal(short.bfloat16()(given.bfloat16()), norm.bfloat16()(given.bfloat16()))


def test_norms_that_compute_something_else_are_left_alone():
    """Gemma's weight is an offset from one; a norm that forgets its epsilon gives other numbers for small inputs."""

    class Forgetful(LlamaRMSNorm):
        def forward(self, hidden):
            return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True))

    class Biased(LlamaRMSNorm):
        def __init__(self):
            super().__init__(24, eps=1e-3)
            self.bias = torch.nn.Parameter(torch.zeros(24))

    gemma = Gemma2RMSNorm(24)
    gemma.variance_epsilon = gemma.eps
    for norm in (gemma, Forgetful(24, eps=1e-3), Biased()):
        kind = type(norm)
        assert not shortened(norm) and type(norm) is kind
    same = T5LayerNorm(24)  # another name, the same formula
    assert shortened(same)


@pytest.mark.parametrize("kind", ["qwen3", "gemma2"])
def test_a_models_gradient_is_the_same(kind, monkeypatch):
    """Qwen 3 norms queries and keys head by head too; Gemma's own stay."""
    torch.manual_seed(0)
    config, made = {"qwen3": (Qwen3Config, Qwen3ForCausalLM), "gemma2": (Gemma2Config, Gemma2ForCausalLM)}[kind]
    model = made(
        config(
            vocab_size=90, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=8, pad_token_id=None, attn_implementation="eager",
        )
    )  # fmt: skip
    quick = copy.deepcopy(model)
    calls = []
    monkeypatch.setattr(norms, "rms_norm", lambda *given: (calls.append(1), rms_norm(*given))[1])
    quickened(quick)
    calls.clear()
    ids = torch.randint(0, 90, (2, 9))
    for one in (model, quick):
        one(input_ids=ids, labels=ids).loss.backward()
    assert len(calls) == {"qwen3": 2 * 4 + 1, "gemma2": 0}[kind]
    for one, other in zip(quick.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)
