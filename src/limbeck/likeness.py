"""How alike two texts are: Jaccard similarity of their words and pairs of neighbors. Nothing here knows where from.

In scripts that are written without spaces every character counts as a word, so that a sentence is more than one.

`Seen` finds the one most like a text among all it has been shown, exactly: sets as alike as a bound t share at least
t·|A| parts, hence one of any |A| - t·|A| + 1 parts of A; only those that hold one of A's rarest are compared (prefix
filtering; Chaudhuri et al. 2006, ICDE). Where these lead to many texts, as the parts of a template do that most share,
every text is counted against: by bits for the parts that many hold, by lists for the others.
"""

from __future__ import annotations

import itertools
import math
import re
import zlib
from collections import Counter

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
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if one or other else 1.0


NOTHING = -1
"""The part of a text that has none."""


LISTED = 32
"""A part that so few hold has no bit, however few texts there are."""
COMMON = 1 / 32
"""The share of all texts from which a part that so many hold has a bit: a text has few hundred of these, whatever its
language, and of the other parts no list is long."""

AS_MANY = 32
"""So many texts are counted against in the time in which the sets of two are compared."""


class Seen:
    """Texts, and which of them a new one is like."""

    def __init__(self, bound: float) -> None:
        self.bound = bound
        """From this similarity two texts count as alike."""
        self._sets: list[Shingles] = []
        self._holders: dict[int, list[int]] = {}
        self._bits: dict[int, int] = {}
        self._masks: list[int] = []
        """For each text the bits of its parts that have one."""

    def add(self, text: str) -> None:
        """Remember one more; its place is how many there were before it."""
        own, place = shingles(text), len(self._sets)
        self._sets.append(own)
        self._masks.append(0)
        for part in own or (NOTHING,):
            holders = self._holders.setdefault(part, [])
            holders.append(place)
            if part in self._bits:
                self._masks[place] |= self._bits[part]
            elif len(holders) > max(LISTED, COMMON * place):
                self._bits[part] = bit = 1 << len(self._bits)
                for holder in holders:
                    self._masks[holder] |= bit

    def nearest(self, text: str) -> tuple[int, float] | None:
        """The place of the text most like this one, the first of equals, and their similarity; None below the bound."""
        own = shingles(text)
        rarest = sorted(own or (NOTHING,), key=lambda part: (len(self._holders.get(part, ())), part))
        # A hair is taken off, so that a product such as 0.7 · 10 that comes out above 7 leaves nobody out.
        probes = rarest[: len(own) - math.ceil(self.bound * len(own) - 1e-9) + 1]
        led_to = sum(len(self._holders.get(part, ())) for part in probes)
        if own and AS_MANY * led_to > len(self._sets):
            best = self._nearest_of_all(own)
        else:
            candidates = {place for part in probes for place in self._holders.get(part, ())}
            best = max(((similarity(own, self._sets[place]), -place) for place in candidates), default=(0.0, 0))
        return (-best[1], best[0]) if best[0] >= self.bound else None

    def _nearest_of_all(self, own: Shingles) -> tuple[float, int]:
        """The similarity of the text most like ``own``, and minus its place."""
        mask = sum(self._bits.get(part, 0) for part in own)
        listed = Counter(place for part in own - self._bits.keys() for place in self._holders.get(part, ()))
        best, found = 0.0, 0
        for place, (other, held) in enumerate(zip(self._sets, self._masks, strict=True)):
            shared = (mask & held).bit_count() + listed.get(place, 0)
            alike = shared / (len(own) + len(other) - shared)
            if alike > best:
                best, found = alike, place
        return best, -found
