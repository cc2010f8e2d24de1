"""How varied a set of prompts is: two figures, and clusters over which others are balanced. No model is needed.

| figure       | what it is                                                                                       |
|--------------|--------------------------------------------------------------------------------------------------|
| `distinct_2` | different pairs of words over all pairs (Li et al. 2016, arXiv:1510.03055, section 5). It falls   |
|              | as a set grows, so sets are compared on samples of one size                                      |
| `vendi`      | the Vendi score (Friedman and Dieng 2023, arXiv:2210.02410, definition 3.1): the exponential of   |
|              | the entropy of the eigenvalues of K/n, with K the cosines of TF-IDF vectors over words. It counts |
|              | how many wholly different prompts would be as diverse; n copies have 1, n that share no word n   |
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from limbeck.records import normalize

__all__ = ["clusters", "distinct", "diversity", "vendi"]

MOST = 1000
"""Prompts whose cosines are computed: the eigenvalues of so many take half a second, and grow with the cube."""
WORD = r"\w+|[^\w\s]"
"""A word or a mark, so that no text is without one."""
DECIMALS = 3
"""To which figures are rounded: the last bits of eigenvalues are the machine's."""
MOST_CLUSTERS = 20


def diversity(texts: Sequence[str], size: int, seed: int = 0) -> dict[str, float]:
    """The figures of ``texts``; `distinct_2` is that of ``size`` of them."""
    return {
        "prompts": len(texts),
        "distinct_2": round(distinct(_sample(texts, size, seed)), DECIMALS),
        "vendi": round(vendi(_sample(texts, MOST, seed)), DECIMALS),
    }


def distinct(texts: Sequence[str], n: int = 2) -> float:
    """Different runs of ``n`` words over all such runs; 0 where there are none."""
    runs = [run for words in (normalize(text).split() for text in texts) for run in _runs(words, n)]
    return len(set(runs)) / len(runs) if runs else 0.0


def vendi(texts: Sequence[str]) -> float:
    """The effective number of different texts, from 1 to how many there are; 0 of none."""
    if not texts:
        return 0.0
    vectors = _vectors(texts)
    values = np.linalg.eigvalsh((vectors @ vectors.T).toarray() / len(texts))
    positive = values[values > 1e-12]
    return float(np.exp(-(positive * np.log(positive)).sum()))


def clusters(texts: Sequence[str], seed: int) -> list[int]:
    """The cluster of each text, numbered from 0: k-means over TF-IDF, with about sqrt(n/2) clusters.

    The rule of thumb for k is Mardia et al. 1979, Multivariate Analysis, p. 365.
    """
    count = min(MOST_CLUSTERS, round((len(texts) / 2) ** 0.5), len(set(texts)))
    if count < 2:
        return [0] * len(texts)
    from sklearn.cluster import KMeans  # two seconds to import, and only for this

    found = KMeans(count, n_init=4, random_state=seed).fit_predict(_vectors(texts))
    order = {cluster: place for place, cluster in enumerate(dict.fromkeys(found.tolist()))}
    return [order[cluster] for cluster in found.tolist()]


def _vectors(texts: Sequence[str]) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer  # two seconds to import, and only for this

    return TfidfVectorizer(token_pattern=WORD, max_features=4096).fit_transform(texts)


def _runs(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(itertools.islice(words, at, None) for at in range(n)), strict=False))


def _sample(texts: Sequence[str], size: int, seed: int) -> Sequence[str]:
    return texts if len(texts) <= size else random.Random(seed).sample(texts, size)  # noqa: S311 (a sample, no secret)
