"""Figures of diversity on sets whose diversity is known."""

import pytest

from limbeck.synthesis.diversity import clusters, distinct, diversity, vendi


def test_copies_count_as_one_and_strangers_as_many():
    assert vendi(["my tap drips"] * 7) == pytest.approx(1.0)
    assert vendi(["my tap drips", "where is it", "who are you"]) == pytest.approx(3.0)
    assert vendi(["a b", "a b", "c d", "c d"]) == pytest.approx(2.0)
    assert vendi([]) == 0.0


def test_distinct_counts_different_pairs_over_all():
    assert distinct(["My tap drips!", "my tap hums"]) == 3 / 4
    assert distinct(["one"]) == 0.0


def test_sets_are_compared_on_samples_of_one_size():
    texts = [f"word{i} again and again" for i in range(40)]
    assert diversity(texts, 10, seed=3)["distinct_2"] == round(distinct(texts[:10]), 3)
    assert diversity(texts, 10)["prompts"] == 40


def test_clusters_are_of_what_shares_words_and_the_same_each_time():
    texts = [f"{what} {n}" for what in ("boiler leaks hot water", "my parcel order is late") for n in range(4)]
    found = clusters(texts, 1)
    assert found == [0] * 4 + [1] * 4 == clusters(texts, 1)
    assert clusters(["only one"], 1) == [0]
