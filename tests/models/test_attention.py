"""Attention of a pack by matrix products: its gradient, and that long segments, which take another way, agree with it."""

import weakref

import pytest
import torch
from torch.autograd import gradcheck
from transformers import AutoModelForCausalLM, GptOssConfig

from limbeck.errors import NotYet
from limbeck.models import attention
from limbeck.models.attention import ATTENTION
from limbeck.models.packing import Tokens, pack

HEADS, KEPT, WIDTH = 6, 2, 4


def laid_out(prefix: int, lengths: list[int]):
    shared = tuple(range(prefix))
    return pack(
        [Tokens((*shared, *(1000 * at + i for i in range(1, length + 2))), 1) for at, length in enumerate(lengths)]
    )


def rows(tokens: int, width: int = WIDTH, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    heads = (HEADS, KEPT, KEPT)
    return [torch.randn(tokens, count, width, generator=generator, dtype=dtype, requires_grad=True) for count in heads]


def attend(query, key, value, layout):
    return attention._attend(query, key, value, layout, None, None, None)


def one_by_one(query, key, value, lengths: list[int], prefix: int):
    """The formula, a token and a head at a time; sequences stand after their prefix in the order of the row."""
    found, start = [], prefix
    spans = [(0, 0, prefix)]
    for length in lengths:
        spans.append((prefix, start, start + length))
        start += length
    for shared, first, last in spans:
        for token in range(first, last):
            seen = [*range(shared), *range(first, token + 1)]
            heads = []
            for head in range(HEADS):
                own = head // (HEADS // KEPT)
                scores = key[seen, own] @ query[token, head] * WIDTH**-0.5
                heads.append(scores.softmax(0) @ value[seen, own])
            found.append(torch.stack(heads))
    return torch.stack(found)


@pytest.mark.parametrize("prefix", [0, 9])
def test_it_is_the_formula(prefix):
    lengths = [3, 4, 4, 8]  # as they stand in the row: by length
    layout = laid_out(prefix, lengths)
    given = rows(layout.tokens)
    torch.testing.assert_close(attend(*given, layout), one_by_one(*given, lengths, prefix))


@pytest.mark.parametrize("prefix", [0, 9])
def test_its_gradient_is_that_of_what_it_computes(prefix):
    layout = laid_out(prefix, [2, 3, 7])
    assert gradcheck(lambda *given: attend(*given, layout), rows(layout.tokens))


@pytest.mark.parametrize("prefix", [0, 12])
def test_long_segments_go_another_way_to_the_same(prefix, monkeypatch):
    layout = laid_out(prefix, [3, 5, 14, 40])
    given = rows(layout.tokens, dtype=torch.float32)
    weight = torch.randn(layout.tokens, HEADS, WIDTH)
    ways = []
    for products in (True, False):
        monkeypatch.setattr(attention, "_by_products", lambda *_, answer=products: answer)
        found = attend(*given, layout)
        ways.append([found, *torch.autograd.grad((found * weight).sum(), given)])
    for one, other in zip(*ways, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_model_whose_attention_has_sinks_is_refused():
    config = GptOssConfig(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, num_local_experts=2, num_experts_per_tok=1,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    model.config._attn_implementation = ATTENTION
    with torch.no_grad(), pytest.raises(NotYet, match="weighs with s_aux"):
        model(torch.arange(6)[None])


def test_neither_keys_nor_values_are_spread_where_a_prefix_is_long():
    layout = laid_out(100, [5] * 16)
    spread = 2 * 16 * 105 * HEADS * 64
    assert attention.numbers_kept(layout, HEADS, KEPT, 64) < spread / 4


def test_masks_go_with_their_pack(monkeypatch):
    monkeypatch.setattr(attention, "_by_products", lambda *_: False)
    layout = laid_out(12, [3, 3, 40])
    given = rows(layout.tokens)
    for _ in range(3):  # as many layers
        attend(*given, layout)
    masks = [weakref.ref(one) for one in layout.arranged[HEADS, KEPT].masks.values()]
    assert [tuple(one().shape) for one in masks] == [(3, 15), (40, 52)]
    del layout
    assert [one() for one in masks] == [None, None]
