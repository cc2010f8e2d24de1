"""Near-duplicates, and contamination: long word sequences that the held-out set has too.

A text is the set of its words and of its pairs of neighbors (`likeness`): prompts are short, and one word changed in
ten leaves them alike by 0.7, where with the usual 3-grams it would be 0.4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from limbeck.likeness import Seen
from limbeck.records import Prompt, normalize

__all__ = ["contaminated", "near_duplicates"]


def near_duplicates(texts: Sequence[str], threshold: float) -> dict[int, tuple[int, float]]:
    """Which texts are near-duplicates of an earlier one that is none: its place, and their Jaccard similarity."""
    seen = Seen(threshold)
    places: list[int] = []
    found: dict[int, tuple[int, float]] = {}
    for place, text in enumerate(texts):
        if (nearest := seen.nearest(text)) is not None:
            found[place] = (places[nearest[0]], nearest[1])
        else:
            seen.add(text)
            places.append(place)
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


def _grams(prompt: Prompt, words: int) -> list[tuple[str, ...]]:
    grams = []
    for turn in prompt.turns:
        said = normalize(turn.text).split()
        grams += [tuple(said[at : at + words]) for at in range(len(said) - words + 1)]
    return grams
