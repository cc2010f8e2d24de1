"""The teacher answers what has no answer, and reads what has one.

What becomes of a label is the policy's to say (`policy`): it is kept and read, mended by the teacher, or left out and
the teacher answers. What the teacher sees is `framing`'s. Its own answers may be refined (`refine`). Left in the
folder: `policy.json`; `answers.jsonl`, one line an answer, with the label and what the answer was before it was mended;
`tokens.safetensors` with the answers' tokens, laid end to end (``token_ids`` (N,), and ``offsets`` (n + 1,): answer i
has the tokens offsets[i] to offsets[i + 1]); and, where there are any, `signals.safetensors` with the soft labels of
those tokens, packed (`storage.signals`), and `signals.json` with what packing them cost.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from limbeck.recipe import Synthesis
from limbeck.records import Answer, AnsweredExample, Example, Origin, SoftLabels
from limbeck.storage import signals
from limbeck.storage.tensor_files import tensor_file
from limbeck.storage.workspace import read_json, write_json, writing
from limbeck.synthesis.augment import AUGMENTED
from limbeck.synthesis.instructions import IMPROVE
from limbeck.synthesis.policy import Policy, decide
from limbeck.synthesis.refine import mend
from limbeck.synthesis.session import Session
from limbeck.synthesis.trial import TRIAL

__all__ = ["answer", "labels", "read_answers", "remarks"]

STAGE = "2-synthesis"
TOKENS, SIGNALS = "tokens.safetensors", "signals.safetensors"


def answer(
    examples: Sequence[Example], session: Session, plan: Synthesis, agree: Callable[[str, str], float]
) -> list[AnsweredExample]:
    """Stage 2 with a teacher, over the examples that are not held out. ``agree`` tells how alike two answers are."""
    asked = [example for example in examples if example.split != "held-out"]
    improve, work = plan.improve_instruction or IMPROVE, session.work
    inputs = {
        "form": 2,  # of what is left in the folder
        "examples": work.digest_of("1-intake"),
        "teacher": session.teacher.fingerprint,
        "settings": asdict(session.settings),
        "framing": session.framing.told,
        "labels": plan.labels,
        "improve": improve,
        "refine": plan.refine and plan.refine.instruction,
        **({"augmented": work.digest_of(AUGMENTED)} if plan.augment is not None else {}),
    }

    def make(folder: Path) -> None:
        policy = decide(plan.labels, asked, session, agree, plan.seed)
        write_json(folder / "policy.json", asdict(policy))
        if plan.labels == "auto":
            work.progress.say(str(policy))
        answered = _respond(asked, policy.labels != "ignore", session)
        if policy.labels == "improve":
            answered = mend(answered, "given", improve, session, "labels improved")
        if plan.refine is not None:
            answered = mend(answered, "teacher", plan.refine.instruction, session, "answers refined")
        _write(folder, answered, session)

    folder = work.step(STAGE, inputs, make)
    return read_answers(folder, asked)


def labels(examples: Sequence[Example]) -> list[AnsweredExample]:
    """The stage without a teacher: every label is the answer, as text alone."""
    return [
        AnsweredExample(e, Answer(e.label, (), "stop", 0), "given", None)
        for e in examples
        if e.split != "held-out" and e.label is not None
    ]


def read_answers(folder: Path, examples: Sequence[Example]) -> list[AnsweredExample]:
    """Answers as `answer` wrote them, joined to their examples."""
    by_id = {example.id: example for example in examples}
    with tensor_file(folder / TOKENS):
        tokens = load_file(folder / TOKENS)
    offsets, packed = tokens["offsets"].tolist(), folder / SIGNALS
    told = signals.read(packed) if packed.exists() else None
    answered = []
    with (folder / "answers.jsonl").open(encoding="utf-8") as file:
        for i, row in enumerate(map(json.loads, file)):
            start, stop = offsets[i], offsets[i + 1]
            soft = told.labels(start, stop) if told is not None and stop > start else None
            made = Answer(
                row["text"],
                tuple(tokens["token_ids"][start:stop].tolist()),
                row["finish_reason"],
                row["prompt_tokens"],
                soft,
                row["response_tokens"],
            )
            lineage = {key: row[key] for key in ("before", "parent", "note")}
            answered.append(AnsweredExample(by_id[row["id"]], made, row["origin"], row["teacher"], **lineage))
    return answered


def remarks(job: Path, kept: Sequence[AnsweredExample]) -> list[str]:
    """What a report should say of how the answers came about that a student learned from."""
    counts = Counter(one.origin for one in kept)
    kinds: dict[Origin, str] = {
        "given": "labels as they were given",
        "teacher": "answers of the teacher",
        "refined": "texts it mended",
    }
    said = [
        ", ".join(f"{counts[origin]:,} {kind}" for origin, kind in kinds.items() if counts[origin]) + " were learned",
        *_thoughts([one.answer for one in kept]),
    ]
    if (job / TRIAL / "trial.json").exists():
        said.append(read_json(job / TRIAL / "trial.json")["sentence"])
    if (job / AUGMENTED / "summary.json").exists():
        said.append(read_json(job / AUGMENTED / "summary.json")["sentence"])
    if (job / STAGE / "policy.json").exists():
        policy = Policy(**read_json(job / STAGE / "policy.json"))
        said += [str(policy)] if policy.labels != "keep" or policy.measured else []
    return said


def _thoughts(answers: Sequence[Answer]) -> list[str]:
    """A sentence where answers begin with what a teacher thought beforehand, which a student would learn to write."""
    thinking = sum(answer.text.lstrip().startswith("<think>") for answer in answers)
    if not thinking:
        return []
    return [
        f"{thinking:,} of {len(answers):,} answers begin with what the teacher thought (<think>), and the student"
        " learns to write that too; a service leaves it out by its own options (of vLLM, teacher.options:"
        " {chat_template_kwargs: {enable_thinking: false}}), a local model by synthesis.teacher_system"
    ]


def _respond(asked: Sequence[Example], with_labels: bool, session: Session) -> list[AnsweredExample]:
    """The teacher reads each label, if labels are taken or it is a golden one, and answers where there is none."""
    read = [e.label is not None and (with_labels or session.framing.is_golden(e)) for e in asked]
    questions = [session.framing.question(e, e.label if label else None) for e, label in zip(asked, read, strict=True)]
    answers = session.put(questions, "teacher answers")
    for thoughts in _thoughts(answers):
        session.work.progress.say(f"synthesis: {thoughts}")
    origins: list[Origin] = ["given" if label else "teacher" for label in read]
    return [
        AnsweredExample(example, found, origin, session.teacher.id)
        for example, found, origin in zip(asked, answers, origins, strict=True)
    ]


def _write(folder: Path, made: Sequence[AnsweredExample], session: Session) -> None:
    teacher, settings = session.teacher, session.settings
    answers = [one.answer for one in made]
    soft = [a.soft_labels for a in answers if a.soft_labels is not None]
    # An answer that is text alone has no tokens, and so no rows here.
    whole = soft and all(a.soft_labels is not None for a in answers if a.token_ids)
    lengths = [len(a.token_ids) for a in answers]
    arrays: dict[str, npt.NDArray[Any]] = {
        "offsets": np.cumsum([0, *lengths], dtype=np.int64),
        "token_ids": np.fromiter((t for a in answers for t in a.token_ids), np.int32),
    }
    with tensor_file(folder / TOKENS):
        save_file(arrays, folder / TOKENS)
    if whole:
        all_of_them = SoftLabels(
            np.concatenate([s.top_ids_TK for s in soft]),
            np.concatenate([s.top_logprobs_TK for s in soft]),
            np.concatenate([s.tail_logprob_T for s in soft]),
        )
        told = {
            "teacher": teacher.id,
            "teacher_fingerprint": teacher.fingerprint,
            "temperature": str(settings.captured_temperature),
        }
        cost = signals.write(folder / SIGNALS, all_of_them, told)
        write_json(folder / "signals.json", {**told, **cost, "top_k": all_of_them.k})
        rest = f"the top {all_of_them.k} leave {cost['mass_outside']:.2%} of the mass outside"
        if settings.draws_captured:
            rest = f"the {all_of_them.k} tokens drawn of each distribution stand for all of it"
        session.work.progress.say(
            f"signals: {cost['bytes_a_token']:.0f} bytes a response token; packing lost {cost['nats_lost']:.1e} nats"
            f" (KL), and {rest}"
        )
    with writing(folder / "answers.jsonl") as file:
        for one in made:
            row = {
                "id": one.example.id,
                "origin": one.origin,
                "teacher": teacher.id,
                "text": one.answer.text,
                "label": one.example.label,
                "before": one.before,
                "parent": one.parent,
                "note": one.note,
                "finish_reason": one.answer.finish_reason,
                "prompt_tokens": one.answer.prompt_tokens,
                "response_tokens": one.answer.response_tokens if one.answer.is_counted else None,
                "temperature": settings.temperature,
                "seed": settings.seed,
                "demonstrations": len(session.framing.question(one.example).demonstrations),
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
