"""One job, typed. A recipe is read from YAML, from flags, or made in Python; unknown keys are refused.

```yaml
kind: distillation
name: service-desk
source: {prompts: prompts.jsonl}
teacher: {model: service-desk-teacher}
student: {shrink: {layers: 6}}
```

Only `kind`, `name`, `source` and (for a distillation) `teacher` must be said; everything else has a default, and
`Recipe.dump` shows the recipe with every default written out.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from limbeck.errors import InvalidRecipe, NotYet
from limbeck.filters import filter_faults
from limbeck.records import GenerationSettings, Quantization

__all__ = [
    "Adapter",
    "Augment",
    "Budget",
    "Columns",
    "Curation",
    "Evaluation",
    "Export",
    "Judge",
    "Kind",
    "Logs",
    "Objective",
    "Prices",
    "Recipe",
    "Refine",
    "Shrink",
    "Source",
    "Student",
    "Synthesis",
    "Teacher",
    "Timeouts",
    "Training",
    "Trial",
    "Votes",
]

Kind = Literal["distillation", "fine-tuning", "continued-pre-training"]

MINIMUM_ROWS: Mapping[Kind, int] = {"distillation": 100, "fine-tuning": 8, "continued-pre-training": 1}
"""The fewest valid rows a job is run on: what Amazon Bedrock asks for."""

MINIMUM_DESCRIBED = 3
"""The fewest where the teacher is told what the prompts are for, and writes others."""

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Name = Annotated[str, Field(pattern=r"^(?:[0-9a-zA-Z][_-]?){1,63}$")]

INCIDENTAL = ("key", "concurrency", "attempts", "timeout", "prices", "budget")
"""Keys of a teacher that change no answer."""

RUNNABLE: tuple[Kind, ...] = ("distillation", "fine-tuning", "continued-pre-training")
"""The kinds the river can run."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Logs(_Section):
    """Which records of an invocation log are learned from."""

    uri: Annotated[str, Field(min_length=1)]
    """A folder that holds AWSLogs, or s3://BUCKET/PREFIX."""
    filter: dict[str, Any] | None = None
    """Of request metadata, as the API has it: equals, notEquals, andAll or orAll."""
    use_responses: bool = False
    """Take the responses of one model as they are; without it the prompts of all models are answered anew."""
    model: str | None = None
    """Whose responses: a modelId exactly as the log has it; by default `teacher.model`."""
    sample: Annotated[int, Field(ge=1)] | None = None
    """The most different prompts to take; which, their content decides."""

    @field_validator("filter")
    @classmethod
    def _as_the_api_has_it(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and (faults := filter_faults(value)):
            raise ValueError("; ".join(faults))
        return value


class Columns(_Section):
    """Which columns of a table are what."""

    prompt: Annotated[str, Field(min_length=1)]
    completion: Annotated[str, Field(min_length=1)] | None = None
    system: Annotated[str, Field(min_length=1)] | None = None
    context: Annotated[str, Field(min_length=1)] | None = None


class Source(_Section):
    """Where the rows come from and how they are divided."""

    prompts: Path | Annotated[tuple[Path, ...], Field(min_length=1)] | None = None
    """JSONL, one file or several: prompts, with or without their answers."""
    logs: Logs | None = None
    """Invocation logs, whose records are rows beside those of `prompts`, or instead of them."""
    columns: Columns | None = None
    """Of tables, files that end in .csv or .parquet; by default the columns of those very names."""
    held_out: Path | None = None
    """JSONL to examine the student on; without it, a share of `prompts` is held out."""
    validation: tuple[Path, ...] = ()
    """JSONL whose loss is watched while training, each file's apart; without it, a share of `prompts` is set aside."""
    golden: Path | None = None
    """JSONL of pairs put before the teacher as demonstrations."""
    learn_golden: bool = True
    """Whether the golden pairs are learned too, with their own answers."""
    system: Annotated[str, Field(min_length=1)] | None = None
    """A system prompt for rows that have none."""
    droppable: tuple[Annotated[str, Field(min_length=1)], Annotated[str, Field(min_length=1)]] | None = None
    """Two marks; what stands between them in a prompt is seen by the teacher and not by the student."""
    validation_share: Share = 0.05
    """Share of the prompts whose loss is watched while training."""
    held_out_share: Share = 0.1
    """Share of the prompts kept for the examination, when `held_out` is not given."""
    minimum: Annotated[int, Field(ge=1)] | None = None
    """The fewest valid rows to accept; by default 100 for a distillation and 8 for fine-tuning."""

    @property
    def prompt_files(self) -> tuple[Path, ...]:
        """The files of `prompts`, however many."""
        return (self.prompts,) if isinstance(self.prompts, Path) else self.prompts or ()

    @property
    def named_columns(self) -> dict[str, str] | None:
        """The columns that were named, by what they are."""
        return None if self.columns is None else self.columns.model_dump(exclude_none=True)

    @model_validator(mode="after")
    def _something(self) -> Source:
        if self.prompts is None and self.logs is None:
            raise ValueError("prompts: missing; expected a file of JSONL, or logs: {uri: …}")
        return self


class Prices(_Section):
    """US dollars for 1,000 tokens."""

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]

    def cost(self, input_tokens: float, output_tokens: float) -> float:
        """US dollars for that many tokens."""
        return (self.input * input_tokens + self.output * output_tokens) / 1000


class Budget(_Section):
    """What a teacher over the network may use; it is not asked where the next request could exceed a cap."""

    tokens: Annotated[int, Field(ge=1)] | None = None
    """Of the whole job, prompts and answers."""
    usd: Annotated[float, Field(gt=0)] | None = None
    """Of the whole job, in US dollars; needs prices."""
    request_tokens: Annotated[int, Field(ge=1)] | None = None
    """Of one request."""
    request_usd: Annotated[float, Field(gt=0)] | None = None


class Timeouts(_Section):
    """Seconds one request may take."""

    connect: Annotated[float, Field(gt=0)] = 10.0
    first_byte: Annotated[float, Field(gt=0)] | None = None
    """Also the longest silence later on; an answer comes in one piece, so this is about `whole`, its default."""
    whole: Annotated[float, Field(gt=0)] = 300.0


Via = Literal["transformers", "llama.cpp", "openai", "anthropic", "bedrock"]
REMOTE: tuple[Via, ...] = ("openai", "anthropic", "bedrock")
"""Teachers that are asked over the network."""


class Teacher(_Section):
    """Who answers, and by what way. All but `model`, `via` and `tokenizer` are for teachers over the network."""

    model: Annotated[str, Field(min_length=1)]
    """A catalog id, a registered model's name, a folder in Hugging Face layout, a GGUF file; a service's own name."""
    via: Via = "transformers"
    """`openai` is any endpoint that speaks OpenAI's chat completions, and what an `endpoint` alone means."""
    endpoint: str | None = None
    """The address of the service, for example http://127.0.0.1:8000/v1."""
    key: str | None = None
    """The name of the environment variable that holds the key; never the key."""
    region: str | None = None
    """Of Amazon Bedrock."""
    answers_as: str | None = None
    """What the service calls the model in its answers, where that is not `model`."""
    tokenizer: str | None = None
    """A model whose tokenizer is the teacher's, to read its log-probabilities by; by default the student."""
    top_logprobs: Annotated[int, Field(ge=1, le=1024)] = 20
    """The most candidates the service tells at a position: 20 at OpenAI and by vLLM's default."""
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 8
    """Requests under way at once."""
    attempts: Annotated[int, Field(ge=1, le=100)] = 6
    """How often a question is asked at most, when the service fails."""
    timeout: Annotated[float, Field(gt=0)] | Timeouts = Timeouts()
    """Seconds a request may take, or `connect`, `first_byte` and `whole` apart."""
    options: dict[str, Any] = {}
    """Further fields of the request's body; null takes one out."""
    prices: Prices | None = None
    """By default the catalog's."""
    budget: Budget = Budget()

    @model_validator(mode="before")
    @classmethod
    def _an_endpoint_speaks_openai(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("endpoint") and "via" not in values:
            return {**values, "via": "openai"}
        return values

    @field_validator("key", mode="before")
    @classmethod
    def _a_name_is_no_key(cls, value: Any) -> Any:
        # Never shown: it may be the key itself.
        if value is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(value)):
            raise ValueError(
                "expected the name of an environment variable that holds the key, for example OPENAI_API_KEY"
            )
        return value

    @field_validator("endpoint", mode="before")
    @classmethod
    def _an_address(cls, value: Any) -> Any:
        if value is not None and not re.fullmatch(r"https?://[^\s/@?#]+(?:/[^\s@?#]*)?", str(value)):
            raise ValueError("expected http://HOST:PORT/PATH or https://…, without user, password or query")
        return value if value is None else str(value).rstrip("/")

    @model_validator(mode="after")
    def _whole(self) -> Teacher:
        if self.via == "openai" and self.endpoint is None:
            raise ValueError("endpoint: missing; expected the address of an OpenAI-compatible service")
        if self.via not in REMOTE:
            stray = [name for name in ("endpoint", "key", "region", "answers_as") if getattr(self, name) is not None]
            if stray:
                raise ValueError(
                    f"{', '.join(stray)}: of no use with via: {self.via}; expected via: {', '.join(REMOTE)}"
                )
        return self

    @property
    def remote(self) -> bool:
        """Whether it is asked over the network."""
        return self.via in REMOTE

    @property
    def timeouts(self) -> Timeouts:
        """`timeout` with its parts."""
        return self.timeout if isinstance(self.timeout, Timeouts) else Timeouts(whole=self.timeout)


class Trial(_Section):
    """Several teachers are tried on a sample, and the best of them teaches."""

    teachers: Annotated[tuple[Teacher, ...], Field(min_length=2, max_length=16)]
    """Each as `teacher` is given, or by its name alone."""
    rows: Annotated[int, Field(ge=1, le=1000)] = 30
    """Prompts of the sample: labelled ones if there are any."""
    judge: Teacher | None = None
    """Who marks the answers where there are no labels."""

    @field_validator("teachers", mode="before")
    @classmethod
    def _names_alone(cls, values: Any) -> Any:
        named = isinstance(values, list | tuple)
        return [{"model": value} if isinstance(value, str) else value for value in values] if named else values

    @field_validator("teachers")
    @classmethod
    def _different(cls, teachers: tuple[Teacher, ...]) -> tuple[Teacher, ...]:
        names = [teacher.model for teacher in teachers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)}: named twice; expected different teachers")
        return teachers


class Shrink(_Section):
    """How a student is cut from a larger model."""

    layers: Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """How many layers to keep, or which."""
    choose: Literal["even", "importance"] = "even"
    """Which layers, where their number is given: evenly spread with the first and last among them, or those that change
    most of what passes through them, measured on a sample of the prompts."""
    feed_forward: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Share of each layer's feed-forward neurons to keep: the most active ones on the sample."""
    heads: Annotated[int, Field(ge=1)] | None = None
    """Attention heads to keep in each layer, in the groups that share keys and values."""
    parameters: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """A budget instead: the most weights, as a share of the larger model's; what is cut for it is chosen."""
    latency: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """A budget instead: the longest time an answer may take, as a share of the larger model's, measured here."""

    @model_validator(mode="after")
    def _whole(self) -> Shrink:
        shapes = [name for name in ("layers", "feed_forward", "heads") if getattr(self, name) is not None]
        budgets = [name for name in ("parameters", "latency") if getattr(self, name) is not None]
        if not shapes and not budgets:
            raise ValueError(
                "nothing is cut; expected layers, feed_forward or heads, for example {layers: 6}, or a budget, for"
                " example {parameters: 0.3}"
            )
        if len(budgets) > 1 or (budgets and (shapes or self.choose == "importance")):
            raise ValueError(f"{budgets[0]}: a budget chooses for itself; expected no other key beside it")
        if budgets:
            return self
        if self.choose == "importance" and not isinstance(self.layers, int):
            raise ValueError("choose: importance would change nothing; expected layers: a number beside it")
        return self

    @property
    def measured(self) -> bool:
        """Whether importance decides what is kept."""
        return self.choose == "importance" or self.feed_forward is not None or self.heads is not None or self.budget

    @property
    def budget(self) -> bool:
        """Whether what is cut is still to be chosen."""
        return self.parameters is not None or self.latency is not None


class Adapter(_Section):
    """Small matrices that learn beside frozen weights, in place of the weights themselves."""

    kind: Literal["lora", "dora", "qlora"] = "lora"
    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    alpha: Annotated[float, Field(gt=0.0)] = 32.0
    """What is learned is added alpha / rank times."""
    targets: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = "all-linear"
    """Which linear layers: all but the head, or those of these names (`[q_proj, v_proj]`)."""
    keep: bool = False
    """Write the adapter by itself too, beside the model it is merged into."""


class Student(_Section):
    """Who learns."""

    model: Annotated[str, Field(min_length=1)] | None = None
    """What it starts from; in a distillation, the teacher when nothing is said."""
    shrink: Shrink | None = None
    adapter: Adapter | None = None
    """Without it all weights learn."""

    @model_validator(mode="after")
    def _whole(self) -> Student:
        if self.adapter is not None and self.adapter.keep and self.shrink is not None:
            raise ValueError(
                "adapter.keep: an adapter is for the model it was trained on, and the one that shrink cuts is kept"
                " nowhere else; drop one of the two"
            )
        return self


class Refine(_Section):
    """The teacher's own answers are written anew by it before anybody learns from them."""

    instruction: Annotated[str, Field(min_length=1)]
    """What is to be mended: "Be concise; answer in JSON"."""


Method = Literal["similar", "paraphrase", "vary", "evolve"]
Attribute = Literal["intent", "tone", "length", "difficulty"]


class Augment(_Section):
    """Prompts that the teacher writes like those given, which are learned beside them."""

    to: Annotated[int, Field(ge=1, le=15_000)]
    """How many prompts are to be learned from, those given included."""
    methods: Annotated[tuple[Method, ...], Field(min_length=1)] = ("similar", "paraphrase", "vary", "evolve")
    """In turn: others of the kind, the same in other words, one attribute changed, made harder or broader."""
    attributes: Annotated[tuple[Attribute, ...], Field(min_length=1)] = ("intent", "tone", "length", "difficulty")
    """What `vary` changes, one at a time."""
    languages: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """What `vary` also changes the language to, as the teacher is told it: German."""
    task: Annotated[str, Field(min_length=1)] | None = None
    """What the prompts are for, in a sentence or two, told to the teacher; with it a few given prompts are enough."""
    near_duplicates: Annotated[float, Field(gt=0.0, le=1.0)] = 0.7
    """Refuse what is as alike as this to another prompt, given, held out or made (Jaccard, words and their pairs)."""
    writer: Teacher | None = None
    """Who writes them, where not the teacher: one tuned to answer with labels writes nothing else."""
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = 0.7
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    max_tokens: Annotated[int, Field(ge=1, le=8192)] = 256
    """The longest reply; in a list of several that is cut off, the last one is lost."""


class Synthesis(_Section):
    """How the teacher is asked."""

    max_response_tokens: Annotated[int, Field(ge=1, le=8192)] = 256
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = 0.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    seed: int = 0
    top_k: Annotated[int, Field(ge=1, le=1024)] = 32
    """Candidates kept at each position of an answer, with their log-probabilities."""
    draws: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Keep so many tokens drawn from each distribution instead: unbiased where the likeliest few are not."""
    demonstrations: Annotated[int, Field(ge=0, le=64)] = 10
    """The most golden pairs put before each prompt."""
    golden_choice: Literal["first", "similar"] = "first"
    """The same pairs for all prompts, or for each those like it and unlike each other."""
    labels: Literal["keep", "improve", "ignore", "auto"] = "keep"
    """What becomes of the rows' own answers: taken, mended by the teacher, left out, or what a sample of them says."""
    improve_instruction: Annotated[str, Field(min_length=1)] | None = None
    """How the teacher is asked to mend a label; by default as `synthesis/instructions.py` has it."""
    refine: Refine | None = None
    augment: Augment | None = None
    """By default only the prompts that were given are learned from."""
    teacher_system: Annotated[str, Field(min_length=1)] | None = None
    """Instructions for the teacher alone, in place of a prompt's system prompt: the student does not see them."""
    use_responses: bool = False
    """Take the rows' own answers as they are: the teacher is neither asked nor made to read them."""


class Votes(_Section):
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


class Judge(_Section):
    """A model marks every answer, from 0 to 1."""

    model: Annotated[str, Field(min_length=1)] | None = None
    """Who judges: a catalog id, a registered name or a folder; by default the teacher."""
    rubric: Annotated[str, Field(min_length=1)] = "Correctness"
    """What the mark is for: the name of one of the built-in rubrics, or a question of your own."""
    threshold: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Drop an answer with a lower mark."""


class Curation(_Section):
    """What is not trained on, besides held-out prompts, empty answers and those cut off. Nothing is deleted: it is
    marked with its rule."""

    refusals: bool = False
    """Drop answers that begin by declining."""
    languages: tuple[Annotated[str, Field(pattern=r"^([a-z]{2,3}|prompt)$")], ...] = ()
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
    private: tuple[str, ...] = ()
    """Which kinds count; by default all."""
    phone_region: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] | None = None
    """Where phone numbers without a country code are from (ISO 3166); without it only those with one are found."""
    balance: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """The most that one answer may be of all that is trained on."""
    votes: Votes | None = None
    judge: Judge | None = None
    seed: int = 0
    """Of what is drawn: samples of the votes, permutations, who goes where a label has too many."""

    @model_validator(mode="after")
    def _whole(self) -> Curation:
        if self.max_characters is not None and self.max_characters < self.min_characters:
            raise ValueError(
                f"max_characters: found {self.max_characters}; expected at least min_characters, {self.min_characters}"
            )
        if self.votes is not None and self.votes.choose == "judge" and self.judge is None:
            raise ValueError("votes.choose: judge chooses, and there is none; say judge: {rubric: …}")
        return self


Weight = Annotated[float, Field(ge=0.0)]
Inside = Annotated[float, Field(gt=0.0, lt=1.0)]

DIVERGENCES = ("forward_kl", "reverse_kl", "jensen_shannon", "skewed_forward_kl", "skewed_reverse_kl")
"""Objectives that compare the student's distribution with the teacher's, token by token."""


class OnPolicy(_Section):
    """Batches that the student writes itself, scored by the teacher as they come."""

    share: Annotated[float, Field(gt=0.0, le=1.0)]
    """Of the optimizer steps."""
    temperature: Annotated[float, Field(gt=0.0, le=2.0)] = 1.0
    """At which the student answers."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    max_response_tokens: Annotated[int, Field(ge=1, le=8192)] | None = None
    """By default as in the synthesis."""


class Objective(_Section):
    """What is minimized: a weighted sum. p is the teacher, q the student."""

    cross_entropy: Weight = 0.0
    """Weight of the negative log-likelihood of the answer's tokens."""
    forward_kl: Weight = 0.0
    """Weight of KL(p ‖ q), over the teacher's top-k and the tail, as all that follow."""
    reverse_kl: Weight = 0.0
    """Weight of KL(q ‖ p)."""
    jensen_shannon: Weight = 0.0
    """Weight of beta KL(p ‖ m) + (1 - beta) KL(q ‖ m), m = beta p + (1 - beta) q."""
    skewed_forward_kl: Weight = 0.0
    """Weight of KL(p ‖ skew p + (1 - skew) q)."""
    skewed_reverse_kl: Weight = 0.0
    """Weight of KL(q ‖ skew q + (1 - skew) p)."""
    universal: Weight = 0.0
    """Weight of the sum of |p sorted - q sorted|, which asks for likelihoods by rank: for models of other tokens."""
    temperature: Annotated[float, Field(gt=0.0, le=100.0)] = 1.0
    """Both distributions are softened by it, and the divergences are multiplied by its square, so that their gradients
    keep their size. The teacher's are captured at it: a tail at one temperature does not tell that at another."""
    beta: Inside = 0.5
    """Of jensen_shannon."""
    skew: Inside = 0.1
    """Of the skewed divergences."""
    on_policy: OnPolicy | None = None
    """A share of the steps on the student's own answers; those learn the divergences alone."""

    @property
    def weights(self) -> dict[str, float]:
        """The objectives that count, with their weights."""
        names = ("cross_entropy", *DIVERGENCES, "universal")
        return {name: getattr(self, name) for name in names if getattr(self, name)}

    @property
    def divergences(self) -> dict[str, float]:
        """Those among them that compare distributions token by token."""
        return {name: weight for name, weight in self.weights.items() if name in DIVERGENCES}

    @property
    def signalled(self) -> dict[str, float]:
        """Those among them that need the teacher's distributions."""
        return {name: weight for name, weight in self.weights.items() if name != "cross_entropy"}

    auto: bool = False
    """Written `objective: auto`."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, found: Any) -> Any:
        return {"auto": True} if found == "auto" else found

    @model_validator(mode="after")
    def _meant(self) -> Objective:
        if self.auto and (self.weights or self.on_policy is not None):
            raise ValueError("auto: chooses for itself; expected no other key beside it")
        if self.auto:
            return self
        if not self.weights:
            raise ValueError("every weight is 0; expected at least one above 0, for example {forward_kl: 1}")
        skewed = self.skewed_forward_kl or self.skewed_reverse_kl
        for key, used, wanted in (
            ("temperature", bool(self.signalled), f"a weight of {', '.join(DIVERGENCES[:-1])} or {DIVERGENCES[-1]}"),
            ("beta", bool(self.jensen_shannon), "a weight of jensen_shannon"),
            ("skew", bool(skewed), "a weight of skewed_forward_kl or skewed_reverse_kl"),
        ):
            if not used and getattr(self, key) != Objective.model_fields[key].default:
                raise ValueError(f"{key}: {getattr(self, key):g} would change nothing; expected {wanted} beside it")
        if self.on_policy is not None and not self.divergences:
            raise ValueError(
                "on_policy: a text of the student's own teaches it nothing but how the teacher would have gone on;"
                " expected a divergence beside it, for example {reverse_kl: 1}"
            )
        if self.on_policy is not None and self.on_policy.share == 1.0 and self.cross_entropy:
            raise ValueError(
                "cross_entropy: would change nothing, since every batch is the student's own; expected"
                " on_policy.share below 1"
            )
        return self


class Training(_Section):
    """How the student learns."""

    objective: Objective | None = None
    """By default forward_kl in a distillation and cross_entropy in fine-tuning; `auto` is the strongest that the two
    models and the answers bear."""
    answers: Literal["all", "last"] = "all"
    """Which answers of a conversation are learned."""
    copies: Literal["folded", "learned"] = "folded"
    """Whether rows that are the same are learned once an epoch, or as often as they were given."""
    epochs: Annotated[int, Field(ge=1, le=1000)] = 3
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 3e-4
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the rate falls after the warm-up."""
    warmup: Share = 0.1
    """Share of the steps over which the rate rises."""
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """The steps themselves; wins over `warmup`."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Examples an optimizer step."""
    pack_tokens: Annotated[int, Field(ge=16)] = 2048
    """The most tokens computed at once; a step's examples go in as many packs as they need."""
    freeze_embeddings: bool = True
    """Leave the token embeddings, and a head tied to them, as they are: a small set of prompts holds few of the
    vocabulary's words, and moving those alone loses what they have in common with the rest."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    max_gradient_norm: Annotated[float, Field(gt=0.0)] = 1.0
    seed: int = 0
    validate_every: Annotated[int, Field(ge=1)] | None = None
    """Steps after which the validation loss is measured, and at the last; by default at the end of each epoch."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """End the training after so many validations without a lower loss."""
    keep: Literal["last", "best"] = "last"
    """Which weights: those of the last step, or those with the lowest validation loss."""
    checkpoint_seconds: Annotated[float, Field(gt=0.0)] = 120.0
    """A checkpoint is written when this long has passed since the last."""


class Evaluation(_Section):
    """How the student is examined."""

    metric: Literal["exact_match", "token_f1"] = "exact_match"
    """What the verdict goes by."""
    tolerance: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.05
    """How far below the teacher the student may score and still be shipped."""
    forgetting: Annotated[float, Field(ge=0.0)] = 0.1
    """After continued pre-training: by what share the perplexity of general text may have risen."""
    rows: Annotated[int, Field(ge=1)] | None = None
    """Examine on at most this many held-out rows."""
    max_response_tokens: Annotated[int, Field(ge=1, le=8192)] | None = None
    """By default as in the synthesis."""
    latency_requests: Annotated[int, Field(ge=2)] = 40
    """How many requests are timed for each model, one after another."""
    teacher_sees: Literal["prompt", "context"] | None = None
    """Whether the teacher is examined on what the student sees, or with all it saw when it taught; by default the
    latter where it has instructions or droppable parts of its own."""
    baseline: bool = True
    """Compare with TF-IDF and logistic regression where the answers are labels."""
    seed: int = 0


class Export(_Section):
    """What is written beside the safetensors, for other engines."""

    gguf: Quantization | Literal["none"] = "f16"
    """A GGUF file for llama.cpp, Ollama and LM Studio, with so many bits a weight; what it loses is measured."""


class Recipe(_Section):
    """One job."""

    kind: Kind
    name: Name
    """Of the job, and of the model it makes."""
    source: Source
    teacher: Teacher | None = None
    trial: Trial | None = None
    """Instead of `teacher`."""
    student: Student = Student()
    synthesis: Synthesis = Synthesis()
    curation: Curation = Curation()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    export: Export = Export()

    @model_validator(mode="before")
    @classmethod
    def _logged_responses_are_used(cls, values: Any) -> Any:
        """A distillation that takes a log's responses asks no teacher."""
        try:
            taken = values["kind"] == "distillation" and values["source"]["logs"]["use_responses"] is True
        except (KeyError, TypeError):
            return values
        plan = values.get("synthesis") or {}
        return {**values, "synthesis": {"use_responses": True, **plan}} if taken and isinstance(plan, dict) else values

    @model_validator(mode="after")
    def _whole(self) -> Recipe:
        logs = self.source.logs
        if logs is not None and logs.use_responses and logs.model is None and self.teacher is None:
            raise ValueError("source.logs.model: missing; expected the modelId whose responses are taken")
        if logs is not None and logs.use_responses and self.kind == "distillation" and not self.synthesis.use_responses:
            raise ValueError("source.logs.use_responses: the teacher is not asked; drop synthesis.use_responses")
        if logs is not None and self.kind == "continued-pre-training":
            raise ValueError("source.logs: continued pre-training reads plain text; give source.prompts")
        if logs is not None and not logs.use_responses and self.kind == "fine-tuning":
            raise ValueError("source.logs.use_responses: false; fine-tuning learns from labels, so say true and model")
        if self.kind == "distillation" and self.teacher is None and self.trial is None:
            raise ValueError("teacher: missing; a distillation needs one, for example {model: NAME}")
        if self.teacher is not None and self.trial is not None:
            raise ValueError("teacher and trial: one teacher is named, or the best of several is; drop one of the two")
        if self.trial is not None and (self.kind != "distillation" or self.synthesis.use_responses):
            raise ValueError("trial: only a distillation whose teacher answers can try several; drop it")
        if any(teacher.remote for teacher in self.tried) and self.student.model is None:
            raise ValueError(
                "student.model: missing; a teacher over the network has no weights here for a student to start from"
            )
        if self.student.adapter is not None and not self.training.freeze_embeddings:
            raise ValueError("training.freeze_embeddings: beside student.adapter all weights are frozen; drop it")
        if not (self.source.validation or self.source.validation_share):
            for key, asked in (("patience", self.training.patience), ("keep", self.training.keep == "best")):
                if asked:
                    raise ValueError(f"training.{key}: nothing is validated; expected source.validation_share above 0")
        if self.synthesis.draws:
            self._check_draws()
        if self.synthesis.use_responses and self.objective.signalled:
            raise ValueError(
                "synthesis.use_responses: the teacher is not asked, so there are no distributions for"
                f" training.objective.{next(iter(self.objective.signalled))}; use cross_entropy"
            )
        if self.synthesis.use_responses and (self.synthesis.labels != "keep" or self.synthesis.refine is not None):
            raise ValueError(
                "synthesis.use_responses: the teacher is not asked, so it can neither mend answers nor give others;"
                " drop synthesis.labels and synthesis.refine"
            )
        if self.synthesis.augment is not None and (self.synthesis.use_responses or self.kind != "distillation"):
            raise ValueError("synthesis.augment: only a distillation whose teacher answers can make prompts; drop it")
        if self.synthesis.use_responses or self.kind != "distillation":
            without = "there is no teacher that could be asked"
            if self.curation.votes is not None:
                raise ValueError(f"curation.votes: {without} for several answers; drop it")
            if self.curation.judge is not None and self.curation.judge.model is None:
                raise ValueError(f"curation.judge.model: missing; {without}, so say who judges")
        if self.kind != "distillation":
            called = self.kind.replace("continued-", "continued ")
            learned = "labels" if self.kind == "fine-tuning" else "text"
            if self.teacher is not None:
                raise ValueError(
                    f"teacher: {called} learns from {learned} and has none; say kind: distillation, or drop it"
                )
            if self.student.model is None:
                raise ValueError(f"student.model: missing; {called} needs a model to start from")
            if self.objective.signalled:
                raise ValueError(
                    f"training.objective.{next(iter(self.objective.signalled))}: {called} has no teacher's"
                    " distributions; use cross_entropy"
                )
        return self

    @property
    def objective(self) -> Objective:
        """The objective, the kind's own where none was said."""
        if self.training.objective is not None and not self.training.objective.auto:
            return self.training.objective
        soft = self.kind == "distillation" and not self.synthesis.use_responses
        return Objective(forward_kl=1.0) if soft else Objective(cross_entropy=1.0)

    def _check_draws(self) -> None:
        """Draws are an unbiased estimate of what is linear in the teacher's distribution, and of nothing else."""
        other = [name for name in self.objective.signalled if name != "forward_kl"]
        if other:
            raise ValueError(
                f"synthesis.draws: training.objective.{other[0]} cannot be told from tokens drawn, only forward_kl can;"
                " drop synthesis.draws"
            )
        if any(one.remote for one in self.tried):
            raise ValueError("synthesis.draws: a teacher over the network tells its likeliest tokens alone; drop it")
        if self.synthesis.labels == "auto":
            raise ValueError(
                "synthesis.draws: labels are judged by their likelihood, which draws do not tell; drop one"
            )

    @property
    def auto(self) -> bool:
        """Whether the objective is chosen by what the models and the answers bear."""
        return self.training.objective is not None and self.training.objective.auto

    def check_kind(self) -> None:
        """Raise `NotYet` for a kind, of job or of adapter, that cannot be run."""
        if self.student.adapter is not None and self.student.adapter.kind == "qlora":
            raise NotYet(
                "student.adapter.kind: qlora trains beside weights of 4 bits, whose kernels need a CUDA device, and"
                " training here is on CPU in fp32; use lora or dora"
            )
        if self.kind not in RUNNABLE:
            raise NotYet(f"kind: {self.kind} cannot be run yet; expected {' or '.join(RUNNABLE)}")

    @property
    def responses_of(self) -> str | None:
        """The model whose logged responses are learned; None where none are."""
        logs = self.source.logs
        if logs is None or not logs.use_responses:
            return None
        return logs.model or (self.teacher.model if self.teacher else None)

    @property
    def tried(self) -> tuple[Teacher, ...]:
        """The teacher, or those of which the best is to be one."""
        return self.trial.teachers if self.trial else () if self.teacher is None else (self.teacher,)

    @property
    def models(self) -> tuple[str, ...]:
        """The names of all models that are loaded here, as the catalog knows them."""
        tried = (*self.trial.teachers, self.trial.judge) if self.trial else ()
        writer = self.synthesis.augment and self.synthesis.augment.writer
        named = [teacher.model for teacher in (self.teacher, *tried, writer) if teacher and not teacher.remote]
        return tuple(named) if self.student.model is None else (*named, self.student.model)

    @property
    def minimum_rows(self) -> int:
        """The fewest valid rows this job accepts."""
        augment = self.synthesis.augment
        described = augment is not None and augment.task is not None
        return self.source.minimum or (MINIMUM_DESCRIBED if described else MINIMUM_ROWS[self.kind])

    @property
    def asking(self) -> GenerationSettings:
        """How the teacher is asked."""
        s = self.synthesis
        softened = self.objective.temperature
        # Over the network distributions are asked for only where they are learned from: not every service tells them.
        captured = s.top_k if self.objective.signalled or not any(one.remote for one in self.tried) else 0
        drawn = s.draws or 0
        return GenerationSettings(s.max_response_tokens, s.temperature, s.top_p, s.seed, captured, softened, drawn)

    @property
    def examining(self) -> GenerationSettings:
        """How every model is asked on the held-out rows: greedily."""
        return GenerationSettings(self.evaluation.max_response_tokens or self.synthesis.max_response_tokens)

    def lasting(self) -> dict[str, Any]:
        """What a job keeps when it is gone on with: all but how hard and how dearly the teacher may be asked."""
        values = self.dump()
        trial = values["trial"] or {"teachers": [], "judge": None}
        writer = (values["synthesis"]["augment"] or {}).get("writer")
        for teacher in (values["teacher"], *trial["teachers"], trial["judge"], writer):
            for key in INCIDENTAL:
                (teacher or {}).pop(key, None)
        return values

    def dump(self) -> dict[str, Any]:
        """The recipe as JSON values, every default written out."""
        return self.model_dump(mode="json")

    @classmethod
    def build(cls, values: Mapping[str, Any], where: str = "recipe") -> Recipe:
        """A recipe from plain values; every fault is told at once in one `InvalidRecipe`."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InvalidRecipe(where, [_sentence(fault) for fault in error.errors()]) from None

    @classmethod
    def read(cls, path: Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
        """A recipe from a YAML file; its relative paths start from the file's folder.

        ``overrides`` maps dotted keys (``training.epochs``) to values that win over the file's.
        """
        try:
            values = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 (a SafeLoader)
        except OSError as error:
            raise InvalidRecipe(str(path), [f"cannot be read: {error.strerror}"]) from None
        except UnicodeDecodeError as error:
            raise InvalidRecipe(str(path), [f"byte {error.start} is not UTF-8"]) from None
        except yaml.YAMLError as error:
            raise InvalidRecipe(str(path), [" ".join(str(error).split())]) from None
        if not isinstance(values, dict):
            raise InvalidRecipe(
                str(path), [f"found {_kind_of(values)} at the top; expected keys such as kind and name"]
            )
        _anchor_paths(values, path.parent)
        for key, value in (overrides or {}).items():
            assign(values, key, value)
        return cls.build(values, str(path))


def assign(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted ``key`` in nested dictionaries, making those that are missing."""
    *sections, last = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise InvalidRecipe("recipe", [f"{key}: {section} is {_kind_of(inner)}; expected a section with keys"])
        values = inner
    values[last] = value


class _StrictLoader(yaml.SafeLoader):
    """YAML that refuses a key said twice, and reads 1e-4 as the number it is."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f'the key "{key.value}" is said twice', problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(?:\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _anchor_paths(values: dict[str, Any], folder: Path) -> None:
    source = values.get("source")
    if isinstance(source, dict):
        for key in ("prompts", "held_out", "validation", "golden"):
            found = source.get(key)
            if isinstance(found, str):
                source[key] = _anchored(found, folder)
            elif isinstance(found, list):
                source[key] = [_anchored(path, folder) if isinstance(path, str) else path for path in found]
        logs = source.get("logs")
        if isinstance(logs, dict) and isinstance(logs.get("uri"), str) and not logs["uri"].startswith("s3://"):
            logs["uri"] = _anchored(logs["uri"], folder)
    curation = values.get("curation")
    if isinstance(curation, dict) and isinstance(curation.get("json_schema"), str):
        curation["json_schema"] = _anchored(curation["json_schema"], folder)
    judge = curation.get("judge") if isinstance(curation, dict) else None
    trial = values.get("trial")
    tried = [*(trial.get("teachers") or []), trial.get("judge")] if isinstance(trial, dict) else []
    synthesis = values.get("synthesis")
    augment = synthesis.get("augment") if isinstance(synthesis, dict) else None
    writer = augment.get("writer") if isinstance(augment, dict) else None
    for chosen in (values.get("teacher"), values.get("student"), judge, *tried, writer):
        if isinstance(chosen, dict) and str(chosen.get("model", "")).startswith(("./", "../")):
            chosen["model"] = str((folder / chosen["model"]).resolve())


def _anchored(path: str, folder: Path) -> str:
    return str((folder / Path(path).expanduser()).resolve())


def _kind_of(value: Any) -> str:
    names = {
        dict: "keys",
        list: "a list",
        str: "text",
        int: "a number",
        float: "a number",
        type(None): "nothing",
    }
    return names.get(type(value), type(value).__name__)


def _sentence(fault: Any) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    found = fault.get("input")
    match fault["type"]:
        case "extra_forbidden":
            near = difflib.get_close_matches(str(fault["loc"][-1]), _keys_at(fault["loc"][:-1]), n=1)
            hint = (
                f'; did you mean "{near[0]}"?'
                if near
                else f"; expected one of {', '.join(_keys_at(fault['loc'][:-1]))}"
            )
            return f"{where}: unknown key{hint}"
        case "missing":
            return f"{where}: missing"
        case "value_error":
            text = str(fault["msg"]).removeprefix("Value error, ")
            return f"{where}: {text}" if where else text
        case _:
            message = str(fault["msg"])[0].lower() + str(fault["msg"])[1:]
            return f'{where}: found "{found}"; {message}'


def _keys_at(location: tuple[Any, ...]) -> list[str]:
    model: Any = Recipe
    for part in location:
        if not (isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields):
            return []
        model = model.model_fields[part].annotation
        if isinstance(model, types.UnionType) or typing.get_origin(model) is typing.Union:
            model = next((a for a in typing.get_args(model) if isinstance(a, type) and issubclass(a, BaseModel)), None)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []
