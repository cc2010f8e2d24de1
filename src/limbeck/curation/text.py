"""Rules on the answer's own words: what it lacks, how long it is, what it repeats, which language it is in.

A rule looks at one answer and says why it is dropped, or None. It knows nothing of other answers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import regex

from limbeck.records import AnsweredExample

__all__ = [
    "Rule",
    "empty",
    "known_languages",
    "language_of",
    "length",
    "other_language",
    "refusal",
    "repetition",
    "truncated",
]

Rule = Callable[[AnsweredExample], str | None]
"""Why an answer is dropped; None where the rule has nothing against it."""

REFUSALS = (
    r"(?:i(?:'m| am)(?: very| so| truly)? (?:sorry|afraid)|(?:my )?apologies|i apologi[sz]e)\b.{0,80}?"
    r"(?:(?:\b(?:i|we)(?:'m| am|'re| are)? (?:\w+ )?|[,.;:] (?:but )?)"
    r"(?:can(?:'?t|not)|unable|not able|won'?t|don'?t have|not comfortable)|\bnot (?:possible|allowed))\b",
    r"(?:unfortunately,? )?(?:as|i am|i'm) an? (?:ai|artificial intelligence|(?:large )?language model)\b",
    r"(?:unfortunately,? )?i (?:can(?:'?t|not)|won'?t|am unable to|am not able to|must decline to|have to decline to)"
    r" (?:\w+ )?(?:help|assist|answer|provide|comply|do|fulfil|fulfill|complete|respond|discuss|share|generate|create"
    r"|write|give|engage|support)\b",
    r"(?:sorry,? )?(?:but )?i(?:'m| am) (?:unable|not able) to\b",
    r"i(?:'d| would) (?:rather|prefer) not\b",
    r"i decline to\b",
)
"""How refusals begin: the openings that the refusal lists of Zou et al. (arXiv:2307.15043, appendix B) and of the
WildGuard and XSTest sets have in common. Only an answer's beginning counts: "I'm sorry to hear that" is no refusal, nor
is an answer that quotes one, or that is sorry for what others cannot do."""

_REFUSAL = regex.compile("|".join(f"(?:{one})" for one in REFUSALS), regex.IGNORECASE)

OPENING = 240
"""Characters of an answer in which a refusal is looked for."""

LETTERS = 24
"""With fewer letters no language is told: "yes" and "leak" are words of several."""

SURE = 0.9
"""The probability from which another language counts as found."""


def empty(one: AnsweredExample) -> str | None:
    """An answer without a word."""
    return None if one.answer.text.strip() else "no text"


def truncated(one: AnsweredExample) -> str | None:
    """An answer cut off by the token limit, or by a filter: it would teach never to end."""
    answer = one.answer
    if answer.finish_reason == "stop":
        return None
    if answer.finish_reason == "filtered":
        return "broken off by the service's content filter"
    return f"cut off after {answer.response_tokens} tokens" if answer.is_counted else "cut off"


def refusal(one: AnsweredExample) -> str | None:
    """An answer that begins by declining."""
    opening = one.answer.text.strip()[:OPENING].replace("’", "'").lstrip("\"'*#> \n")
    found = _REFUSAL.match(opening, timeout=1.0)
    return f'begins "{found.group()[:60]}"' if found else None


def length(least: int, most: int | None) -> Rule:
    """An answer of fewer or more characters."""

    def rule(one: AnsweredExample) -> str | None:
        count = len(one.answer.text.strip())
        if least <= count and (most is None or count <= most):
            return None
        return f"{count} characters; expected {least} to {most}" if most else f"{count} characters; expected {least}"

    return rule


def repetition(share: float) -> Rule:
    """An answer of which so much is said again: 4-grams of words that came before, over all of them.

    The duplicate n-gram fraction of the Gopher rules (Rae et al., arXiv:2112.11446, table A1), on whole answers and
    from 20 words up: a list of labels repeats itself by right. Text written without spaces is taken by characters.
    """

    def rule(one: AnsweredExample) -> str | None:
        words: Sequence[str] = one.answer.text.casefold().split()
        if len(one.answer.text) > 12 * max(1, len(words)):
            words = one.answer.text.casefold()
        grams = [tuple(words[at : at + 4]) for at in range(len(words) - 3)]
        if len(words) < 20:
            return None
        again = 1 - len(set(grams)) / len(grams)
        return f"{again:.0%} of it is said again" if again > share else None

    return rule


def other_language(wanted: Collection[str]) -> Rule:
    """An answer in none of the ``wanted`` languages (ISO 639-1); ``prompt`` stands for that of the prompt."""

    def rule(one: AnsweredExample) -> str | None:
        found = language_of(one.answer.text)
        own = language_of(one.example.prompt.messages[-1].text) if "prompt" in wanted else None
        accepted = {code for code in (*wanted, own) if code and code != "prompt"}
        if found is None or not accepted or found in accepted:
            return None
        return f"in {found}; expected {' or '.join(sorted(accepted))}"

    return rule


@functools.lru_cache(maxsize=65536)
def language_of(text: str) -> str | None:
    """The language's code, by py3langid; None for a short text, one in no language, or one that may be several."""
    if sum(character.isalpha() for character in text[:2000]) < LETTERS * (0.25 if _is_dense(text) else 1):
        return None
    code, sure = _identifier().classify(text[:2000])
    return str(code) if sure >= SURE and code != "zxx" else None


def known_languages() -> frozenset[str]:
    """The codes that `language_of` can give."""
    return frozenset(_identifier().labels) - {"zxx"}


def _is_dense(text: str) -> bool:
    """Whether it is written in signs that say as much as a word's four letters: Chinese, Japanese, Korean."""
    return any("\u3040" <= character <= "\u9fff" or "\uac00" <= character <= "\ud7af" for character in text[:200])


@functools.cache
def _identifier() -> Any:
    # Half a second and 30 MB: only for those who ask for languages.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
