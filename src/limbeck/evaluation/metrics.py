"""Scores of one answer against another, and their means with bootstrap intervals.

Exact match and token F1 are those of SQuAD (Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1), on text that is
case-folded and stripped of punctuation at its ends and extra spaces; articles are kept, since labels are not prose,
and so is what is punctuation alone.

An object or a list in JSON is read as what it says: spaces, the order of keys and 1.0 for 1 make no other answer, and
what two of them have in common are values under the same keys.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from limbeck.records import Score, folded

__all__ = ["FEWEST", "METRICS", "chance", "difference", "exact_match", "mean_score", "resamples", "token_f1"]

FEWEST = 6
"""Rows without which nothing is told from chance: five that all speak for it have p = 0.06 in a two-sided sign test."""

RESAMPLES = 2000

DRAWN_AT_ONCE = 1 << 20
"""Places drawn at a time: a hundred thousand rows two thousand times would be gigabytes."""


def exact_match(answer: str, reference: str) -> float:
    """1.0 if the two are the same text, or the same JSON, else 0.0."""
    found, expected = (_read(text) for text in (answer, reference))
    return float(found[0] == expected[0])


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over words, or where both are JSON over values, as bags."""
    (said, values), (wanted, others) = (_read(text) for text in (answer, reference))
    both = values is not None and others is not None
    found, expected = (_leaves(values), _leaves(others)) if both else (said.split(), wanted.split())
    common = (Counter(found) & Counter(expected)).total()
    if not found or not expected:
        return float(found == expected)
    return 2 * common / (len(found) + len(expected))


METRICS: Mapping[str, Callable[[str, str], float]] = {"exact_match": exact_match, "token_f1": token_f1}


def mean_score(values: Sequence[float], seed: int, least: float = 0.0, most: float = 1.0) -> Score:
    """The mean of ``values``, each from ``least`` to ``most``, with its 95% interval: a seeded bootstrap's (Efron 1979,
    by percentiles).

    Where all are the same a bootstrap knows of no others. Then the interval reaches as far as others would move the
    mean that so many rows miss with a chance of 2.5% (Clopper and Pearson 1934): 0 of 30 is 0 to 11.6%.
    """
    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    if (sample == sample[0]).all():
        missed = 1 - 0.025 ** (1 / len(sample))
        low, high = mean - missed * (mean - least), mean + missed * (most - mean)
    else:
        low, high = _interval(sample, seed)
    return Score(mean, low, high, len(sample))


def difference(values: Sequence[float], others: Sequence[float], seed: int) -> Score:
    """The mean of ``values - others``, row by row, each from 0 to 1, with its paired interval."""
    return mean_score(np.subtract(values, others).tolist(), seed, least=-1.0)


def chance(values: Sequence[float], others: Sequence[float]) -> float:
    """How likely rows would fall out so unevenly, or more so, if neither were better: the two-sided exact sign test.

    Rows that are equal say nothing; on right and wrong it is McNemar's exact test.
    """
    signs = np.sign(np.subtract(values, others))
    wins, losses = int((signs > 0).sum()), int((signs < 0).sum())
    rows, most = wins + losses, max(wins, losses)
    ways = (math.lgamma(rows + 1) - math.lgamma(k + 1) - math.lgamma(rows - k + 1) for k in range(most, rows + 1))
    return min(1.0, 2 * sum(math.exp(way - rows * math.log(2)) for way in ways))


def resamples(count: int, seed: int) -> Iterator[np.ndarray[Any, np.dtype[np.int64]]]:
    """Places of ``count`` rows drawn with replacement, `RESAMPLES` times, some of the times at once: (times, count)."""
    generator, at_once = np.random.default_rng(seed), max(1, DRAWN_AT_ONCE // count)
    for at in range(0, RESAMPLES, at_once):
        yield generator.integers(count, size=(min(at_once, RESAMPLES - at), count))


def _interval(sample: np.ndarray[tuple[int], np.dtype[np.float64]], seed: int) -> tuple[float, float]:
    means = np.concatenate([sample[chosen].mean(axis=1) for chosen in resamples(len(sample), seed)])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _read(text: str) -> tuple[str, Any]:
    """``text`` as it is compared, and its value if it is an object or a list in JSON."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            value = json.loads(text, parse_float=_number)
            return json.dumps(value, sort_keys=True, ensure_ascii=False).casefold(), value
        except (ValueError, RecursionError):
            pass  # text that only begins like it
    return _plain(text), None


def _number(written: str) -> float:
    number = float(written)
    return int(number) if number.is_integer() else number


def _leaves(value: Any) -> list[str]:
    """The values in ``value``, each with the keys that lead to it; what place one has in a list does not count."""
    leaves, within = [], [("", value)]
    while within:
        path, one = within.pop()
        if one and isinstance(one, dict):
            within += [(f"{path}.{key}", part) for key, part in one.items()]
        elif one and isinstance(one, list):
            within += [(f"{path}[]", part) for part in one]
        else:
            leaves.append(f"{path} {json.dumps(one, ensure_ascii=False)}".casefold())
    return leaves


def _plain(text: str) -> str:
    words = " ".join(folded(text).split())
    return words.strip(" .,;:!?\"'`") or words
