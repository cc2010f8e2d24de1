"""Told piece by piece, an answer's text is what its tokens say together, whatever their kind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import make_tokenizer
from tests.models.test_gguf_vocabulary import SAMPLES, TOKENIZERS
from tokenizers import decoders
from transformers import PreTrainedTokenizerFast

from limbeck.inference.telling import REPLACEMENT, Telling

SPACES = decoders.Replace("▁", " ")
DECODERS = {
    "byte-level": decoders.ByteLevel(),
    "as Gemma has it": decoders.Sequence([SPACES, decoders.ByteFallback(), decoders.Fuse()]),
    "as Llama 2 has it": decoders.Sequence(
        [SPACES, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    ),
    "spaces as marks": decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()]),
    "word pieces": decoders.WordPiece(cleanup=False),
}
TEXTS = st.one_of(
    st.sampled_from(SAMPLES), st.lists(st.sampled_from([" ", "a", "é", "🙂", "kettle", "\ufffd"])).map("".join)
)


def kinds():
    """Each tokenizer of the tests, with each decoder that reads its tokens."""
    for name, make in TOKENIZERS.items():
        for told, decoder in DECODERS.items():
            tokenizer = make()
            if (told == "byte-level") == (tokenizer.decoder is not None):
                tokenizer.decoder = decoder
                yield pytest.param(PreTrainedTokenizerFast(tokenizer_object=tokenizer), id=f"{name}, {told}")


def skipping(tokenizer):
    return lambda tokens: tokenizer.decode(tokens, skip_special_tokens=True)


def told_of(tokens, words):
    telling = Telling(words)
    return "".join([*map(telling.add, tokens), telling.rest()])


@pytest.mark.parametrize("tokenizer", list(kinds()))
@given(text=TEXTS, specials=st.sets(st.integers(0, 40)))
def test_the_pieces_are_the_text_of_all_tokens_wherever_control_tokens_stand(tokenizer, text, specials):
    tokens = tokenizer.encode(text, add_special_tokens=False)
    for place in sorted(specials):
        tokens.insert(place, tokenizer.convert_tokens_to_ids("<|im_start|>"))
    assert told_of(tokens, words := skipping(tokenizer)) == words(tokens)


@given(st.lists(st.integers(0, 419), max_size=60))
def test_whatever_bytes_come_nothing_is_lost_or_told_twice(tokens):
    assert told_of(tokens, words := skipping(make_tokenizer())) == words(tokens)


def test_what_is_told_of_bytes_in_a_row_stays_when_a_later_one_is_missing():
    tokenizer = TOKENIZERS["default"]()
    tokenizer.decoder = DECODERS["as Gemma has it"]
    for end, rest in (([], 3 * REPLACEMENT), (["a"], 3 * REPLACEMENT + "a")):
        tokens = [*tokenizer.encode("a🙂🙂").ids[:-1], *map(tokenizer.token_to_id, end)]
        assert told_of(tokens, tokenizer.decode) == "a🙂" + rest


def test_a_character_is_told_when_it_is_whole():
    tokenizer = make_tokenizer()
    told = Telling(tokenizer.decode)
    assert [told.add(token) for token in tokenizer.encode("a🙂")] == ["a", "", "", "", "🙂"]
    assert [told.add(token) for token in tokenizer.encode("🙂")[:2]] == ["", ""]
    assert told.rest() == REPLACEMENT


def test_a_long_answer_is_not_decoded_anew_at_each_token():
    tokenizer, most = make_tokenizer(), 0

    def text(tokens):
        nonlocal most
        most = max(most, len(tokens))
        return tokenizer.decode(tokens)

    told = Telling(text)
    for token in tokenizer.encode("my washing machine leaks 🙂 " * 50):
        told.add(token)
    assert most < 12
