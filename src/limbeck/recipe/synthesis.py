"""How the teacher is asked, and what becomes of labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from limbeck.recipe.section import Section, Seed
from limbeck.recipe.teacher import Teacher

__all__ = ["Attribute", "Augment", "Method", "Refine", "Synthesis"]


class Refine(Section):
    """The teacher's own answers are written anew by it before anybody learns from them."""

    instruction: Annotated[str, Field(min_length=1)]
    """What is to be mended: "Be concise; answer in JSON"."""


Method = Literal["similar", "paraphrase", "vary", "evolve"]


Attribute = Literal["intent", "tone", "length", "difficulty"]


class Augment(Section):
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


class Synthesis(Section):
    """How the teacher is asked."""

    max_response_tokens: Annotated[int, Field(ge=1, le=8192)] = 256
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = 0.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    seed: Seed = 0
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
