"""Soft labels in few bits: what is packed comes back, as nearly as promised, and in no more bytes than promised."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from limbeck.records import SoftLabels
from limbeck.storage.signals import Layout, loss, read, write


def labels(tokens, k, vocabulary, seed, scale=3.0):
    """Zipf-like distributions over a whole vocabulary, cut to the likeliest k."""
    noise = np.random.default_rng(seed)
    logits = -1.2 * np.log(np.arange(1, vocabulary + 1)) * scale / 2 + noise.normal(0, scale / 3, (tokens, vocabulary))
    logits = noise.permuted(logits, axis=1)
    logprobs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    ids = np.argsort(-logprobs, axis=1)[:, :k]
    top = np.take_along_axis(logprobs, ids, axis=1)
    np.put_along_axis(logprobs, ids, -np.inf, axis=1)
    tail = np.logaddexp.reduce(logprobs, axis=1) if k < vocabulary else np.full(tokens, -np.inf)
    return SoftLabels(ids.astype(np.int32), top.astype(np.float32), tail.astype(np.float32))


@given(
    tokens=st.integers(0, 5),
    k=st.integers(1, 60),
    vocabulary=st.sampled_from([60, 61, 1000, 20_000]),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([0.1, 3.0, 12.0]),
)
@examples(max_examples=60)
def test_what_is_packed_comes_back(tokens, k, vocabulary, seed, scale):
    layout = Layout(k, vocabulary)
    given = labels(tokens, k, vocabulary, seed, scale)
    rows = layout.pack(given)
    assert rows.shape == (tokens, layout.row_bytes) and rows.dtype == np.uint8
    found = layout.unpack(rows)
    assert np.array_equal(np.sort(found.top_ids_TK, axis=1), np.sort(given.top_ids_TK, axis=1))
    assert (np.diff(found.top_logprobs_TK, axis=1) <= 0).all()
    by_id = [np.take_along_axis(one.top_logprobs_TK, one.top_ids_TK.argsort(axis=1), axis=1) for one in (given, found)]
    step = 1 / ((1 << layout.grid_bits) - 1)
    roots = [np.exp(x.astype(float) / 3) for x in by_id]
    assert (np.abs(roots[0] - roots[1]) <= np.maximum(0.5 * step, step - roots[0]) + 1e-6).all()
    assert np.allclose(found.tail_logprob_T, given.tail_logprob_T, rtol=1e-3)
    assert np.array_equal(layout.pack(found), rows)


@given(ids=st.sets(st.integers(0, 99), min_size=7, max_size=7))
@examples(max_examples=60)
def test_any_set_of_ids_comes_back(ids):
    soft = SoftLabels(np.array([sorted(ids)], np.int32), np.full((1, 7), -2.0, np.float32), np.zeros(1, np.float32))
    layout = Layout(7, 100)
    assert sorted(layout.unpack(layout.pack(soft)).top_ids_TK[0].tolist()) == sorted(ids)


@pytest.mark.parametrize(("vocabulary", "nats"), [(49_152, 5e-5), (128_256, 1e-3), (262_144, 4e-3)])
def test_fifty_candidates_take_at_most_128_bytes_and_lose_little(vocabulary, nats):
    layout = Layout(50, vocabulary)
    assert layout.row_bytes <= 128
    given = labels(10, 50, vocabulary, 1)
    assert 0 <= loss(given, layout.unpack(layout.pack(given))).mean() < nats


def test_packed_labels_are_opened_when_they_are_looked_at(tmp_path):
    given = labels(6, 9, 500, 3)
    layout = Layout(9, 500)
    write(tmp_path / "s.safetensors", given, {"note": "mine"})
    found = read(tmp_path / "s.safetensors")
    assert found.told["note"] == "mine"
    some = found.labels(2, 5)
    expected = layout.unpack(layout.pack(given))
    assert some.k == 9 and np.array_equal(some.top_ids_TK, expected.top_ids_TK[2:5])
    assert np.array_equal(some.tail_logprob_T, expected.tail_logprob_T[2:5])
    assert np.array_equal(some.opened().top_logprobs_TK, expected.top_logprobs_TK[2:5])
