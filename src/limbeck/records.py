"""What travels down the river: plain frozen values. Where they are stored is somebody else's concern.

A `Prompt` is a conversation that ends with the user. An `Example` is a prompt, what is known of its answer, and
where it came from. An `Answer` is what a model said, token by token, with `SoftLabels` where the model let us see
them. A `Verdict` says whether an answered example is trained on and which rule decided. `Score`s make a `Report`,
and a `CustomModel` is a registered student with its lineage.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import regex

__all__ = [
    "VERDICTS",
    "Answer",
    "AnsweredExample",
    "CustomModel",
    "Document",
    "Example",
    "Fault",
    "FinishReason",
    "GenerationSettings",
    "Hosted",
    "Invocation",
    "Message",
    "Origin",
    "Prompt",
    "Quantization",
    "Question",
    "Report",
    "Role",
    "Score",
    "SoftLabels",
    "SoftLabelsLater",
    "Split",
    "Verdict",
    "digest",
    "folded",
    "normalize",
]

Role = Literal["system", "user", "assistant"]
Split = Literal["train", "validation", "held-out"]
FinishReason = Literal["stop", "length", "filtered"]
"""Why an answer ended: by itself, at the longest it may be, or broken off by a filter of the service that gave it."""
Origin = Literal["given", "log", "augmented", "teacher", "refined"]
"""Where a text came from: the user's files, an invocation log, a teacher that wrote a prompt like another, a teacher
that answered, a teacher that mended an answer."""
Quantization = Literal["f32", "f16", "q8_0", "q4_1", "q4_0"]
"""How many bits a weight has in a GGUF file: 32, 16, 8.5, 5 or 4.5. The names are llama.cpp's."""


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, no spaces, UTF-8), in hexadecimal."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class Message:
    """One turn: who speaks, and the text."""

    role: Role
    text: str


@dataclass(frozen=True)
class Prompt:
    """A conversation that waits for the assistant: an optional system turn, then turns that end with the user."""

    messages: tuple[Message, ...]

    @property
    def system(self) -> str | None:
        """The system prompt, if there is one."""
        return self.messages[0].text if self.messages and self.messages[0].role == "system" else None

    @property
    def turns(self) -> tuple[Message, ...]:
        """The turns after the system prompt."""
        return self.messages[1:] if self.system is not None else self.messages

    @property
    def answers(self) -> list[str]:
        """What the assistant has said so far."""
        return [message.text for message in self.messages if message.role == "assistant"]

    @cached_property
    def id(self) -> str:
        """Content hash: equal prompts have equal ids, always and everywhere."""
        return digest([[m.role, m.text] for m in self.messages])

    @cached_property
    def normalized_id(self) -> str:
        """Content hash of the turns, each normalized: cases, punctuation and extra spaces do not matter.

        The system prompt is left out: the same question under another instruction is still the same question,
        and must not be trained on in one form and examined in the other.
        """
        return digest([[m.role, normalize(m.text)] for m in self.turns])

    def with_system(self, text: str) -> Prompt:
        """The same prompt, with ``text`` as its system prompt if it has none."""
        return self if self.system is not None else Prompt((Message("system", text), *self.messages))


_WORD = regex.compile(
    r"""(?:
      [\p{L}\p{N}] [\p{L}\p{N}\p{M}]*                           # letters with their marks, numbers
    | (?<=\d) [.,:/-] (?=\d) | (?<!\w) [-+] (?=\d)              # 1.2, 1/2, -5
    | [$€£¥] (?=\d) | (?<=\d\s?) [%€$£¥°]                       # $5, 5 %
    | (?<=\d\s?) [-+*/^×÷=<>≤≥≠±] (?=\s?[-+]?\d)                # 7 - 5
    | (?<=\p{L}\+?) [+\#] (?!\w)                                # C++, C#
    )+
    | \p{RI}{2} | (?![©®])\p{ExtPict} (?:\u200d\p{ExtPict})*     # a flag, an emoji
    """,
    regex.VERBOSE,
)

_DRESS = re.compile("[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]")
"""What says how an emoji is drawn, and in which color of skin."""


def folded(text: str) -> str:
    """``text`` after Unicode NFKC and case folding; that takes some letters apart, so NFKC again: Μαΐου is ΜΑΪ́ΟΥ."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def normalize(text: str) -> str:
    """Its words after Unicode NFKC and case folding, without punctuation; of a text without words, the text.

    Signs that make another number or name of one (1.2 and 1/2, 5 and -5, C++ and C#) are no punctuation, and nor are
    emoji, which may be all that a question is about; only how they are drawn does not matter.
    """
    plain = _DRESS.sub("", folded(text))
    return " ".join(_WORD.findall(plain)) or plain.strip()


_UNPRINTED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def _in_one_line(text: str) -> str:
    """``text`` with line breaks, what steers a terminal and halves of characters spelled out: ``\\n``, ``\\ud800``."""
    return _UNPRINTED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


@dataclass(frozen=True)
class Fault:
    """One thing wrong with one row: where, what was found, what was expected. It is always told in one line."""

    file: str
    line: int
    field: str
    found: str
    expected: str

    def __post_init__(self) -> None:
        for name in ("file", "field", "found"):  # they quote what others wrote
            object.__setattr__(self, name, _in_one_line(getattr(self, name)))

    def __str__(self) -> str:
        return f"{self.file} line {self.line}: {self.field}: found {self.found}; expected {self.expected}"


@dataclass(frozen=True)
class Example:
    """A prompt with its label, if one was given, and where it came from."""

    prompt: Prompt
    label: str | None
    """The answer the user gave; None where the teacher is to answer."""
    split: Split
    file: str
    line: int
    """The first line (from 1) it stood on."""
    copies: int = 1
    """How many rows were the same; they are folded into this one."""
    origin: Origin = "given"
    """Of the prompt."""
    parent: str | None = None
    """The id of the example this prompt was made from."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What the caller of a logged request sent with it."""
    whole: Prompt | None = None
    """The prompt with the parts that only the teacher sees; None where there are none."""
    others: tuple[Mapping[str, str], ...] = ()
    """The metadata of its copies, where it is another than the first one's."""
    method: str | None = None
    """How the teacher was asked for this prompt, where it wrote it."""
    unmasked: str | None = None
    """The id it had before what is private in its prompt was masked; None where nothing was."""

    @property
    def id(self) -> str:
        """The prompt's content hash."""
        return self.prompt.id

    @property
    def place(self) -> str:
        """Where it stood, as a message says it."""
        return f"{self.file} line {self.line}"


@dataclass(frozen=True)
class Document:
    """A text to be read, in continued pre-training, and where it came from."""

    text: str
    split: Split
    file: str
    line: int
    """The line (from 1) it begins on."""
    copies: int = 1

    @property
    def as_prompt(self) -> Prompt:
        """The text as a prompt: what divides prompts divides documents."""
        return Prompt((Message("user", self.text),))

    @property
    def id(self) -> str:
        """The text's content hash."""
        return self.as_prompt.id


@dataclass(frozen=True)
class GenerationSettings:
    """How an answer is made. Everything that can change the answer is here, so it can be hashed."""

    max_tokens: int
    """The longest answer, in tokens of the answering model, its end-of-turn token included."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    seed: int = 0
    top_k_captured: int = 0
    """How many of the most likely tokens are kept at each position, with their log-probabilities; 0 keeps none."""
    captured_temperature: float = 1.0
    """At which their distribution is kept, whatever the temperature the answer is made at."""
    draws_captured: int = 0
    """How many tokens are drawn from the distribution and kept, in place of the most likely; 0 draws none."""


@dataclass(frozen=True)
class Question:
    """What a model is asked: a prompt, worked examples put before it, and an answer to read instead of one to make."""

    prompt: Prompt
    demonstrations: tuple[tuple[str, str], ...] = ()
    """Golden pairs (user text, assistant text) put before the prompt as turns of the conversation."""
    completion: str | None = None
    """When given, the model does not generate: it reads this answer, and its distributions are captured."""
    place: str = field(default="", compare=False)
    """Where what it is about stands, by which a message names it: its words may be private."""

    def key(self, model: str, settings: GenerationSettings) -> str:
        """The hash under which the answer is stored: of the model, the question and the settings."""
        told = asdict(settings)
        # As it was before these were known: what is stored stays known.
        for key, unsaid in (("captured_temperature", 1.0), ("draws_captured", 0)):
            if told[key] == unsaid:
                del told[key]
        asked: dict[str, Any] = {
            "model": model,
            "prompt": self.prompt.id,
            "demonstrations": [list(pair) for pair in self.demonstrations],
            "completion": self.completion,
            "settings": told,
        }
        return digest(asked)

    @property
    def conversation(self) -> Prompt:
        """The prompt as the model sees it, demonstrations after the system prompt."""
        shown = [
            turn
            for asked, answered in self.demonstrations
            for turn in (Message("user", asked), Message("assistant", answered))
        ]
        system = [] if self.prompt.system is None else [self.prompt.messages[0]]
        return Prompt((*system, *shown, *self.prompt.turns))


@dataclass(frozen=True, eq=False)
class SoftLabels:
    """A teacher's distributions over T response tokens: its K likeliest tokens, and the mass it gave to the rest; or K
    tokens drawn from each, with repetition, that stand for 1/K each and leave no rest.

    They belong to the token ids of the answer they travel with, and are never re-tokenized. They are those of one
    temperature: the tail at another cannot be told from them.
    """

    top_ids_TK: npt.NDArray[np.int32]
    top_logprobs_TK: npt.NDArray[np.float32]
    """Natural logarithms, sorted from the likeliest."""
    tail_logprob_T: npt.NDArray[np.float32]
    """log of the probability of all tokens outside the K; -inf where nothing is left."""

    @property
    def k(self) -> int:
        """How many candidates each position has."""
        return int(self.top_ids_TK.shape[1])

    def opened(self) -> SoftLabels:
        """These labels as arrays in memory."""
        return self


class SoftLabelsLater(SoftLabels):
    """Soft labels that lie in a file, or are otherwise made, each time they are looked at."""

    def __init__(self, k: int, make: Callable[[], SoftLabels]) -> None:
        object.__setattr__(self, "_later", (k, make))

    def opened(self) -> SoftLabels:
        """These labels as arrays in memory."""
        soft: SoftLabels = self.__dict__["_later"][1]()
        return soft

    @property
    def k(self) -> int:
        """How many candidates each position has."""
        return int(self.__dict__["_later"][0])

    def __getattr__(self, name: str) -> Any:
        if name not in ("top_ids_TK", "top_logprobs_TK", "tail_logprob_T"):
            raise AttributeError(name)
        return getattr(self.opened(), name)


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model said to one question."""

    text: str
    token_ids: tuple[int, ...]
    """The response, the end-of-turn token included when the model gave it."""
    finish_reason: FinishReason
    prompt_tokens: int
    """How many the teacher read; 0 where it did not tell."""
    soft_labels: SoftLabels | None = None
    counted_tokens: int | None = None
    """The response's length as the teacher counted it, where the tokens themselves are not known."""
    seconds: float | None = None
    """How long it took, where it was asked for over the network."""

    @property
    def response_tokens(self) -> int:
        """How many tokens the response has; 0 where nobody counted."""
        return len(self.token_ids) or self.counted_tokens or 0

    @property
    def is_counted(self) -> bool:
        """Whether it is known how many tokens the response has: a service need not tell."""
        return bool(self.token_ids) or self.counted_tokens is not None


VERDICTS = (
    "kept",
    "held-out",
    "empty",
    "truncated",
    "refusal",
    "length",
    "schema",
    "label",
    "pattern",
    "repetition",
    "language",
    "disagreement",
    "private",
    "contamination",
    "near-duplicate",
    "judge",
    "balance",
)
"""What a verdict can be: kept, or the rule that drops, in the order in which they are tried."""


@dataclass(frozen=True)
class Verdict:
    """Whether an answered example is trained on, and the rule that decided."""

    keep: bool
    rule: str
    detail: str = ""


@dataclass(frozen=True, eq=False)
class AnsweredExample:
    """An example with its answer: what a student learns from."""

    example: Example
    answer: Answer
    origin: Origin
    """Of the answer: the user's label, the teacher's words, a label that the teacher mended."""
    teacher: str | None
    """The teacher that answered or was read; None when the label alone is learned from."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """What was measured of the answer before its verdict."""
    settings: GenerationSettings | None = None
    """How the answer was asked for, where not as all are: one chosen of several samples."""
    earlier: tuple[Answer, ...] = ()
    """The answers that stand in the prompt as the teacher reads them, in order; none where they are text alone."""
    before: str | None = None
    """The text that the teacher mended: the user's label, or its own first answer."""
    parent: str | None = None
    """What the answer was mended from: the example's id for its label, an answer's key in the store of answers."""
    note: str = ""
    """What became of an attempt to mend it, where nothing did."""

    @property
    def tokens(self) -> tuple[int, int]:
        """The tokens that the teacher read, and those it wrote: an answer that was given is read with its prompt."""
        asked, said = self.answer.prompt_tokens, self.answer.response_tokens
        return (asked + said, 0) if self.origin == "given" else (asked, said)


@dataclass(frozen=True)
class Score:
    """A mean with its bootstrap interval (95%), over ``rows`` held-out rows."""

    value: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True)
class Report:
    """The measurements of one job and what they say."""

    models: Mapping[str, Mapping[str, Any]]
    """By part played (teacher, student before, student after, baseline): scores, latency, cost."""
    rows: int
    verdict: str
    ship: bool
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class CustomModel:
    """A registered student: its name, where its weights are, and its lineage."""

    name: str
    path: Path
    """The folder with weights, tokenizer, chat template and card."""
    kind: str
    base: str
    """The model it was made from."""
    fingerprint: str
    """SHA-256 over weights, configuration and tokenizer."""
    lineage: Mapping[str, Any]

    @property
    def report(self) -> Mapping[str, Any]:
        """What was measured when it was made."""
        found = self.lineage.get("report", {})
        return found if isinstance(found, Mapping) else {}


@dataclass(frozen=True)
class Hosted:
    """What the model identifier of a request stands for."""

    arn: str
    """Of what was named: a base model, a custom or imported model, a deployment, provisioned throughput."""
    model: str
    """The name under which the catalog knows the model behind it."""
    imported: bool = False
    """Imported models answer three body formats of their own."""


@dataclass(frozen=True)
class Invocation:
    """One request to a hosted model and its answer, as the invocation log has it."""

    request_id: str
    timestamp: datetime
    operation: str
    """As the API names it: ``Converse``, ``InvokeModelWithResponseStream``."""
    model_id: str
    """As the caller wrote it."""
    caller: str
    metadata: Mapping[str, str]
    """What the caller sent to find the request by later; empty if nothing."""
    input_body: Any
    """JSON as it came."""
    output_body: Any
    """JSON as it went; a list of events where it was streamed; None where there was only an error."""
    input_tokens: int
    output_tokens: int
    error: str | None = None
    """The error's name on the wire."""
