"""Personal data and secrets: found in prompt and answer, and masked, or the example dropped.

Everything is found by its form, offline: no model of names or places, so who wants those found needs another tool.
Phone numbers come from phonenumbers, the port of Google's own library; cards and bank accounts count only if their
check digits do, IPv6 addresses if the standard library can read them; secrets are known by the prefixes their issuers
gave them, so that scanners can. A placeholder stands for what was masked, the same for the same text in one example, so
that a conversation still makes sense: `[EMAIL-1]`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from typing import Any

import regex
from phonenumbers import PhoneNumberMatcher

from limbeck.errors import InvalidInput
from limbeck.records import Example, Message, Prompt

__all__ = ["PATTERNS", "PERSONAL", "SECRETS", "Finding", "Mask", "checked_kinds", "find"]

_LOCAL = r"[\p{Latin}\p{Greek}\p{Cyrillic}\p{M}\p{N}_.+-]"
"""What an address has before its @; a letter of another script before these is a word of the text."""

PERSONAL: Mapping[str, str] = {
    "email": rf"(?:(?<!{_LOCAL}){_LOCAL}{{1,64}}+|(?<![\w.+-])[\w.+-]{{1,64}}+(?<!{_LOCAL}))"
    r"@(?:[\p{L}\p{N}](?:[\p{L}\p{M}\p{N}-]{0,61}[\p{L}\p{M}\p{N}])?\.){1,8}"
    r"(?:[A-Za-z]{2,24}(?![A-Za-z0-9_])|[\p{L}\p{M}]{2,24})",
    "card": r"(?<![\d.-])(?:2[2-7]\d{2}|[3-6]\d{3})(?:[ -]?\d{4}){2}[ -]?\d{1,7}(?![\d-])"
    r"|(?<![\d.-])3(?:[47]\d{2}[ -]?\d{6}[ -]?\d{5}|[0689]\d{2}[ -]?\d{6}[ -]?\d{4})(?!\d)",
    "iban": r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b",
    "ssn": r"\b(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}\b",
    "ip": r"(?<!\w|\w\.)(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?!\w|\.\w)"
    r"|(?<!\w)(?<![0-9A-Fa-f:]:)(?:[0-9A-Fa-f]{0,4}:){2,7}(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{1,4}|(?<=::))"
    r"(?:%\w{1,15})?(?!\w|:[\w:])",
}
"""The second half of `ip` is what may be IPv6, written out or shortened; `ipaddress` says what is. `ssn` is the United
States' number, in the form the Social Security Administration gives out."""

SECRETS: Mapping[str, str] = {
    "private-key": r"-----BEGIN (?:[A-Z]+ ){0,3}PRIVATE KEY-----(?s:.{0,8192}?)(?:-----END (?:[A-Z]+ ){0,3}PRIVATE"
    r" KEY-----|\Z)",
    "aws-key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "aws-secret": r"(?i:(?:aws.{0,20}?secret|secret.?access.?key).{0,20}?['\"=:\s]{1,4})\K[A-Za-z0-9/+]{40}"
    r"(?![A-Za-z0-9/+])",
    "github-token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9_]{82})\b",
    "gitlab-token": r"\bgl(?:pat|dt|rt|ft|soat)-[\w-]{20,64}\b",
    "slack-token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,200}\b",
    "stripe-key": r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,128}\b",
    "anthropic-key": r"\bsk-ant-[\w-]{24,200}",
    "openai-key": r"\bsk-(?:proj-|svcacct-|admin-)?(?=[\w-]{0,40}\d)[\w-]{20,200}",
    "google-key": r"\bAIza[\w-]{35}\b",
    "hugging-face-token": r"\bhf_[A-Za-z0-9]{34,40}\b",
    "npm-token": r"\bnpm_[A-Za-z0-9]{36}\b",
    "pypi-token": r"\bpypi-AgE[\w-]{50,1000}",
    "jwt": r"\beyJ[\w-]{10,4000}\.eyJ[\w-]{10,8000}\.[\w-]{10,2000}",
    "password-in-url": r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{1,100}:\K[^\s:/@]{3,200}(?=@)",
}

PATTERNS: Mapping[str, str] = {**SECRETS, **PERSONAL}
_WORLDWIDE = ("card", "email")
"""What letters and digits of any script may be in. All else is ASCII, and a word of another script beside it, as in
Chinese without a space between, is no part of it."""

_COMPILED = {
    kind: regex.compile(pattern, regex.UNICODE if kind in _WORLDWIDE else regex.ASCII)
    for kind, pattern in PATTERNS.items()
}

KINDS = frozenset({*PATTERNS, "phone"})

SECONDS = 2.0
"""The most a pattern may take on one text, or on each megabyte of a longer one; none of ours takes half."""


def checked_kinds(wanted: Collection[str]) -> Collection[str]:
    """The kinds a recipe names, all where it names none. Raises `InvalidInput` for one nobody looks for."""
    unknown = sorted(set(wanted) - KINDS)
    if unknown:
        raise InvalidInput(f'curation.private: found "{unknown[0]}"; expected some of {", ".join(sorted(KINDS))}')
    return wanted or KINDS


HIDDEN = "\ufffc"
"""Stands for what was found while the rest is searched: Unicode's object replacement character."""


@dataclass(frozen=True)
class Finding:
    """Something private in a text."""

    kind: str
    start: int
    end: int


def find(text: str, kinds: Collection[str] = KINDS, region: str | None = None) -> list[Finding]:
    """What is private in ``text``, in order and without overlap: of two, the one that begins first, a
    secret rather than what is personal, the longer.

    ``region`` (ISO 3166) is where phone numbers without a country code are from; without it only those with one count.
    """
    found: list[Finding] = []
    # Until nothing more comes to light: digits beside a card are no phone number before the card is gone.
    while new := list(_apart(_scan(text, kinds, region))):
        if new[0].end - new[0].start == len(text):
            return new
        found += new
        text = _replaced(text, new, lambda one: HIDDEN * (one.end - one.start))
    return sorted(found, key=lambda one: one.start)


def _scan(text: str, kinds: Collection[str], region: str | None) -> list[Finding]:
    found: list[Finding] = []
    seconds = SECONDS * max(1.0, len(text) / 1e6)
    for kind, pattern in _COMPILED.items():
        if kind not in kinds:
            continue
        try:
            # What has check digits may begin within what only looks like it: a number before it, say.
            for match in pattern.finditer(text, overlapped=kind in _CHECKS, timeout=seconds):
                length = len(_checked(kind, match.group()))
                if length and HIDDEN not in match.group():
                    found.append(Finding(kind, match.start(), match.start() + length))
        except TimeoutError:  # a text that holds the search up keeps to itself what it holds: all of it is hidden
            return [Finding(kind, 0, len(text))]
    if "phone" in kinds:
        numbers = PhoneNumberMatcher(text, region)
        found += [Finding("phone", one.start, one.end) for one in numbers if HIDDEN not in one.raw_string]
    return found


class Mask:
    """Puts placeholders in the texts of one example, the same one for the same text."""

    def __init__(self, kinds: Collection[str] = KINDS, region: str | None = None) -> None:
        self._kinds, self._region = kinds, region
        self._names: dict[tuple[str, str], str] = {}
        self._numbers: Counter[str] = Counter()

    @property
    def found(self) -> list[str]:
        """The kinds found, each once, in order."""
        return list(dict.fromkeys(kind for kind, _ in self._names))

    def text(self, text: str) -> str:
        """The text with placeholders."""
        found = find(text, self._kinds, self._region)
        return _replaced(text, found, lambda one: self._name(one.kind, text[one.start : one.end]))

    def value(self, value: Any) -> Any:
        """A JSON value with placeholders in its texts; keys stay."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.value(one) for key, one in value.items()}
        return [self.value(one) for one in value] if isinstance(value, list | tuple) else value

    def prompt(self, prompt: Prompt) -> Prompt:
        """The conversation with placeholders."""
        return Prompt(tuple(Message(turn.role, self.text(turn.text)) for turn in prompt.messages))

    def example(self, example: Example) -> Example:
        """The example with placeholders; where the prompt has any it is another one, which knows the id of this."""
        messages = self.prompt(example.prompt).messages
        label = None if example.label is None else self.text(example.label)
        whole = None if example.whole is None else self.prompt(example.whole)
        if messages == example.prompt.messages:
            return replace(example, label=label, whole=whole)
        before = example.unmasked or example.id
        return replace(example, prompt=Prompt(messages), label=label, whole=whole, unmasked=before)

    def _name(self, kind: str, value: str) -> str:
        if (kind, value) not in self._names:
            self._numbers[kind] += 1
            self._names[kind, value] = f"[{kind.upper()}-{self._numbers[kind]}]"
        return self._names[kind, value]


def _apart(found: Sequence[Finding]) -> Iterator[Finding]:
    end = 0
    for one in sorted(found, key=lambda one: (one.start, one.kind not in SECRETS, -one.end)):
        if one.start >= end:
            yield one
            end = one.end


def _replaced(text: str, found: Sequence[Finding], by: Callable[[Finding], str]) -> str:
    parts, at = [], 0
    for one in found:
        parts += [text[at : one.start], by(one)]
        at = one.end
    return "".join([*parts, text[at:]])


def _checked(kind: str, text: str) -> str:
    """What of a match its check digits hold for, without the words after it that only look like more; often all."""
    check = _CHECKS.get(kind, _always)
    while text and not check(text):
        text = text.rpartition(" ")[0]
    return text


def _luhn(text: str) -> bool:
    """The check digit of a card (ISO/IEC 7812-1, annex B)."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(text: str) -> bool:
    """The check digits of a bank account (ISO 13616, by ISO 7064's mod 97-10)."""
    whole = text.replace(" ", "")
    turned = whole[4:] + whole[:4]
    return 15 <= len(whole) <= 34 and int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


def _ip(text: str) -> bool:
    """An address of IPv4, as its pattern has it, or of IPv6 (RFC 4291, section 2.2).

    One that is shortened has a digit: `dead::beef` is two names and what joins them.
    """
    if ":" not in text:
        return True
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return "::" not in text or any(character.isdigit() for character in text)


def _always(_: str) -> bool:
    return True


_CHECKS = {"card": _luhn, "iban": _iban, "ip": _ip}
