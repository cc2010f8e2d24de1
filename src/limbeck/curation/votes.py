"""Several answers of the teacher to one prompt: which is learned, and how far they agree.

Self-consistency (Wang et al., arXiv:2203.11171): the answer that most samples come to is likelier right than the first,
and how many do tells how sure the teacher is. Where answers are sentences they are held against each other by the words
they share, and the one nearest to all others is taken (minimum Bayes risk; Kumar and Byrne 2004). Best-of-n takes the
one the judge marks highest instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count, islice

from limbeck.curation.asking import Asking
from limbeck.recipe import Votes
from limbeck.records import AnsweredExample, normalize

__all__ = ["agreement", "vote"]

Marking = Callable[[Sequence[AnsweredExample]], list[tuple[float | None, str]]]


def vote(
    answered: Sequence[AnsweredExample],
    plan: Votes,
    seed: int,
    asking: Asking,
    fits: Callable[[AnsweredExample], bool],
    mark: Marking,
) -> list[AnsweredExample]:
    """Each with the answer chosen and its `agreement`; the teacher is asked ``plan.samples`` - 1 times more.

    Where it mended its first answers it mends the others too, so that like is held against like. Only answers that
    ``fits`` finds nothing wrong with can be chosen. Where none does, the first one stays.
    """
    assert asking.teacher is not None, "the recipe's own check sees to this"
    asked = [(one.example, None) for one in answered]
    candidates = [[one] for one in answered]
    drawn = (
        replace(asking.settings, temperature=plan.temperature, top_p=plan.top_p, seed=seed + number)
        for number in count(1)
    )
    # One drawn just as the first answer was is the first answer, and would count twice.
    others = (settings for settings in drawn if settings != asking.settings)
    for number, settings in enumerate(islice(others, plan.samples - 1), 1):
        name = f"samples, {number + 1} of {plan.samples}"
        found = asking.teacher(asked, settings, name)
        more = [
            replace(one, answer=answer, settings=settings, origin="teacher", before=None, parent=None, note="")
            for one, answer in zip(answered, found, strict=True)
        ]
        if asking.refine is not None:
            more = asking.refine(more, settings, f"{name} refined")
        for own, sample in zip(candidates, more, strict=True):
            own.append(sample)
    shares = [agreement([one.answer.text for one in own], plan.alike == "words") for own in candidates]
    scored = [
        [replace(one, scores={**one.scores, "agreement": share}) for one, share in zip(own, alike, strict=True)]
        for own, alike in zip(candidates, shares, strict=True)
    ]
    eligible = [[one for one in own if fits(one)] or own[:1] for own in scored]
    if plan.choose == "judge":
        eligible = _marked(eligible, mark)
    by = {"first": lambda one: 0.0, "majority": _score("agreement"), "judge": _score("judge")}[plan.choose]
    if plan.choose == "first":
        return [own[0] for own in scored]
    return [max(own, key=by) for own in eligible]  # of equals the earliest


def agreement(texts: Sequence[str], by_words: bool) -> list[float]:
    """For each text, the share of the others that say the same; by words, how alike they are on average (F1)."""
    said = [normalize(text) for text in texts]
    if not by_words:
        counts = Counter(said)
        return [(counts[text] - 1) / (len(said) - 1) for text in said]
    words = [Counter(text.split()) for text in said]
    return [
        sum(_f1(own, other) for at, other in enumerate(words) if at != place) / (len(words) - 1)
        for place, own in enumerate(words)
    ]


def _f1(one: Counter[str], other: Counter[str]) -> float:
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 1.0


def _marked(eligible: Sequence[Sequence[AnsweredExample]], mark: Marking) -> list[list[AnsweredExample]]:
    """All candidates with the judge's marks, in one asking."""
    found = iter(mark([one for own in eligible for one in own]))
    return [[with_mark(one, next(found)[0]) for one in own] for own in eligible]


def with_mark(one: AnsweredExample, mark: float | None) -> AnsweredExample:
    """The answer with its mark among its scores, if there is one."""
    return one if mark is None else replace(one, scores={**one.scores, "judge": mark})


def _score(name: str) -> Callable[[AnsweredExample], float]:
    return lambda one: one.scores.get(name, -1.0)
