"""The recipe itself, with the rules that bind its sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError, model_validator

from limbeck.errors import InvalidRecipe, NotYet
from limbeck.recipe.curation import Curation
from limbeck.recipe.examination import Evaluation, Export
from limbeck.recipe.objective import Objective
from limbeck.recipe.reading import (
    TEACHERS,
    StrictLoader,
    anchor_paths,
    assign,
    kind_of,
    sections,
    sentences,
    yaml_fault,
)
from limbeck.recipe.section import Name, Section
from limbeck.recipe.source import Source
from limbeck.recipe.student import Student
from limbeck.recipe.synthesis import Synthesis
from limbeck.recipe.teacher import INCIDENTAL, REMOTE, TEXT_ALONE, Teacher, Trial
from limbeck.recipe.training import Training
from limbeck.recipe.unused import unused
from limbeck.records import GenerationSettings

__all__ = ["MINIMUM_DESCRIBED", "MINIMUM_ROWS", "RUNNABLE", "Kind", "Recipe"]


Kind = Literal["distillation", "fine-tuning", "continued-pre-training"]


MINIMUM_ROWS: Mapping[Kind, int] = {"distillation": 100, "fine-tuning": 8, "continued-pre-training": 1}
"""The fewest valid rows a job is run on: what Amazon Bedrock asks for."""


MINIMUM_DESCRIBED = 3
"""The fewest where the teacher is told what the prompts are for, and writes others."""


RUNNABLE: tuple[Kind, ...] = ("distillation", "fine-tuning", "continued-pre-training")
"""The kinds the river can run."""


ROWS = (".jsonl", ".csv", ".tsv", ".parquet")
"""What files end in that hold rows, and are given for a recipe now and then."""

LOOSE = ("synthesis", "curation", "training", "evaluation", "export")
"""Sections without which the rules that bind the others ask for nothing that is not asked for anyway."""


class Recipe(Section):
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
        if told := list(self._at_odds()):
            raise ValueError("\n".join(told))
        return self

    def _at_odds(self) -> Iterator[str]:
        """A sentence for each rule that binds sections and does not hold."""
        logs = self.source.logs
        if logs is not None and logs.use_responses and logs.model is None and self.teacher is None:
            yield "source.logs.model: missing; expected the modelId whose responses are taken"
        if logs is not None and logs.use_responses and self.kind == "distillation" and not self.synthesis.use_responses:
            yield "source.logs.use_responses: the teacher is not asked; drop synthesis.use_responses"
        if logs is not None and self.kind == "continued-pre-training":
            yield "source.logs: continued pre-training reads plain text; give source.prompts"
        if logs is not None and not logs.use_responses and self.kind == "fine-tuning":
            yield "source.logs.use_responses: false; fine-tuning learns from labels, so say true and model"
        if self.kind == "distillation" and self.teacher is None and self.trial is None:
            yield "teacher: missing; a distillation needs one, for example {model: NAME}"
        if self.teacher is not None and self.trial is not None:
            yield "teacher and trial: one teacher is named, or the best of several is; drop one of the two"
        if self.trial is not None and (self.kind != "distillation" or self.synthesis.use_responses):
            yield "trial: only a distillation whose teacher answers can try several; drop it"
        if any(teacher.remote for teacher in self.tried) and self.student.model is None:
            yield "student.model: missing; a teacher over the network has no weights here for a student to start from"
        if self.student.adapter is not None and not self.training.freeze_embeddings:
            yield "training.freeze_embeddings: beside student.adapter all weights are frozen; drop it"
        if self.training.freeze_layers and self.student.adapter is not None:
            yield "training.freeze_layers: beside student.adapter all weights are frozen; drop it"
        if self.training.freeze_layers and not self.training.freeze_embeddings:
            yield (
                "training.freeze_layers: the embeddings below the frozen layers would still be learned through them;"
                " drop training.freeze_embeddings: false"
            )
        if self.kind == "continued-pre-training" and self.student.shrink and self.student.shrink.vocabulary:
            yield (
                "student.shrink.vocabulary: what is read here is any text, and perplexities of unlike vocabularies do"
                " not compare; trim it in the job that teaches the task"
            )
        if self.kind == "continued-pre-training" and self.curation != Curation():
            yield (
                "curation: continued pre-training reads all text as it is, nothing of it is dropped or masked; mend the"
                " text beforehand, and drop it"
            )
        if not (self.source.validation or self.source.validation_share):
            plan = self.training
            wishes = {"patience": plan.patience, "keep": plan.keep == "best", "validate_every": plan.validate_every}
            for key, asked in wishes.items():
                if asked:
                    yield f"training.{key}: nothing is validated; expected source.validation_share above 0"
        if self.synthesis.draws and self.kind == "distillation":
            yield from self._draws_at_odds()
        if self.synthesis.use_responses and self.objective.signalled:
            yield (
                "synthesis.use_responses: the teacher is not asked, so there are no distributions for"
                f" training.objective.{next(iter(self.objective.signalled))}; use cross_entropy"
            )
        if self.synthesis.use_responses and (self.synthesis.labels != "keep" or self.synthesis.refine is not None):
            yield (
                "synthesis.use_responses: the teacher is not asked, so it can neither mend answers nor give others;"
                " drop synthesis.labels and synthesis.refine"
            )
        if self.synthesis.augment is not None and (self.synthesis.use_responses or self.kind != "distillation"):
            yield "synthesis.augment: only a distillation whose teacher answers can make prompts; drop it"
        if self.synthesis.use_responses or self.kind != "distillation":
            without = "there is no teacher that could be asked"
            if self.curation.votes is not None:
                yield f"curation.votes: {without} for several answers; drop it"
            if self.curation.judge is not None and self.curation.judge.model is None:
                yield f"curation.judge.model: missing; {without}, so say who judges"
        if self.kind != "distillation":
            called = self.kind.replace("continued-", "continued ")
            learned = "labels" if self.kind == "fine-tuning" else "text"
            if self.teacher is not None:
                yield f"teacher: {called} learns from {learned} and has none; say kind: distillation, or drop it"
            if self.student.model is None:
                yield f"student.model: missing; {called} needs a model to start from"
            for key in ("labels", "refine", "teacher_system"):
                if getattr(self.synthesis, key) != getattr(Synthesis(), key):
                    yield f"synthesis.{key}: {called} has no teacher that could do it; drop it"
            if self.objective.signalled:
                yield (
                    f"training.objective.{next(iter(self.objective.signalled))}: {called} has no teacher's"
                    " distributions; use cross_entropy"
                )
            if self.objective.hidden is not None:
                yield f"training.objective.hidden: {called} has no teacher's hidden states; drop it"
        if idle := ", ".join(unused(self.kind, self)):
            yield f"{idle}: would change nothing in a job of kind {self.kind}; drop it"

    @property
    def objective(self) -> Objective:
        """The objective, the kind's own where none was said."""
        if self.training.objective is not None and not self.training.objective.auto:
            return self.training.objective
        soft = self.kind == "distillation" and not self.synthesis.use_responses
        return Objective(forward_kl=1.0) if soft else Objective(cross_entropy=1.0)

    def _draws_at_odds(self) -> Iterator[str]:
        """Draws are an unbiased estimate of what is linear in the teacher's distribution, and of nothing else."""
        if not self.objective.signalled:
            yield (
                "synthesis.draws: would change nothing, since no distribution is learned from; expected a weight of"
                " training.objective.forward_kl, or drop it"
            )
        other = [name for name in self.objective.signalled if name != "forward_kl"]
        if other:
            yield (
                f"synthesis.draws: training.objective.{other[0]} cannot be told from tokens drawn, only forward_kl can;"
                " drop synthesis.draws"
            )
        if any(one.via != "transformers" for one in self.tried):
            yield (
                "synthesis.draws: only a teacher in this process (via: transformers) has its whole distribution to draw"
                " from, others tell their likeliest tokens alone; drop it"
            )
        if self.synthesis.labels == "auto":
            yield "synthesis.draws: labels are judged by their likelihood, which draws do not tell; drop one"

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
        named = [one["model"] for one in sections(self.dump(), TEACHERS) if one["via"] not in REMOTE]
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
        if self.auto and all(one.via in TEXT_ALONE for one in self.tried):
            captured = 0
        drawn = s.draws or 0
        return GenerationSettings(s.max_response_tokens, s.temperature, s.top_p, s.seed, captured, softened, drawn)

    @property
    def examining(self) -> GenerationSettings:
        """How every model is asked on the held-out rows: greedily."""
        return GenerationSettings(self.evaluation.max_response_tokens or self.synthesis.max_response_tokens)

    def lasting(self) -> dict[str, Any]:
        """What a job keeps when it is gone on with: all but how hard and how dearly the teacher may be asked."""
        values = self.dump()
        for teacher in sections(values, TEACHERS):
            for key in INCIDENTAL:
                teacher.pop(key, None)
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
            faults = error.errors()
        further = cls._at_odds_beside(values, faults)
        raise InvalidRecipe(where, [*sentences(faults, cls), *sentences(further, cls)])

    @classmethod
    def _at_odds_beside(cls, values: Mapping[str, Any], faults: Sequence[Any]) -> Sequence[Any]:
        """What is at odds in the rest of a recipe with ``faults``, which keep it from being looked at as a whole.

        Nothing where these lie in sections on which the rules for others depend.
        """
        faulty = set()
        for fault in faults:
            match fault["loc"]:
                case ("name",):
                    faulty.add("name")
                case (key, *below) if key in LOOSE or (not below and fault["type"] == "extra_forbidden"):
                    faulty.add(key)
                case _:
                    return ()
        rest = {key: value for key, value in values.items() if key not in faulty}
        try:
            cls.model_validate({"name": "any", **rest})
        except ValidationError as error:
            return error.errors()
        return ()

    @classmethod
    def read(cls, path: Path, overrides: Mapping[str, Any] | None = None, kind: Kind | None = None) -> Recipe:
        """A recipe from a YAML file; its relative paths start from the file's folder.

        ``overrides`` maps dotted keys (``training.epochs``) to values that win over the file's. ``kind`` is meant where
        the file names none.
        """
        if path.suffix.lower() in ROWS:
            raise InvalidRecipe(str(path), ["a file of rows; expected a recipe in YAML that names it: source.prompts"])
        try:
            values = yaml.load(path.read_text(encoding="utf-8"), Loader=StrictLoader)  # noqa: S506 (a SafeLoader)
        except OSError as error:
            raise InvalidRecipe(str(path), [f"cannot be read: {error.strerror}"]) from None
        except UnicodeDecodeError as error:
            raise InvalidRecipe(str(path), [f"byte {error.start} is not UTF-8"]) from None
        except yaml.YAMLError as error:
            raise InvalidRecipe(str(path), [yaml_fault(error)]) from None
        if not isinstance(values, dict):
            raise InvalidRecipe(str(path), [f"found {kind_of(values)} at the top; expected keys such as kind and name"])
        anchor_paths(values, path.parent)
        if kind is not None:
            values.setdefault("kind", kind)
        for key, value in (overrides or {}).items():
            assign(values, key, value)
        return cls.build(values, str(path))
