"""How alike two texts are: Jaccard similarity of their words and pairs of neighbors. Nothing here knows where from.

In scripts that are written without spaces every character counts as a word, so that a sentence is more than one.

`Seen` finds the one most like a text among all it has been shown, exactly: sets as alike as a bound t share at least
t·|A| parts, hence one of any |A| - t·|A| + 1 parts of A; only those that hold one of A's rarest are compared (prefix
filtering; Chaudhuri et al. 2006, ICDE).
"""

from __future__ import annotations

import itertools
import math
import re
import zlib

from limbeck.records import normalize

__all__ = ["Seen", "Shingles", "shingles", "similarity"]

Shingles = frozenset[int]

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai and Lao, Burmese, Khmer
    "\u3005\u3040-\u30ff\u31f0-\u31ff"  # Japanese kana, and the mark that repeats a character
    "\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"  # Han
)
"""The characters of scripts that are written without spaces."""
WORD = re.compile(f"[{UNSPACED}]|[^\\s{UNSPACED}]+")


def shingles(text: str) -> Shingles:
    """A text as a set of hashes, of its words and of its pairs of neighbors."""
    words = WORD.findall(normalize(text))
    pairs = (f"{one} {other}" for one, other in itertools.pairwise(words))
    return frozenset(zlib.crc32(part.encode()) for part in (*words, *pairs))


def similarity(one: Shingles, other: Shingles) -> float:
    """Jaccard: what two sets share, of all they have."""
    return len(one & other) / len(one | other) if one or other else 1.0


NOTHING = -1
"""The part of a text that has none."""


class Seen:
    """Texts, and which of them a new one is like."""

    def __init__(self, bound: float) -> None:
        self.bound = bound
        """From this similarity two texts count as alike."""
        self._sets: list[Shingles] = []
        self._holders: dict[int, list[int]] = {}

    def add(self, text: str) -> None:
        """Remember one more; its place is how many there were before it."""
        own = shingles(text)
        for part in own or (NOTHING,):
            self._holders.setdefault(part, []).append(len(self._sets))
        self._sets.append(own)

    def nearest(self, text: str) -> tuple[int, float] | None:
        """The place of the text most like this one, the first of equals, and their similarity; None below the bound."""
        own = shingles(text)
        rarest = sorted(own or (NOTHING,), key=lambda part: (len(self._holders.get(part, ())), part))
        # A hair is taken off, so that a product such as 0.7 · 10 that comes out above 7 leaves nobody out.
        probes = rarest[: len(own) - math.ceil(self.bound * len(own) - 1e-9) + 1]
        candidates = {place for part in probes for place in self._holders.get(part, ())}
        best = max(((similarity(own, self._sets[place]), -place) for place in candidates), default=(0.0, 0))
        return (-best[1], best[0]) if best[0] >= self.bound else None
