"""Whether a GGUF file says what the weights it was made from say: llama.cpp against transformers, token by token.

The reference answers each prompt greedily; llama.cpp reads those very tokens and tells, at each, which one it would
have said and how likely it found the reference's. Where it would have said every one of them, its greedy text is the
reference's, so one reading gives both figures, and a difference early in an answer does not spoil the rest.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.errors import DamagedArtifact, InvalidInput
from limbeck.inference.engine import Engine
from limbeck.jobs.child import program
from limbeck.records import Answer, GenerationSettings, Quantization

__all__ = ["Parity", "compare", "measure"]

RESPONSE_TOKENS = 32
"""The longest answer compared: enough for a difference to show, little enough for every export."""
TIME_LIMIT = 1800
"""Seconds llama.cpp may take for all readings."""


@dataclass(frozen=True)
class Parity:
    """How far a GGUF file is from the weights it was made from."""

    quantization: Quantization
    bytes: int
    """The file's size."""
    prompts: int
    tokens: int
    """Of the reference's greedy answers, on which all figures rest."""
    equal_texts: float
    """Share of prompts whose greedy answers are the same, token for token."""
    equal_tokens: float
    """Share of tokens at which llama.cpp would have said the same, given the reference's before."""
    largest_difference: float
    """Of the two log-probabilities of a reference token (natural logarithms), absolute."""
    mean_difference: float
    """The mean of those."""

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.quantization}, {self.bytes / 1e6:.1f} MB: {self.equal_texts:.0%} of {self.prompts} greedy answers"
            f" the same ({self.equal_tokens:.1%} of {self.tokens} tokens), log-probabilities differ by"
            f" {self.mean_difference:.4f} in the mean, {self.largest_difference:.4f} at most"
        )


def measure(
    engine: Engine, gguf: Path, quantization: Quantization, prompts: Sequence[Sequence[int]], threads: int
) -> Parity:
    """Compare ``gguf`` with the model of ``engine`` on prompts given as token ids.

    Raises as `compare` does, and `InvalidInput` for a prompt that does not fit, or none.
    """
    if not prompts:
        raise InvalidInput(f"{gguf}: no prompts to measure it on; expected some that fit into the model's context")
    settings = GenerationSettings(RESPONSE_TOKENS, top_k_captured=1)
    return compare(gguf, quantization, prompts, engine.generate(prompts, settings), threads)


def compare(
    gguf: Path,
    quantization: Quantization,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Answer],
    threads: int,
) -> Parity:
    """Compare ``gguf`` with a reference's greedy answers, whose log-probabilities they carry.

    Raises `DamagedArtifact` where llama.cpp cannot read the file, or not in time.
    """
    responses = [list(answer.token_ids) for answer in answers]
    read = _read(gguf, prompts, responses, threads)
    reference = [answer.soft_labels.top_logprobs_TK[:, 0] for answer in answers if answer.soft_labels is not None]
    assert len(reference) == len(answers) > 0, "the reference is asked for its log-probabilities"
    difference_T = np.abs(np.concatenate([row["logprobs"] for row in read]) - np.concatenate(reference))
    same_T = np.concatenate([row["said"] for row in read]) == np.concatenate(responses)
    return Parity(
        quantization,
        gguf.stat().st_size,
        len(prompts),
        len(difference_T),
        sum(row["said"] == response for row, response in zip(read, responses, strict=True)) / len(prompts),
        float(same_T.mean()),
        float(difference_T.max()),
        float(difference_T.mean()),
    )


def _read(
    gguf: Path, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], threads: int
) -> list[dict[str, Any]]:
    readings = [{"prompt": list(p), "response": list(r)} for p, r in zip(prompts, responses, strict=True)]
    try:
        done = subprocess.run(  # noqa: S603 (our own)
            program("limbeck.inference.forced"),
            input=json.dumps({"gguf": str(gguf), "threads": threads, "readings": readings}),
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
        )
    except subprocess.TimeoutExpired:
        raise DamagedArtifact(f"{gguf}: llama.cpp has not read it within {TIME_LIMIT:,} seconds") from None
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if "error" in line.lower() or "llama.cpp:" in line]
        reason = told[0].strip() if told else f"it ended with status {done.returncode}"
        raise DamagedArtifact(f"{gguf}: llama.cpp cannot read it: {reason}")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found
