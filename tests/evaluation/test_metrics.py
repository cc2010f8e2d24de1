import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binomtest

from limbeck.evaluation.metrics import (
    DRAWN_AT_ONCE,
    RESAMPLES,
    chance,
    difference,
    exact_match,
    mean_score,
    resamples,
    token_f1,
)


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "f1"),
    [
        ("Leak.", "leak", 1.0, 1.0),
        ("  spare   part ", "Spare Part", 1.0, 1.0),
        ("spare", "spare part", 0.0, 2 / 3),
        ("part part spare", "spare part", 0.0, 0.8),
        ("noise", "leak", 0.0, 0.0),
        ("", "leak", 0.0, 0.0),
        ("", "", 1.0, 1.0),
        ('"leak"', "leak", 1.0, 1.0),
        ("?", "!", 0.0, 0.0),
        ("Μαΐου", "Μαΐου".upper(), 1.0, 1.0),
        (" ? ", "?", 1.0, 1.0),
        ("", "…", 0.0, 0.0),
        ('{"a": 1, "b": "X"}', '{ "b":"x","a":1.0 }', 1.0, 1.0),
        ('{"a": 1, "b": 2}', '{"a": 1, "b": 3}', 0.0, 0.5),
        ('{"a": 1}', '{"b": 1}', 0.0, 0.0),
        ('{"a": "1"}', '{"a": 1}', 0.0, 0.0),
        ('{"a": {"b": [1, 2]}}', '{"a": {"b": [2, 1]}}', 0.0, 1.0),
        ("[]", "{}", 0.0, 0.0),
        ("{not json", "{not  JSON", 1.0, 1.0),
        ("{" * 5000, "{" * 5000, 1.0, 1.0),
        ('{"a": 1}', "a 1", 0.0, 0.0),
        ('{"a": "leak"}', 'Here it is: {"a": "leak"}', 0.0, 4 / 7),
    ],
)
def test_scores_are_those_of_the_definition(answer, reference, exact, f1):
    assert exact_match(answer, reference) == exact
    assert token_f1(answer, reference) == pytest.approx(f1)


@given(st.text(max_size=30), st.text(max_size=30))
def test_f1_is_symmetric_between_0_and_1_and_1_where_exact(first, second):
    score = token_f1(first, second)
    assert 0.0 <= score <= 1.0
    assert score == pytest.approx(token_f1(second, first))
    assert not exact_match(first, second) or score == 1.0


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(), parts, max_size=3),
)


@given(st.lists(VALUES, max_size=3) | st.dictionaries(st.text(), VALUES, max_size=3))
def test_json_is_the_same_however_it_is_written(value):
    short, long = json.dumps(value, separators=(",", ":")), json.dumps(value, indent=2, ensure_ascii=False)
    assert exact_match(short, long) == token_f1(short, long) == 1.0


def test_an_interval_holds_the_mean_narrows_with_rows_and_is_seeded():
    few, many = (mean_score([1.0, 0.0, 1.0, 1.0] * n, seed=0) for n in (5, 125))
    assert few.low < few.value == 0.75 < few.high
    assert many.high - many.low < (few.high - few.low) / 3
    assert mean_score([1.0, 0.0] * 9, 1) == mean_score([1.0, 0.0] * 9, 1)


def test_rows_are_drawn_a_few_times_at_once_and_are_those_that_all_at_once_would_be():
    drawn = list(resamples(3001, seed=4))
    assert len(drawn) > 1 and max(part.size for part in drawn) <= DRAWN_AT_ONCE
    assert np.array_equal(np.concatenate(drawn), np.random.default_rng(4).integers(3001, size=(RESAMPLES, 3001)))


def test_the_interval_of_a_share_is_about_two_standard_errors_wide():
    score = mean_score([1.0] * 300 + [0.0] * 100, seed=3)
    error = (0.75 * 0.25 / 400) ** 0.5
    assert score.high - score.low == pytest.approx(2 * 1.96 * error, rel=0.12)


def test_a_paired_difference_sees_what_separate_intervals_hide():
    first = [1.0, 0.0] * 50
    same = difference(first, first, 0)
    assert same.value == 0.0 and -0.04 < same.low < 0 < same.high < 0.04


def test_equal_scores_leave_room_for_rows_that_were_not_drawn():
    none, whole = mean_score([0.0] * 30, 0), mean_score([1.0] * 8, 0)
    exact = beta.ppf(0.975, 1, 30)  # Clopper and Pearson's upper end of 0 of 30
    assert (none.low, none.high) == (0.0, pytest.approx(exact))
    assert (whole.low, whole.high) == (pytest.approx(1 - beta.ppf(0.975, 1, 8)), 1.0)
    assert difference([1.0] * 8, [0.0] * 8, 0).low == pytest.approx(1 - 2 * beta.ppf(0.975, 1, 8))


@pytest.mark.parametrize(("wins", "losses", "ties"), [(4, 0, 236), (6, 0, 0), (3, 3, 1), (0, 9, 2), (70, 41, 5000)])
def test_the_sign_test_is_the_binomials(wins, losses, ties):
    better, worse = [1.0] * wins + [0.0] * (losses + ties), [0.0] * wins + [0.5] * losses + [0.0] * ties
    expected = binomtest(wins, wins + losses).pvalue
    assert chance(better, worse) == pytest.approx(expected)
    assert chance([1.0, 0.0], [1.0, 0.0]) == 1.0
