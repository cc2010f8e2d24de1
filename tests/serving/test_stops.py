"""Stop sequences, however the text is cut."""

from hypothesis import given
from hypothesis import strategies as st

from limbeck.serving.stops import Stops

TEXTS = st.text("abc", max_size=12)


def fed(pieces, sequences):
    """What is shown of a text that comes in pieces, and what ended it."""
    stops, shown = Stops(sequences), ""
    for piece in pieces:
        text, stop = stops.feed(piece)
        shown += text
        if stop is not None:
            return shown, stop
    return shown + stops.rest(), None


@given(st.lists(TEXTS), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_text_is_shown_up_to_a_stop_sequence_and_not_a_letter_less(pieces, sequences):
    text = "".join(pieces)
    shown, stop = fed(pieces, sequences)
    assert not any(sequence in shown for sequence in sequences)
    if stop is None:
        assert shown == text
    else:
        assert stop in sequences and text.startswith(shown + stop)


@given(TEXTS, st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3))
def test_letter_by_letter_the_first_to_be_complete_ends_it(text, sequences):
    _, stop = fed(text, sequences)
    ends = [text.find(sequence) + len(sequence) for sequence in sequences if sequence in text]
    if ends:
        assert text.find(stop) + len(stop) == min(ends)
    else:
        assert stop is None


@given(st.lists(TEXTS), st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3))
def test_however_the_text_is_cut_it_ends_in_the_same_way(pieces, sequences):
    text = "".join(pieces)
    assert fed(pieces, sequences) == fed([text], sequences) == fed(text, sequences)


def test_nothing_waits_that_cannot_become_a_stop_sequence():
    stops = Stops(["END", ""])
    assert [stops.feed(piece)[0] for piece in ("one E", "N", "x EE", "N")] == ["one ", "", "ENx E", ""]
    assert stops.rest() == "EN"
