"""Near-duplicates, found with MinHash, and contamination: long word sequences that the held-out set has too.

MinHash (Broder 1997): of a set's hashes under a random permutation the smallest is the same for two sets with a
probability that is their Jaccard similarity. Of `PERMUTATIONS` such minima, cut into bands, sets that share a whole
band are compared exactly; so what is reported is never a guess, and what is missed is rare (Leskovec et al., Mining of
Massive Datasets, 3rd ed., section 3.4). A text is the set of its words and of its pairs of neighbors: prompts are
short, and one word changed in ten leaves them alike by 0.7, where with the usual 3-grams it would be 0.4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from limbeck.likeness import Shingles, shingles, similarity
from limbeck.records import Prompt, normalize

__all__ = ["contaminated", "near_duplicates"]

PERMUTATIONS = 128


def near_duplicates(texts: Sequence[str], threshold: float, seed: int = 0) -> dict[int, tuple[int, float]]:
    """Which texts are near-duplicates of an earlier one that is none: its place, and their Jaccard similarity."""
    sets = [shingles(text) for text in texts]
    bands = _bands(threshold)
    known: dict[tuple[int, bytes], list[int]] = {}
    found: dict[int, tuple[int, float]] = {}
    for place, (own, signature) in enumerate(zip(sets, _signatures(sets, seed), strict=True)):
        keys = [(band, part.tobytes()) for band, part in enumerate(np.array_split(signature, bands))]
        candidates = sorted({other for key in keys for other in known.get(key, ())})
        best = max(((similarity(own, sets[other]), -other) for other in candidates), default=(0.0, 0))
        if best[0] >= threshold:
            found[place] = (-best[1], best[0])
            continue
        for key in keys:
            known.setdefault(key, []).append(place)
    return found


def contaminated(prompts: Sequence[Prompt], held_out: Iterable[Prompt], words: int) -> dict[int, str]:
    """Which prompts share a run of so many ``words`` with a held-out one, and the run.

    The n-gram overlap by which GPT-3's training data were cleaned (Brown et al., arXiv:2005.14165, appendix C). System
    prompts are left out, and so is a run that most of the held-out prompts share: it is their template, not their
    content.
    """
    sets = [set(_grams(prompt, words)) for prompt in held_out]
    seen = Counter(gram for grams in sets for gram in grams)
    guarded = {gram for gram, times in seen.items() if times <= max(1, len(sets) // 2)}
    found = {}
    for place, prompt in enumerate(prompts):
        shared = next((gram for gram in _grams(prompt, words) if gram in guarded), None)
        if shared is not None:
            found[place] = " ".join(shared)
    return found


def _signatures(sets: Sequence[Shingles], seed: int) -> npt.NDArray[np.uint32]:
    """The smallest hash of each set under each permutation: a·x + b mod 2^64, its upper half (Dietzfelbinger 1996)."""
    dice = np.random.default_rng(seed)
    a_P, b_P = dice.integers(0, np.iinfo(np.uint64).max, (2, PERMUTATIONS), dtype=np.uint64)
    signatures_NP = np.full((len(sets), PERMUTATIONS), np.iinfo(np.uint32).max, dtype=np.uint32)
    for place, own in enumerate(sets):
        if own:
            hashes_S1 = np.fromiter(own, np.uint64, len(own))[:, None]
            signatures_NP[place] = ((hashes_S1 * a_P + b_P) >> np.uint64(32)).min(axis=0)
    return signatures_NP


def _bands(threshold: float) -> int:
    """So many bands that sets as alike as ``threshold`` share one in 99 of 100 cases: the fewest of those."""
    choices = [2, 4, 8, 16, 32, 64, 128]
    return next((b for b in choices if 1 - (1 - threshold ** (PERMUTATIONS // b)) ** b >= 0.99), choices[-1])


def _grams(prompt: Prompt, words: int) -> list[tuple[str, ...]]:
    grams = []
    for turn in prompt.turns:
        said = normalize(turn.text).split()
        grams += [tuple(said[at : at + words]) for at in range(len(said) - words + 1)]
    return grams
