"""The nearest text is found exactly, whatever the bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.likeness import Seen, shingles, similarity

TEXTS = st.lists(st.lists(st.sampled_from("abcdefg"), max_size=7).map(" ".join), max_size=12)


@given(TEXTS, st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=7).map(" ".join), st.floats(0.05, 1.0))
def test_the_nearest_text_is_that_of_a_plain_search(texts, new, bound):
    seen = Seen(bound)
    for text in texts:
        seen.add(text)
    best = max(((similarity(shingles(new), shingles(t)), -at) for at, t in enumerate(texts)), default=(0.0, 0))
    assert seen.nearest(new) == ((-best[1], best[0]) if best[0] >= bound else None)


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
