"""Text read in packs is text read one by one, whole, each token once."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import make_tokenizer
from tokenizers import Tokenizer, models
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast

from limbeck.errors import InvalidInput
from limbeck.models.chat import Renderer
from limbeck.models.packing import pack
from limbeck.models.text import negative_log_likelihoods, sequences_of_text

RENDERER = Renderer(make_tokenizer())
END = 0  # <|endoftext|>


@given(text=st.text("leak noise<|>_im", min_size=1, max_size=60), length=st.integers(1, 40))
def test_every_token_of_a_text_and_its_end_is_learned_once_after_the_one_before(text, length):
    sequences = list(sequences_of_text(text, RENDERER, length))
    plain = RENDERER.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert [token for one in sequences for token in one.response] == [*plain, END]
    assert sequences[0].ids[0] == END
    for before, after in pairwise(sequences):
        assert after.ids[0] == before.ids[-1]
    assert all(len(one.inputs) <= length for one in sequences)


def test_a_control_token_in_a_text_is_read_as_its_letters():
    (made,) = sequences_of_text("a<|im_end|>b", RENDERER, 100)
    assert RENDERER.end_id not in made.ids


def test_positions_restart_with_every_document():
    texts = ["my kettle leaks water", "the washing machine makes a noise", "is it covered"]
    sequences = [one for text in texts for one in sequences_of_text(text, RENDERER, 100)]
    packed = pack(sequences)
    assert packed.positions_1N.eq(0).sum() == 3
    assert packed.tokens == sum(len(one.inputs) for one in sequences)


@pytest.mark.parametrize("pack_tokens", [16, 4096])
def test_likelihoods_in_packs_are_those_of_the_model_alone(tiny, pack_tokens):
    texts = ["my kettle leaks water on the floor", "noise", "the warranty " * 30]
    sequences = [one for text in texts for one in sequences_of_text(text, tiny.renderer, 64)]
    found = negative_log_likelihoods(tiny, sequences, pack_tokens)
    with torch.no_grad():
        for one, nats in zip(sequences, found, strict=True):
            logits = tiny.model(input_ids=torch.tensor([one.inputs])).logits[0]
            expected = cross_entropy(logits, torch.tensor(one.response), reduction="sum")
            assert nats == pytest.approx(expected.item(), rel=1e-4)


def test_a_document_ends_with_what_its_tokenizer_knows():
    tokenizer = make_tokenizer()
    renderer = Renderer(tokenizer)
    tokenizer.eos_token = None
    (made,) = sequences_of_text("a leak", renderer, 100)
    assert made.ids[-1] == END
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    tokenizer.chat_template = "{{ messages[-1]['content'] }}"
    renderer.tokenizer = tokenizer
    with pytest.raises(InvalidInput, match=r"no token ends a document; expected an eos_token"):
        list(sequences_of_text("a leak", renderer, 100))
