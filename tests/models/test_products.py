"""Linear layers by oneDNN: what they compute, what they remember, and that they are still linear layers."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM

from limbeck.models import products
from limbeck.models.products import Linear, product
from limbeck.models.quick import quickened

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")


@pytest.fixture
def faster(monkeypatch):
    """As on a processor with AVX-512, whatever this one is."""
    monkeypatch.setattr(products, "FASTER", True)


def _asked(shape, bias):
    torch.manual_seed(len(shape))
    plain = torch.nn.Linear(shape[-1], 40, bias)
    return plain, quickened(torch.nn.Sequential(copy.deepcopy(plain)))[0], torch.randn(shape)


@needs_onednn
@pytest.mark.usefixtures("faster")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(24,), (1, 24), (7, 24), (3, 5, 24)])
def test_outputs_and_gradients_are_those_of_a_plain_layer(shape, bias):
    plain, quick, input = _asked(shape, bias)
    first, second = input.double().requires_grad_(), input.clone().requires_grad_()
    expected, found = plain.double()(first), quick(second)
    drawn = torch.randn(expected.shape)
    expected.backward(drawn.double())
    found.backward(drawn)
    assert type(found.grad_fn).__name__ == "_LinearBackward", "oneDNN was not asked"
    pairs = [(found, expected), (second.grad, first.grad), (quick.weight.grad, plain.weight.grad)]
    if bias:
        pairs.append((quick.bias.grad, plain.bias.grad))
    for one, other in pairs:
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


@needs_onednn
@pytest.mark.usefixtures("faster")
@pytest.mark.parametrize("strides", ["transposed", "every other", "repeated"])
def test_inputs_and_their_gradients_may_have_any_strides(strides):
    plain, quick, _ = _asked((6, 24), bias=False)
    wide, drawn = torch.randn(24, 6), torch.randn(6, 1).expand(6, 40)
    laid = {"transposed": wide.T, "every other": torch.randn(12, 48)[::2, ::2], "repeated": wide[:, :1].T.expand(6, 24)}
    found, expected = (laid[strides].clone().requires_grad_() for _ in range(2))
    quick(found + 0 * laid[strides]).backward(drawn)
    plain(expected).backward(drawn)
    torch.testing.assert_close(found.grad, expected.grad)
    torch.testing.assert_close(quick.weight.grad, plain.weight.grad)
    with torch.inference_mode():
        torch.testing.assert_close(quick(laid[strides]), plain(laid[strides]))


@needs_onednn
@pytest.mark.usefixtures("faster")
def test_what_a_frozen_layer_does_not_need_is_not_kept():
    _, quick, input = _asked((7, 24), bias=False)
    quick.weight.requires_grad_(False)
    kept = quick(input.requires_grad_()).grad_fn.saved_tensors
    assert [one is None for one in kept] == [True, False]
    assert quick(input.detach()).grad_fn is None, "and of what nothing learns, nothing is kept"


@pytest.mark.usefixtures("faster")
@pytest.mark.parametrize("case", ["float64", "bf16 by autocast", "no rows"])
def test_other_products_are_left_to_pytorch(case):
    plain, quick, input = _asked((7, 24), bias=False)
    if case == "float64":
        plain, quick, input = plain.double(), quick.double(), input.double()
    if case == "no rows":
        input = input[:0]
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "bf16 by autocast"):
        found, expected = quick(input), plain(input)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
    assert type(found.grad_fn).__name__ != "_LinearBackward"


def test_without_onednn_all_is_pytorchs(monkeypatch):
    monkeypatch.setattr(products, "FASTER", False)
    plain, quick, input = _asked((7, 24), bias=True)
    assert torch.equal(quick(input), plain(input))
    assert torch.equal(product(input, quick.weight), input @ quick.weight.mT)


def test_a_loaded_model_is_quick_and_still_the_same_model(tiny, settings):
    layers = [module for module in tiny.model.modules() if isinstance(module, torch.nn.Linear)]
    assert layers and all(type(layer) is Linear and "Linear(" in repr(layer) for layer in layers)
    assert all(type(layer) is Linear for layer in copy.deepcopy(tiny.model).modules() if hasattr(layer, "in_features"))
    plain = AutoModelForCausalLM.from_pretrained(tiny.source.path, dtype=torch.float32).eval()
    assert list(tiny.model.state_dict()) == list(plain.state_dict())
    ids = torch.arange(12)[None]
    with torch.inference_mode():
        torch.testing.assert_close(tiny.model(input_ids=ids).logits, plain(input_ids=ids).logits, rtol=1e-4, atol=1e-5)
