"""Packed equals plain: the same losses and gradients, whatever is packed, shared or split."""

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from tests.families import make
from torch.nn.functional import cross_entropy

from limbeck.models.loading import load
from limbeck.models.packing import LONG, Tokens, pack, packs_of, response_hidden, response_logits
from limbeck.models.products import EVEN
from limbeck.models.shrink import keep_layers

PREFIX = tuple(range(10, 30))


def sequences(seed: int, count: int, shared: bool) -> list[Tokens]:
    generator = torch.Generator().manual_seed(seed)

    def some(low, high):
        length = int(torch.randint(low, high, (1,), generator=generator))
        return tuple(torch.randint(3, 300, (length,), generator=generator).tolist())

    made = []
    for _ in range(count):
        prompt = (*(PREFIX if shared else some(1, 25)), *some(1, 30))
        made.append(Tokens((*prompt, *some(1, 9), 2), len(prompt)))
    return made


def conversations(seed: int, count: int) -> list[Tokens]:
    """Sequences of several answers; they begin alike, some as far as into answers that both learn."""
    generator = torch.Generator().manual_seed(seed)

    def some(low, high):
        length = int(torch.randint(low, high, (1,), generator=generator))
        return torch.randint(3, 300, (length,), generator=generator).tolist()

    begun = [*PREFIX, *some(8, 20)]
    made = []
    for at in range(count):
        ids, start, read = list(begun), len(PREFIX), []
        for _ in range(at % 3):
            read.append(range(len(ids), len(ids) + 5))
            ids += [*some(5, 6), *some(1, 9)]
        made.append(Tokens((*ids, 2), start, tuple(read)))
    return made


def plain_loss(model, tokens: list[Tokens]):
    total = torch.zeros((), dtype=next(model.parameters()).dtype)
    for one in tokens:
        logits = model(input_ids=torch.tensor([one.inputs])).logits[0, one.predictors]
        total = total + cross_entropy(logits, torch.tensor(one.response), reduction="sum")
    return total


def packed_loss(model, tokens: list[Tokens], share: bool):
    packed = pack(tokens, share)
    logits = response_logits(model, response_hidden(model, packed))
    return cross_entropy(logits, packed.targets_R, reduction="sum")


def gradient(model, loss):
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_loss_and_gradient_of_a_pack_are_those_of_its_sequences_one_by_one(tiny, shared, share):
    tokens = sequences(1, 13, shared)
    plain, packed = plain_loss(tiny.model, tokens), packed_loss(tiny.model, tokens, share)
    assert packed.item() == pytest.approx(plain.item(), rel=1e-5)
    expected = gradient(tiny.model, plain)
    found = gradient(tiny.model, packed_loss(tiny.model, tokens, share))
    assert float((found - expected).norm() / expected.norm()) < 1e-5


def test_packed_equals_plain_in_float64_as_far_as_the_model_computes_in_it(tiny):
    model = tiny.model.double()  # but transformers' RMSNorm rounds to fp32 inside
    tokens = sequences(2, 9, True) + sequences(3, 4, False)
    expected = gradient(model, plain_loss(model, tokens))
    found = gradient(model, packed_loss(model, tokens, True))
    assert float((found - expected).norm() / expected.norm()) < 1e-6


@given(seed=st.integers(0, 10_000), count=st.integers(1, 12), shared=st.booleans(), several=st.booleans())
@examples(max_examples=60, deadline=None)
def test_every_layout_predicts_the_right_tokens_from_the_right_places(seed, count, shared, several):
    tokens = conversations(seed, count) if several else sequences(seed, count, shared)
    packed = pack(tokens)
    assert packed.targets_R.tolist() == [token for one in tokens for token in one.response]
    ids = packed.ids_1N[0]
    at = 0
    for one in tokens:
        for place in one.learned:
            row = int(packed.response_R[at])
            # The token that stands where a prediction is made is the one before the predicted token.
            assert int(ids[row]) == one.ids[place - 1]
            assert int(packed.positions_1N[0, row]) == place - 1
            at += 1
    assert packed.tokens < sum(len(one.inputs) for one in tokens) + EVEN


@pytest.mark.parametrize("count", [60, 61, 62])
def test_a_long_row_has_an_even_number_of_tokens_and_the_same_losses_and_gradients(tiny, count):
    tokens = sequences(1, count, shared=True)
    packed = pack(tokens)
    own = sum(len(one.inputs) - len(PREFIX) for one in tokens) + len(PREFIX)
    assert own > LONG and packed.tokens % EVEN == 0 and own <= packed.tokens < own + EVEN
    model = tiny.model.double()
    plain, even = plain_loss(model, tokens), packed_loss(model, tokens, True)
    assert even.item() == pytest.approx(plain.item(), rel=1e-6)  # the model's norms round to fp32
    expected, found = gradient(model, plain), gradient(model, even)
    tiny.model.float()
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_a_shared_prefix_is_computed_once():
    tokens = [Tokens((*PREFIX, 100 + i, 101, 200, 2), len(PREFIX) + 2) for i in range(10)]
    whole = sum(len(one.inputs) for one in tokens)
    assert pack(tokens).tokens == whole - 9 * len(PREFIX)
    assert pack(tokens, share=False).tokens == whole


def test_equal_prompts_with_different_answers_are_computed_once(tiny):
    prompt = (*PREFIX, 40, 41)
    tokens = [Tokens((*prompt, 50, 2), len(prompt)), Tokens((*prompt, 60, 61, 2), len(prompt))]
    assert pack(tokens).tokens == len(prompt) + 1 + 2
    assert packed_loss(tiny.model, tokens, True).item() == pytest.approx(
        plain_loss(tiny.model, tokens).item(), rel=1e-5
    )


def test_what_one_sequence_says_changes_nothing_for_its_neighbors(tiny):
    tokens = sequences(5, 6, True)
    changed = [*tokens[:5], Tokens((*tokens[5].ids[:-2], 99, 2), tokens[5].response_start)]
    rows = sum(len(one.response) for one in tokens[:5])
    with torch.no_grad():
        first = response_hidden(tiny.model, pack(tokens))[:rows]
        second = response_hidden(tiny.model, pack(changed))[:rows]
    assert torch.allclose(first, second, atol=1e-6)


def test_packs_hold_their_budget_and_every_sequence_once():
    tokens = sequences(6, 50, True)
    packs = packs_of(tokens, 120)
    assert sorted(i for chosen in packs for i in chosen) == list(range(50))
    assert len(packs) > 3
    assert all(pack([tokens[i] for i in chosen]).tokens <= 132 for chosen in packs)


def test_a_student_of_fewer_layers_packs_too(tiny):
    student = keep_layers(tiny.model, (0, 3))
    tokens = sequences(7, 8, True)
    assert packed_loss(student, tokens, True).item() == pytest.approx(plain_loss(student, tokens).item(), rel=1e-5)


@pytest.mark.parametrize("share", [True, False])
def test_every_answer_of_a_conversation_is_learned_in_a_pack_as_it_is_alone(tiny, share):
    tokens = conversations(8, 7)
    plain, packed = plain_loss(tiny.model, tokens), packed_loss(tiny.model, tokens, share)
    assert packed.item() == pytest.approx(plain.item(), rel=1e-5)
    expected = gradient(tiny.model, plain)
    found = gradient(tiny.model, packed_loss(tiny.model, tokens, share))
    assert float((found - expected).norm() / expected.norm()) < 1e-5


def test_an_answer_that_sequences_share_counts_for_each_and_is_computed_once():
    begun, start = (*PREFIX, 40, 41, 42), len(PREFIX)
    tokens = [Tokens((*begun, 50, 51 + i, 52), start, (range(start + 3, start + 5),)) for i in range(4)]
    packed = pack(tokens)
    assert packed.tokens == len(begun) + 1 + 4
    assert packed.targets_R.tolist() == [token for _ in range(4) for token in (40, 41, 42, 52)]
    assert packed.response_R.view(4, 4)[:, :3].tolist() == [[start - 1, start, start + 1]] * 4


def test_the_same_sequence_twice_is_learned_twice(tiny):
    once = conversations(9, 3)
    double = packed_loss(tiny.model, [*once, *once], True)
    assert double.item() == pytest.approx(2 * packed_loss(tiny.model, once, True).item(), rel=1e-5)


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "gemma2", "gemma3"])
def test_every_family_packs(name, tmp_path, settings):
    model = load(str(make(name, tmp_path / "model")), settings).model
    # Within the window of 16 tokens that some of the layers have.
    tokens = [Tokens((*range(10, 20), 30 + at, *range(40, 41 + at)), 11) for at in range(4)]
    plain, packed = plain_loss(model, tokens), packed_loss(model, tokens, True)
    assert torch.allclose(packed, plain, rtol=1e-5)
    reference = gradient(model, plain)
    assert (gradient(model, packed) - reference).norm() < 1e-4 * reference.norm()
