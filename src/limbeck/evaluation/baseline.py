"""The classical baseline: TF-IDF and logistic regression, learned from the very answers the student learned from.

It is asked only where answers are labels. If it does as well as the student, the user should know. scikit-learn is
imported when a classifier is fitted: that takes over a second, and most jobs have no labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

__all__ = ["answers_are_labels", "fit"]

MAXIMUM_LABELS = 300
MAXIMUM_LABEL_WORDS = 8


def answers_are_labels(answers: Sequence[str]) -> bool:
    """Whether ``answers`` look like a fixed set of labels: few, short, and nearly all of them repeated."""
    counts = Counter(answers)
    repeated = sum(count for count in counts.values() if count > 1)
    return (
        2 <= len(counts) <= MAXIMUM_LABELS
        and max(len(answer.split()) for answer in counts) <= MAXIMUM_LABEL_WORDS
        and repeated >= 0.8 * len(answers)
    )


def fit(prompts: Sequence[str], labels: Sequence[str]) -> Any:
    """A classifier from text to label: words and pairs of words, and pieces of words for misspellings."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    # A word has two letters at least: sums of digits have none.
    features = make_union(*(one for one in (words, pieces) if any(map(one.build_analyzer(), prompts))))
    # Far more features than rows: seven steps of Newton's method, where L-BFGS takes sixty and four times as long.
    classifier = LogisticRegression(C=10.0, solver="newton-cg", max_iter=1000)
    return make_pipeline(features, classifier).fit(list(prompts), list(labels))
