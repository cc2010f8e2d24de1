"""Prompts on a map: those of like words lie together.

TF-IDF of words and its strongest directions by truncated SVD (latent semantic analysis; Deerwester et al. 1990); in
those k-means finds the clusters, each named by the words that mark it off, and their two main axes are the page's.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

__all__ = ["Place", "chart"]

MOST = 2000
"""Prompts drawn: more would be a blot, and a page of megabytes."""

DIRECTIONS = 16


@dataclass(frozen=True)
class Place:
    """Where a text lies, and in which cluster."""

    text: str
    x: float
    y: float
    cluster: int


def chart(texts: Sequence[str], seed: int = 0) -> tuple[list[Place], list[str]]:
    """Up to `MOST` of the texts in their places, and the clusters' names; nothing where there are fewer than eight."""
    drawn = sorted(set(texts))
    if len(drawn) > MOST:
        drawn = random.Random(seed).sample(drawn, MOST)  # noqa: S311 (a sample, not a secret)
    try:
        vectorizer = TfidfVectorizer(sublinear_tf=True, max_df=0.5, max_features=20_000)
        weights = vectorizer.fit_transform(drawn)
    except ValueError:  # no words, or only such as nearly all texts have
        return [], []
    directions = min(DIRECTIONS, weights.shape[1] - 1, len(drawn) - 1)
    if len(drawn) < 8 or directions < 2:
        return [], []
    places = TruncatedSVD(directions, random_state=seed).fit_transform(weights)
    # Long texts lie as far out as short ones: what counts is what they are about.
    places = places / np.maximum(np.linalg.norm(places, axis=1, keepdims=True), 1e-9)
    around = places - places.mean(axis=0)
    flat = around @ np.linalg.svd(around, full_matrices=False)[2][:2].T
    different = len(np.unique(places.round(6), axis=0))  # texts with the same words lie at one place
    count = min(8, max(2, round(math.sqrt(len(drawn) / 8))), different)
    groups = KMeans(count, n_init=4, random_state=seed).fit_predict(places)
    words = vectorizer.get_feature_names_out()
    overall = np.asarray(weights.mean(axis=0)).ravel()
    names = []
    for group in range(count):
        own = np.asarray(weights[groups == group].mean(axis=0)).ravel() - overall
        names.append(f"{(groups == group).sum():,}: " + ", ".join(words[at] for at in np.argsort(-own)[:5]))
    return [
        Place(text, float(place[0]), float(place[1]), int(group))
        for text, place, group in zip(drawn, flat, groups, strict=True)
    ], names
