"""What nobody reads is not computed, and what is read stays as it was."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from limbeck.models import products
from limbeck.models.last_layer import only_read


def states(model, ids, read=None):
    decoder = model.get_decoder()
    if read is None:
        return decoder(input_ids=ids).last_hidden_state
    with only_read(decoder, torch.tensor(read), ids.shape[1]):
        return decoder(input_ids=ids).last_hidden_state[:, sorted(set(read))]


MANY = [
    *range(0, 40, 2),
    39,
    *range(1, 27, 2),
]  # 34 of 80: others are computed with them, and their gradient is nothing


@pytest.mark.parametrize("read", [[39], [3, 20, 39], [20, 3, 20], MANY])
def test_what_is_read_and_its_gradient_are_those_of_the_whole(tiny, read):
    model, ids = tiny.model.double(), torch.arange(3, 163).reshape(2, 80)
    found = []
    for own in (None, read):
        model.zero_grad()
        hidden = states(model, ids, own)
        hidden = hidden[:, sorted(set(read))] if own is None else hidden
        hidden.square().sum().backward()
        found.append((hidden.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}))
    (whole, gradients), (ours, own_gradients) = found
    assert torch.allclose(ours, whole, rtol=1e-6)  # the model's norms round to fp32
    for name, gradient in gradients.items():
        assert torch.allclose(own_gradients[name], gradient, rtol=1e-5, atol=1e-7), name
    tiny.model.float()


def test_the_last_layer_costs_what_is_read(tiny, monkeypatch):
    monkeypatch.setattr(products, "FASTER", False)  # PyTorch counts its own products
    ids = torch.arange(3, 83).reshape(2, 40)
    costs = []
    for read in (None, [39], list(range(40))):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            states(tiny.model, ids, read)
        costs.append(counter.get_total_flops())
    whole, one, every = costs
    layer = tiny.model.get_decoder().layers[-1]
    alone = (layer.mlp, layer.self_attn.q_proj, layer.self_attn.o_proj)
    saved = 2 * 2 * 39 * sum(p.numel() for module in alone for p in module.parameters())  # two sequences
    assert whole - one == saved
    assert every == whole
    assert not layer.mlp._forward_hooks and not layer.mlp._forward_pre_hooks
