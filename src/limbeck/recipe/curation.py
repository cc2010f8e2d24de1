"""Which answers are learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from limbeck.recipe.section import Section, Seed, like
from limbeck.recipe.teacher import Teacher

__all__ = ["Curation", "Inside", "Judge", "Private", "Votes", "Weight"]


Private = Literal[
    "anthropic-key",
    "aws-key",
    "aws-secret",
    "card",
    "email",
    "github-token",
    "gitlab-token",
    "google-key",
    "hugging-face-token",
    "iban",
    "ip",
    "jwt",
    "npm-token",
    "openai-key",
    "password-in-url",
    "phone",
    "private-key",
    "pypi-token",
    "slack-token",
    "ssn",
    "stripe-key",
]
"""The kinds of personal data and secrets that are looked for; how, `curation/privacy.py` has."""


class Votes(Section):
    """The teacher answers a prompt several times, and the answers are held against each other."""

    samples: Annotated[int, Field(ge=2, le=64)] = 5
    """How many answers there are of each prompt, the first among them."""
    temperature: Annotated[float, Field(gt=0.0, le=2.0)] = 0.7
    """Of the others; greedy answers would all be the same."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    choose: Literal["first", "majority", "judge"] = "majority"
    """Which is learned: the first, the one the others agree with most, or the one the judge marks highest."""
    alike: Literal["exact", "words"] = "exact"
    """When two answers agree: if their words are the same in the same order, or by the share of words in common."""
    threshold: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Drop an answer with which less than this share of the others agrees."""


class Judge(Section):
    """A model marks every answer, from 0 to 1."""

    model: Teacher | None = None
    """Who judges, as `teacher` is given or by its name alone; by default the teacher."""
    rubric: Annotated[str, Field(min_length=1)] = "Correctness"
    """What the mark is for: the name of one of the built-in rubrics, or a question of your own."""
    threshold: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Drop an answer with a lower mark."""

    @field_validator("model", mode="before")
    @classmethod
    def _a_name_alone(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value


class Curation(Section):
    """What is not trained on, besides held-out prompts, empty answers and those cut off. Nothing is deleted: it is
    marked with its rule."""

    refusals: bool = False
    """Drop answers that begin by declining."""
    languages: tuple[Annotated[str, like(r"[a-z]{2,3}|prompt", "a code of ISO 639 such as de, or prompt")], ...] = ()
    """Drop answers in other languages than these (ISO 639-1); `prompt` is that of the prompt."""
    min_characters: Annotated[int, Field(ge=0)] = 0
    max_characters: Annotated[int, Field(ge=1)] | None = None
    repetition: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Drop answers of which a larger share is said again (4-grams of words; 0.3 is a fair bound)."""
    json_schema: Path | dict[str, Any] | None = None
    """Drop answers that are not JSON of this schema: a file, or the schema itself."""
    labels: Literal["given"] | Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Drop answers that are none of these, letter by letter; `given` are the labels the user's rows have."""
    pattern: Annotated[str, Field(min_length=1)] | None = None
    """Drop answers that this regular expression does not match from beginning to end."""
    near_duplicates: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Drop prompts as alike as this to an earlier one (Jaccard similarity of words and their pairs)."""
    contamination: Annotated[int, Field(ge=3, le=100)] | None = None
    """Drop prompts that share a run of so many words with a held-out one (13 is GPT-3's)."""
    privacy: Literal["keep", "mask", "drop"] = "keep"
    """What becomes of personal data and secrets: left, masked in prompt and answer, or the example dropped."""
    private: tuple[Private, ...] = ()
    """Which kinds count; by default all."""
    phone_region: Annotated[str, like(r"[A-Z]{2}", "a region of ISO 3166 such as DE")] | None = None
    """Where phone numbers without a country code are from (ISO 3166); without it only those with one are found."""
    balance: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """The most that one answer may be of all that is trained on."""
    votes: Votes | None = None
    judge: Judge | None = None
    seed: Seed = 0
    """Of what is drawn: samples of the votes, who goes where a label has too many."""

    @model_validator(mode="after")
    def _whole(self) -> Curation:
        if self.max_characters is not None and self.max_characters < self.min_characters:
            raise ValueError(
                f"max_characters: found {self.max_characters}; expected at least min_characters, {self.min_characters}"
            )
        for key in ("private", "phone_region"):
            if getattr(self, key) and self.privacy == "keep":
                raise ValueError(f"{key}: nothing private is looked for; expected privacy: mask, or drop, beside it")
        if self.votes is not None and self.votes.choose == "judge" and self.judge is None:
            raise ValueError("votes.choose: judge chooses, and there is none; say judge: {rubric: …}")
        return self


Weight = Annotated[float, Field(ge=0.0)]


Inside = Annotated[float, Field(gt=0.0, lt=1.0)]
