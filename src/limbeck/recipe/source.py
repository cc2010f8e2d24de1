"""Where the rows come from: files, tables or an invocation log; and how they are divided."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from limbeck.filters import filter_faults
from limbeck.recipe.section import Section, Share

__all__ = ["Columns", "Logs", "Source"]


class Logs(Section):
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


class Columns(Section):
    """Which columns of a table are what."""

    prompt: Annotated[str, Field(min_length=1)]
    completion: Annotated[str, Field(min_length=1)] | None = None
    system: Annotated[str, Field(min_length=1)] | None = None
    context: Annotated[str, Field(min_length=1)] | None = None


class Source(Section):
    """Where the rows come from and how they are divided."""

    prompts: Path | Annotated[tuple[Path, ...], Field(min_length=1)] | None = None
    """JSONL, one file or several: prompts, with or without their answers."""
    logs: Logs | None = None
    """Invocation logs, whose records are rows beside those of `prompts`, or instead of them."""
    columns: Columns | None = None
    """Of tables, files that end in .csv, .tsv or .parquet; by default the columns of those very names."""
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
    def files(self) -> tuple[Path, ...]:
        """All files of rows: prompts, then validation, held-out and golden ones."""
        others = (path for path in (self.held_out, self.golden) if path is not None)
        return (*self.prompt_files, *self.validation, *others)

    @property
    def named_columns(self) -> dict[str, str] | None:
        """The columns that were named, by what they are."""
        return None if self.columns is None else self.columns.model_dump(exclude_none=True)

    @model_validator(mode="after")
    def _something(self) -> Source:
        if self.prompts is None and self.logs is None:
            raise ValueError("prompts: missing; expected a file of JSONL, or logs: {uri: …}")
        return self
