"""The rules in their order, applied to all answers: each gets its verdict.

| rule           | drops                                                                     | by                    |
|----------------|---------------------------------------------------------------------------|-----------------------|
| held-out       | a prompt that, as it stands or normalized, is also held out               | always                |
| empty          | an answer without a word                                                  | always                |
| truncated      | an answer cut off by the token limit or a filter: it teaches never to end | always                |
| refusal        | an answer that begins by declining                                        | `refusals`            |
| length         | too short or too long an answer                                           | `min_characters`, …   |
| schema         | an answer that is not JSON of a schema                                    | `json_schema`         |
| label          | an answer that is none of the labels                                      | `labels`              |
| pattern        | an answer that does not match                                             | `pattern`             |
| repetition     | an answer that says much of itself again                                  | `repetition`          |
| language       | an answer in another language                                             | `languages`           |
| disagreement   | an answer that too few other samples agree with                           | `votes.threshold`     |
| private        | an example with personal data or secrets in it                            | `privacy: drop`       |
| contamination  | a prompt that has a run of words in common with a held-out one            | `contamination`       |
| near-duplicate | a prompt much like an earlier one                                         | `near_duplicates`     |
| judge          | an answer with too low a mark, or none                                    | `judge.threshold`     |
| balance        | answers of a label that has more than its share, drawn                    | `balance`             |

They are tried in this order, what costs most last, and the first that complains is the verdict. Before, the answer may
be chosen of several (`votes`); after `private`, what is private may be masked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from limbeck.curation.asking import Asking
from limbeck.curation.balance import surplus
from limbeck.curation.duplicates import contaminated, near_duplicates
from limbeck.curation.judge import marks
from limbeck.curation.masking import mask, read_again
from limbeck.curation.privacy import checked_kinds
from limbeck.curation.rules import answer_rules
from limbeck.curation.text import Rule
from limbeck.curation.votes import vote, with_mark
from limbeck.recipe import Curation
from limbeck.records import AnsweredExample, Example, Prompt, Verdict
from limbeck.rubrics import named

__all__ = ["Sieve", "judge"]

KEPT = Verdict(True, "kept")


def judge(answered: AnsweredExample, guarded: set[str], rules: Mapping[str, Rule]) -> Verdict:
    """The verdict on one answer by itself; ``guarded`` holds the normalized ids of the held-out prompts."""
    if answered.example.prompt.normalized_id in guarded:
        return Verdict(False, "held-out", "the prompt is also in the examination")
    for name, rule in rules.items():
        against = rule(answered)
        if against is not None:
            return Verdict(False, name, against)
    return KEPT


class Sieve:
    """The answers with their verdicts so far. Each step is a method; none gives back an answer another dropped."""

    def __init__(
        self,
        answered: Sequence[AnsweredExample],
        examples: Sequence[Example],
        plan: Curation,
        asking: Asking,
    ) -> None:
        self._answers = list(answered)
        self._verdicts = [KEPT] * len(answered)
        self._plan, self._asking = plan, asking
        self._held_out = [example.prompt for example in examples if example.split == "held-out"]
        self._guarded = {prompt.normalized_id for prompt in self._held_out}
        self._rules = answer_rules(plan, examples)
        self._kinds = checked_kinds(plan.private)
        self.notes: dict[int, str] = {}
        self.masked = 0

    @property
    def all(self) -> list[tuple[AnsweredExample, Verdict]]:
        """Every answer and its verdict."""
        return list(zip(self._answers, self._verdicts, strict=True))

    def run(self) -> None:
        """Every rule the plan asks for, in the order of the table above."""
        plan = self._plan
        self._vote()
        self._verdicts = [judge(one, self._guarded, self._rules) for one in self._answers]
        if plan.votes is not None:
            self._drop("disagreement", self._disagreements)
        if plan.privacy != "keep":
            self._keep_private()
        if plan.contamination is not None:
            words = plan.contamination
            self._drop("contamination", lambda kept: _shared(contaminated(_prompts(kept), self._held_out, words)))
        if plan.near_duplicates is not None:
            self._drop("near-duplicate", self._alike)
        if plan.judge is not None:
            self._mark()
        if plan.balance is not None:
            share = plan.balance
            self._drop(
                "balance",
                lambda kept: surplus([one.answer.text.strip() for one in kept], share, plan.seed),
                lambda one: one.example.split == "train",
            )

    def _places(self, wanted: Callable[[AnsweredExample], bool] = lambda one: True) -> list[int]:
        pairs = enumerate(self.all)
        return [place for place, (one, verdict) in pairs if verdict.keep and wanted(one)]

    def _drop(
        self,
        rule: str,
        find: Callable[[Sequence[AnsweredExample]], Mapping[int, str]],
        wanted: Callable[[AnsweredExample], bool] = lambda one: True,
    ) -> None:
        """Drop what ``find`` finds among those still kept: places in what it is given, and why."""
        places = self._places(wanted)
        for found, detail in find([self._answers[place] for place in places]).items():
            self._verdicts[places[found]] = Verdict(False, rule, detail)

    def _vote(self) -> None:
        """Only of the teacher's own answers, mended or not, are there others; a held-out prompt is not asked."""
        votes = self._plan.votes
        if votes is None:
            return
        guarded, rules = self._guarded, self._rules
        places = [
            at
            for at, one in enumerate(self._answers)
            if _is_the_teachers(one) and one.example.prompt.normalized_id not in guarded
        ]
        chosen = vote(
            [self._answers[at] for at in places],
            votes,
            self._plan.seed,
            self._asking,
            lambda one: judge(one, guarded, rules).keep,
            self._marks,
        )
        for at, one in zip(places, chosen, strict=True):
            self._answers[at] = one

    def _disagreements(self, kept: Sequence[AnsweredExample]) -> dict[int, str]:
        assert self._plan.votes is not None, "asked for only where there are votes"
        least = self._plan.votes.threshold
        shares = [one.scores.get("agreement", 1.0) for one in kept]
        return {at: f"{share:.0%} of the others agree" for at, share in enumerate(shares) if share < least}

    def _alike(self, kept: Sequence[AnsweredExample]) -> dict[int, str]:
        texts = ["\n".join(turn.text for turn in prompt.turns) for prompt in _prompts(kept)]
        assert self._plan.near_duplicates is not None, "asked for only where there is a bound"
        found = near_duplicates(texts, self._plan.near_duplicates)
        return {at: f"{alike:.0%} like {kept[other].example.place}" for at, (other, alike) in found.items()}

    def _keep_private(self) -> None:
        plan = self._plan
        places = self._places()
        before = [self._answers[at] for at in places]
        masked = mask(before, self._kinds, plan.phone_region)
        if plan.privacy == "drop":
            for at, one in zip(places, masked, strict=True):
                if one.kinds:
                    self._verdicts[at] = Verdict(False, "private", ", ".join(one.kinds))
            return
        for at, one, new in zip(places, masked, read_again(before, masked, self._asking), strict=True):
            self._answers[at] = new
            if one.kinds:
                self.masked += 1
                self.notes[at] = f"masked: {', '.join(one.kinds)}"

    def _mark(self) -> None:
        assert self._plan.judge is not None, "asked for only where there is a judge"
        least = self._plan.judge.threshold
        places = self._places()
        found = self._marks([self._answers[at] for at in places])
        for at, (mark, said) in zip(places, found, strict=True):
            self._answers[at] = with_mark(self._answers[at], mark)
            if mark is None:
                self._verdicts[at] = Verdict(False, "judge", f"came to no mark: {said}")
            elif mark < least:
                self._verdicts[at] = Verdict(False, "judge", f"{mark:g}, below {least:g}: {said}")

    def _marks(self, items: Sequence[AnsweredExample]) -> list[tuple[float | None, str]]:
        assert self._plan.judge is not None, "the recipe's own check sees to this"
        return marks(items, named(self._plan.judge.rubric), self._asking)


def _is_the_teachers(one: AnsweredExample) -> bool:
    """Whether the teacher answered of its own; what it mended may also be the row's label."""
    return one.origin == "teacher" or (one.origin == "refined" and one.parent != one.example.id)


def _prompts(answered: Sequence[AnsweredExample]) -> list[Prompt]:
    return [one.example.prompt for one in answered]


def _shared(found: Mapping[int, str]) -> dict[int, str]:
    return {at: f'has "{run}" in common with a held-out prompt' for at, run in found.items()}
