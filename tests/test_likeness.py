"""The nearest text is found exactly, whatever the bound."""

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
