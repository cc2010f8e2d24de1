"""The nearest text is found exactly, whatever the bound."""

from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck import likeness
from limbeck.likeness import Seen, shingles, similarity

TEXTS = st.lists(st.lists(st.sampled_from("abcdefg"), max_size=7).map(" ".join), max_size=12)


@pytest.mark.parametrize(("as_many", "listed"), [(0, 0), (32, 32), (1000, 0), (1000, 2), (1000, 32)])
@given(TEXTS, st.lists(st.sampled_from("abcdefg"), max_size=7).map(" ".join), st.floats(0.05, 1.0))
def test_the_nearest_text_is_that_of_a_plain_search(as_many, listed, texts, new, bound):
    with mock.patch.multiple(likeness, AS_MANY=as_many, LISTED=listed):
        seen = Seen(bound)
        for text in texts:
            seen.add(text)
        best = max(((similarity(shingles(new), shingles(t)), -at) for at, t in enumerate(texts)), default=(0.0, 0))
        assert seen.nearest(new) == ((-best[1], best[0]) if best[0] >= bound else None)


def test_texts_that_share_a_long_template_are_not_compared_one_by_one(monkeypatch):
    template = " ".join(f"template{at}" for at in range(20))
    texts = [f"{template} {' '.join(f'own{at}x{word}' for word in range(20))}" for at in range(300)]
    monkeypatch.setattr(likeness, "similarity", mock.Mock(side_effect=AssertionError))
    seen = Seen(0.5)
    for text in texts:
        assert seen.nearest(text) is None
        seen.add(text)
    assert seen.nearest(f"{texts[7]} more")[0] == 7


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("我的水壶漏水了，请问怎么修理？", "我的水壶漏水了，请问怎样修理？"),
        ("やかんから水が漏れているので直してください", "やかんから水が漏れているので直してほしい"),
        ("กาต้มน้ำของฉันรั่วช่วยซ่อมให้หน่อยครับ", "กาต้มน้ำของฉันรั่วช่วยซ่อมให้หน่อยค่ะ"),
        ("我的 iPhone 15 屏幕坏了怎么办", "我的 iPhone 14 屏幕坏了怎么办"),
    ],
)
def test_sentences_without_spaces_that_differ_by_a_character_are_alike(one, other):
    assert 0.7 <= similarity(shingles(one), shingles(other)) < 1


def test_sentences_without_spaces_that_say_something_else_are_not_alike():
    texts = (
        "我的水壶漏水了，请问怎么修理？",
        "账单上的金额不对，请更正。",
        "やかんから水が漏れています",
        "請求書が間違っています",
    )
    assert all(similarity(shingles(a), shingles(b)) < 0.3 for a in texts for b in texts if a != b)
