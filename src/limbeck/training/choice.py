"""Which objective a pair of models bears, decided before the first step: what cannot be learned is refused with the
reason and the strongest objective that can; `objective: auto` takes that one and says why.

| teacher's answers came   | tokens      | strongest valid objective                                        |
|--------------------------|-------------|------------------------------------------------------------------|
| with distributions       | the same    | `forward_kl` on its candidates and the rest                      |
| with distributions       | others      | `forward_kl` where both cut the text alike, text elsewhere       |
| with distributions       | not matched | `cross_entropy`                                                  |
| as text                  | any         | `cross_entropy`                                                  |

Stronger means that more of what the teacher knows is told to the student at each token.
"""

from __future__ import annotations

from dataclasses import dataclass

from limbeck.errors import InvalidInput, NotYet
from limbeck.models.chat import Renderer
from limbeck.models.token_bytes import TokenBytes
from limbeck.recipe import Objective
from limbeck.training.examples import same_tokens

__all__ = ["Choice", "Pair", "choose", "pair_of"]


@dataclass(frozen=True)
class Pair:
    """What is known of a teacher and a student before training."""

    distributions: bool
    """Every answer to learn from came with the teacher's distributions."""
    same_tokens: bool = True
    """Both write a text in the same tokens."""
    matched: bool = True
    """The bytes of both models' tokens are known."""
    reads: bool = True
    """The teacher can be asked while the student learns."""

    @property
    def strongest(self) -> tuple[Objective, str]:
        """The strongest valid objective, and why it is that."""
        if not self.distributions:
            return Objective(cross_entropy=1.0), "the answers are text without the teacher's distributions"
        if not self.same_tokens and not self.matched:
            return Objective(cross_entropy=1.0), "the teacher's tokens cannot be matched with the student's"
        if self.same_tokens:
            return Objective(forward_kl=1.0), "the teacher's distributions are known, over the student's own tokens"
        return (
            Objective(forward_kl=1.0),
            "the teacher's distributions are known, over other tokens than the student's: they are learned where both"
            " cut the text alike, and the text elsewhere",
        )


@dataclass(frozen=True)
class Choice:
    """The objective that is minimized, and what a person should know about it."""

    objective: Objective
    reason: str
    same_tokens: bool = True


def pair_of(student: Renderer, teacher: Renderer | None, distributions: bool, reads: bool = True) -> Pair:
    """What the two models' tokenizers say; ``teacher`` is None where there is none, or the answers are text alone."""
    if teacher is None:
        return Pair(distributions=False, reads=False)
    same = same_tokens(student, teacher)
    return Pair(distributions, same, same or all(_readable(renderer) for renderer in (student, teacher)), reads)


def _readable(renderer: Renderer) -> bool:
    try:
        TokenBytes(renderer.tokenizer)
    except NotYet:
        return False
    return True


def choose(wish: Objective, auto: bool, pair: Pair) -> Choice:
    """``wish``, if ``pair`` bears it, or with ``auto`` the strongest it bears. Raises `InvalidInput`."""
    best, why = pair.strongest
    named = f"{{{', '.join(f'{name}: {weight:g}' for name, weight in best.weights.items())}}}"
    if auto:
        return Choice(best, f"objective: {named}, because {why}", pair.same_tokens)
    fault = _fault(wish, pair)
    if fault:
        raise InvalidInput(f"training.objective.{fault}; the strongest that is valid is {named}, because {why}")
    return Choice(wish, "", pair.same_tokens)


def _fault(wish: Objective, pair: Pair) -> str:
    """Why a pair does not bear ``wish``; empty if it does."""
    first = next(iter(wish.signalled), "")
    if first and not pair.distributions:
        return f"{first}: the answers came without the teacher's distributions"
    if first and not pair.same_tokens and not pair.matched:
        return f"{first}: the teacher's tokens are not the student's, and their bytes cannot be told"
    if wish.on_policy is not None and not pair.same_tokens:
        return "on_policy: the teacher's tokens are not the student's, so it cannot read what the student writes"
    if wish.hidden is not None and not pair.same_tokens:
        return "hidden: the teacher's tokens are not the student's, so their states do not stand at the same places"
    if wish.hidden is not None and not pair.reads:
        return "hidden: the teacher's hidden states cannot be read"
    if wish.on_policy is not None and not pair.reads:
        return "on_policy: the teacher cannot be asked for its whole distributions while the student learns"
    return ""
