"""Golden pairs, and which of them stand before a prompt as demonstrations.

`first` shows every prompt the same pairs, the file's first: what they have in common with all other prompts is computed
once. `similar` chooses for each prompt by maximal marginal relevance (Carbonell and Goldstein 1998, SIGIR, section 2):

    next pair = argmax  lambda * sim(pair, prompt) - (1 - lambda) * max sim(pair, pairs chosen before)

with sim the cosine of TF-IDF vectors over words, pairs of words and pieces of words. No model is needed, and the same
pairs and prompt give the same choice. The pair most like the prompt stands last, next to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from limbeck.records import normalize

__all__ = ["Choice", "Golden"]

Choice = Literal["first", "similar"]

LAMBDA = 0.5
"""The weight of likeness to the prompt; the rest is that of likeness to pairs chosen before. Above a half, copies of
one pair are chosen before another that is less like the prompt, and five copies say no more than one."""
WORD = r"\w+|[^\w\s]"
"""A word or a mark, so that no text is without one."""
DECIMALS = 6
"""To which similarities are rounded: equal ones go by their order in the file, whatever the last bits say."""


class Golden:
    """Golden pairs (user text, answer), at most ``most`` of which are shown before a prompt."""

    def __init__(self, pairs: Sequence[tuple[str, str]] = (), most: int = 0, choice: Choice = "first") -> None:
        self.choice, self.most = choice, most
        self.pairs = tuple(pairs)
        self._spelled = [normalize(asked) for asked, _ in self.pairs]
        self._likeness = _Likeness([asked for asked, _ in self.pairs]) if choice == "similar" and pairs else None

    def shown_before(self, text: str) -> tuple[tuple[str, str], ...]:
        """The demonstrations for the prompt ``text``; never that prompt itself, in any spelling.

        Spellings are those of the guard that keeps held-out prompts out of training (`Prompt.normalized_id`).
        """
        stage = self._spelled if self._likeness is not None else self._spelled[: self.most]
        own = normalize(text)
        others = [place for place, asked in enumerate(stage) if asked != own]
        if self._likeness is not None:
            others = self._likeness.choose(text, others, self.most)[::-1]
        return tuple(self.pairs[place] for place in others)

    @property
    def told(self) -> dict[str, Any]:
        """All that the choice depends on, as JSON values."""
        return {"golden": [list(pair) for pair in self.pairs], "choice": self.choice, "most": self.most}


class _Likeness:
    """Cosines between N texts, and between them and any other."""

    def __init__(self, texts: Sequence[str]) -> None:
        # Two seconds to import, and only for this.
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_union

        self._features = make_union(
            TfidfVectorizer(ngram_range=(1, 2), token_pattern=WORD, sublinear_tf=True),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
        )
        self._vectors: Any = self._features.fit_transform(texts)
        self._among_NN = self._rounded(self._vectors @ self._vectors.T)

    def choose(self, text: str, allowed: Sequence[int], most: int) -> list[int]:
        """At most ``most`` of the places ``allowed``, by maximal marginal relevance, the likest first."""
        relevance_N = self._rounded(self._vectors @ self._features.transform([text]).T)[:, 0]
        chosen: list[int] = []
        left = list(allowed)
        while left and len(chosen) < most:
            repeated_L = self._among_NN[np.ix_(left, chosen)].max(axis=1) if chosen else np.zeros(len(left))
            gain_L = LAMBDA * relevance_N[left] - (1 - LAMBDA) * repeated_L
            chosen.append(left.pop(int(gain_L.argmax())))
        return chosen

    def _rounded(self, products: Any) -> npt.NDArray[np.float64]:
        # Two vectors of length 1 are laid end to end, so a product of two such is twice the mean cosine.
        return np.round(np.asarray(products.todense(), np.float64) / 2, DECIMALS)
