"""The teacher answers what has no answer, and reads what has one.

A prompt without a label is answered by the teacher; a label the user gave is kept, and the teacher reads it. Golden
pairs stand before every prompt as demonstrations. Left in the folder: `answers.jsonl`, one line an answer, and
`signals.safetensors` with their tokens and soft labels, laid end to end:

| tensor       | shape    | type    | meaning                                             |
|--------------|----------|---------|-----------------------------------------------------|
| offsets      | (n + 1,) | int64   | answer i has tokens offsets[i] to offsets[i + 1]    |
| token_ids    | (N,)     | int32   | the answers' tokens                                 |
| top_ids      | (N, K)   | int32   | the teacher's likeliest tokens                      |
| top_logprobs | (N, K)   | float32 | their log-probabilities                             |
| tail_logprob | (N,)     | float32 | log of the mass outside them                        |
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from limbeck.records import Answer, AnsweredExample, Example, GenerationSettings, Question, SoftLabels
from limbeck.storage.workspace import Workspace, writing
from limbeck.teachers import Teacher, ask

__all__ = ["answer", "labels", "read_answers"]

STAGE = "2-synthesis"


def answer(
    examples: Sequence[Example],
    teacher: Teacher,
    settings: GenerationSettings,
    golden: Sequence[tuple[str, str]],
    store: Path,
    work: Workspace,
) -> list[AnsweredExample]:
    """Stage 2 with a teacher, over the examples that are not held out. ``golden`` are put before each prompt."""
    asked = [example for example in examples if example.split != "held-out"]
    inputs = {
        "examples": work.digest_of("1-intake"),
        "teacher": teacher.fingerprint,
        "settings": asdict(settings),
        "golden": [list(pair) for pair in golden],
    }

    def make(folder: Path) -> None:
        questions = [Question(e.prompt, _others(golden, e), e.label) for e in asked]
        answers = ask(teacher, questions, settings, store, work.progress, work.stop, "teacher answers")
        _write(folder, asked, answers, teacher, settings, len(golden))

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
    signals = load_file(folder / "signals.safetensors")
    offsets, k = signals["offsets"], signals["top_ids"].shape[1]
    answered = []
    with (folder / "answers.jsonl").open(encoding="utf-8") as file:
        for i, row in enumerate(map(json.loads, file)):
            own = slice(int(offsets[i]), int(offsets[i + 1]))
            soft = None
            if k:
                soft = SoftLabels(signals["top_ids"][own], signals["top_logprobs"][own], signals["tail_logprob"][own])
            made = Answer(
                row["text"],
                tuple(signals["token_ids"][own].tolist()),
                row["finish_reason"],
                row["prompt_tokens"],
                soft,
            )
            answered.append(AnsweredExample(by_id[row["id"]], made, row["origin"], row["teacher"]))
    return answered


def _others(golden: Sequence[tuple[str, str]], example: Example) -> tuple[tuple[str, str], ...]:
    """The demonstrations for one example: all pairs, but never the example itself with its answer."""
    own = example.prompt.messages[-1].text
    return tuple(pair for pair in golden if pair[0] != own)


def _write(
    folder: Path,
    examples: Sequence[Example],
    answers: Sequence[Answer],
    teacher: Teacher,
    settings: GenerationSettings,
    golden: int,
) -> None:
    soft = [a.soft_labels for a in answers if a.soft_labels is not None]
    whole = len(soft) == len(answers) and soft
    k = soft[0].k if whole else 0
    lengths = [len(a.token_ids) for a in answers]
    save_file(
        {
            "offsets": np.cumsum([0, *lengths], dtype=np.int64),
            "token_ids": np.fromiter((t for a in answers for t in a.token_ids), np.int32),
            "top_ids": np.concatenate([s.top_ids_TK for s in soft]) if whole else np.zeros((0, 0), np.int32),
            "top_logprobs": np.concatenate([s.top_logprobs_TK for s in soft])
            if whole
            else np.zeros((0, 0), np.float32),
            "tail_logprob": np.concatenate([s.tail_logprob_T for s in soft]) if whole else np.zeros(0, np.float32),
        },
        folder / "signals.safetensors",
        metadata={"teacher": teacher.id, "teacher_fingerprint": teacher.fingerprint, "top_k": str(k)},
    )
    with writing(folder / "answers.jsonl") as file:
        for example, made in zip(examples, answers, strict=True):
            row = {
                "id": example.id,
                "origin": "given" if example.label is not None else "teacher",
                "teacher": teacher.id,
                "text": made.text,
                "finish_reason": made.finish_reason,
                "prompt_tokens": made.prompt_tokens,
                "response_tokens": len(made.token_ids),
                "temperature": settings.temperature,
                "seed": settings.seed,
                "demonstrations": golden,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
