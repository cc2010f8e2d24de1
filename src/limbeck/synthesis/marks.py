"""A model marks answers from 1 to 5.

Where it can be read, a mark is the mean of the five weighted by the probability that the judge gives each (G-Eval; Liu
et al. 2023, arXiv:2303.16634, equation 1), which tells apart answers that would all get a 4. Where it cannot, it is
asked for the number, and the first it writes counts; an answer without one is worth nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from limbeck.records import Example, GenerationSettings, Question
from limbeck.rubrics import MARK_TOKENS
from limbeck.synthesis.instructions import marking
from limbeck.synthesis.session import Session, likelihood

__all__ = ["judging", "marks"]

SCALE = ("1", "2", "3", "4", "5")
CANDIDATES = 32
"""The likeliest tokens among which a mark is looked up; what is none of them is as good as never given."""


def judging(remote: bool) -> GenerationSettings:
    """How a judge is asked: greedily, with room to say its mark, and for distributions only where it can be read."""
    return GenerationSettings(MARK_TOKENS, top_k_captured=0 if remote else CANDIDATES)


def marks(judge: Session, examples: Sequence[Example], texts: Sequence[str]) -> list[float]:
    """The mark of each of ``texts`` as an answer to the example beside it: 0 is the worst, 1 the best."""
    asked = [marking(example.whole or example.prompt, text) for example, text in zip(examples, texts, strict=True)]
    places = [example.place for example in examples]
    readings = [Question(p, (), mark, place) for p, place in zip(asked, places, strict=True) for mark in SCALE]
    read = judge.put(readings, "judging")
    found = [likelihood(answer) for answer in read]
    if all(value is not None for value in found):
        logprobs_EM = np.array(found, np.float64).reshape(len(texts), len(SCALE))
        weights_EM = np.exp(logprobs_EM - logprobs_EM.max(axis=1, keepdims=True))
        weights_EM /= weights_EM.sum(axis=1, keepdims=True)
        return [float(mark) for mark in weights_EM @ np.linspace(0.0, 1.0, len(SCALE))]
    written = judge.put([Question(p, place=place) for p, place in zip(asked, places, strict=True)], "judging")
    numbers = [re.search(r"[1-5]", answer.text) for answer in written]
    return [(int(number[0]) - 1) / (len(SCALE) - 1) if number else 0.0 for number in numbers]
