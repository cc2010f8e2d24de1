"""Golden pairs chosen for each prompt are those that maximal marginal relevance says, and never the prompt itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity
from tests.factory import message

from limbeck.records import normalize
from limbeck.synthesis.golden import DECIMALS, LAMBDA, WORD, Golden

PAIRS = [message(i) for i in range(24)]


def test_by_default_every_prompt_is_shown_the_files_first_pairs():
    golden = Golden(PAIRS, 3)
    assert golden.shown_before("anything") == tuple(PAIRS[:3])
    assert golden.shown_before(PAIRS[1][0]) == (PAIRS[0], PAIRS[2])
    assert Golden(PAIRS, 0).shown_before("anything") == () == Golden().shown_before("anything")


def test_the_pair_most_like_the_prompt_stands_next_to_it():
    shown = Golden(PAIRS, 4, "similar").shown_before("about my kettle number 21: noise again")
    assert shown[-1] == PAIRS[21] and len(set(shown)) == 4


@pytest.mark.parametrize("choice", ["first", "similar"])
def test_a_prompt_in_another_spelling_is_not_shown_itself_either(choice):
    shown = Golden(PAIRS[:3], 3, choice).shown_before(f" {PAIRS[1][0].upper()} !!")
    assert set(shown) == {PAIRS[0], PAIRS[2]}


def test_five_copies_say_no_more_than_one():
    copies = [(f"the kettle leaks on the floor{'!' * i}", "leak") for i in range(5)]
    golden = Golden([*copies, ("the kettle on the floor is loud", "noise"), ("my bill?", "billing")], 2, "similar")
    assert [answer for _, answer in golden.shown_before("the loud kettle leaks on the floor")] == ["noise", "leak"]


@settings(max_examples=15)
@given(st.lists(st.text("abc d.", min_size=1).filter(str.strip), min_size=1, max_size=12, unique=True), st.data())
def test_the_choice_is_that_of_the_formula(texts, data):
    """Carbonell and Goldstein's formula, written out pair by pair."""
    prompt = data.draw(st.sampled_from(texts))
    most = data.draw(st.integers(1, 6))
    parts = []
    for features in (
        TfidfVectorizer(ngram_range=(1, 2), token_pattern=WORD, sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    ):
        vectors = features.fit_transform(texts)
        parts.append((cosine_similarity(vectors), cosine_similarity(features.transform([prompt]), vectors)[0]))
    among = np.round(sum(part[0] for part in parts) / 2, DECIMALS)
    relevance = np.round(sum(part[1] for part in parts) / 2, DECIMALS)
    left = [at for at, text in enumerate(texts) if normalize(text) != normalize(prompt)]
    chosen = []
    while left and len(chosen) < most:
        gains = [LAMBDA * relevance[at] - (1 - LAMBDA) * max([among[at, c] for c in chosen], default=0) for at in left]
        chosen.append(left.pop(int(np.argmax(gains))))
    shown = Golden([(text, "x") for text in texts], most, "similar").shown_before(prompt)
    assert [text for text, _ in shown] == [texts[at] for at in chosen[::-1]]


@pytest.mark.parametrize("choice", ["first", "similar"])
def test_what_the_choice_depends_on_is_told(choice):
    told = Golden(PAIRS[:3], 2, choice).told
    assert told["choice"] == choice and told["golden"][0] == list(PAIRS[0])
    assert (len(told["golden"]), told["most"]) == (3, 2)
