"""The proof of the objectives: each by each invariance, as the largest relative error that was found.

    make prove                                # or: python -m tests.training.prove

Prints two tables, in fp32 and in float64, writes them into docs/objectives.md between its markers, and ends with
status 1 if an error is above its limit (1e-5 and 1e-10). What each column compares:

| column        | what is computed                                            | with what it is compared                     |
|---------------|-------------------------------------------------------------|----------------------------------------------|
| formula       | the loss of each position                                   | `reference.py`, in numpy                     |
| gradient      | its gradient by the logits (or hidden states)               | complex-step derivatives of `reference.py`   |
| packing       | loss and gradient of a batch by all weights of a model, packed with nothing shared | one example at a time, the objective over all its logits, one backward pass in float64 |
| shared        | the same, with the prompts' common prefix computed once     | the same                                     |
| padding       | the same                                                    | one batch padded on the right, in float64    |
| chunks        | the head run 3 positions at a time                          | one example at a time                        |
| micro-batches | packs of at most 40 tokens                                  | one example at a time                        |
| accumulation  | three calls with 1, 4 and 6 examples                        | one example at a time                        |
| replicas      | three replicas of the model, each with a share on a thread of its own | one example at a time |
| two processes | two processes with an uneven share each, over gloo          | one example at a time                        |
| parted        | the same, each with a part of every layer (FSDP), in packs of at most 40 tokens | one example at a time    |

Errors of a gradient are norms: |found - expected| / |expected| over all weights at once. Weights and signals are the
same fp32 numbers everywhere; float64 tells whether a difference is rounding.
"""

from __future__ import annotations

import itertools
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
import torch.multiprocessing as multiprocessing
from safetensors.torch import load_file, save_file
from tests.training import reference
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from limbeck.inference.engine import soft_labels_of
from limbeck.models.attention import ATTENTION
from limbeck.models.packing import Tokens
from limbeck.recipe import Objective
from limbeck.training import parallel, step
from limbeck.training.examples import TrainingExample
from limbeck.training.parallel import Replicas
from limbeck.training.processes import joined, whole
from limbeck.training.step import Losses, accumulate
from limbeck.training.targets import stack

PAGE = Path(__file__).parents[2] / "docs" / "objectives.md"
LIMITS = {torch.float32: 1e-5, torch.float64: 1e-10}
VOCABULARY, EVERYTHING = 64, 10_000
COLUMNS = ("formula", "gradient", "packing", "shared", "padding", "chunks", "micro-batches", "accumulation", "replicas")
TOGETHER = ("two processes", "parted")


@dataclass(frozen=True)
class Case:
    """One row of the table: an objective, and the form of the teacher's signals."""

    name: str
    objective: Objective
    k: int = 6


CASES = (
    Case("cross_entropy", Objective(cross_entropy=1)),
    *(
        Case(f"{name}, {form}", Objective(**{name: 1}, **more), k)
        for name, more in (
            ("forward_kl", {}),
            ("reverse_kl", {}),
            ("jensen_shannon", {"beta": 0.3}),
            ("skewed_forward_kl", {"skew": 0.1}),
            ("skewed_reverse_kl", {"skew": 0.1}),
        )
        for form, k in (("whole", EVERYTHING), ("top 6", 6))
    ),
    Case("universal, whole", Objective(universal=1), EVERYTHING),
    Case("universal, top 6", Objective(universal=1)),
    Case("forward_kl, top 6, temperature 2", Objective(forward_kl=1, temperature=2)),
    Case("jensen_shannon, whole, temperature 0.5", Objective(jensen_shannon=1, temperature=0.5), EVERYTHING),
    Case(
        "a sum of five",
        Objective(cross_entropy=0.2, forward_kl=0.5, reverse_kl=0.1, jensen_shannon=0.3, skewed_reverse_kl=0.4),
    ),
)


def model(dtype: torch.dtype) -> LlamaForCausalLM:
    """A model of two layers with random weights, the same in both precisions, that computes in its own throughout."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
        attn_implementation=ATTENTION,
        pad_token_id=None,
    )
    made = LlamaForCausalLM(config).to(dtype).eval()
    for module in made.modules():
        if isinstance(module, LlamaRMSNorm):  # whose own forward goes through fp32
            module.forward = partial(rms_norm, module)
    return made


def rms_norm(module: LlamaRMSNorm, x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.rms_norm(x, x.shape[-1:], module.weight, module.variance_epsilon)


def logits_of_teacher(count: int, rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(rows, VOCABULARY, generator=generator) * 2


def logits_of_student(rows: int) -> torch.Tensor:
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(100)) * 2


def batch(case: Case, dtype: torch.dtype = torch.float64) -> list[TrainingExample]:
    """Eleven examples of 20 to 40 tokens whose prompts begin alike."""
    generator = torch.Generator().manual_seed(0)

    def some(length: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()

    made = []
    for i in range(11):
        prompt = (1, *range(20, 36), *some(3 + i))
        response = (*some(1 + i % 5), 2)
        soft = soft_labels_of(logits_of_teacher(i, len(response)).to(dtype), case.k, case.objective.temperature)
        made.append(TrainingExample(Tokens((*prompt, *response), len(prompt)), soft))
    return made


# The two columns of the formula


def formula(case: Case, dtype: torch.dtype) -> tuple[float, float]:
    """Errors of the loss of each position, and of its gradient by the logits."""
    examples, objective = batch(case, dtype), case.objective
    targets = torch.tensor([token for e in examples for token in e.tokens.response])
    logits = logits_of_student(len(targets)).to(dtype).requires_grad_()
    loss = objective.cross_entropy * step.cross_entropy(logits, targets)
    if objective.signalled:
        loss = loss + stack([e.soft_labels for e in examples]).loss(logits, targets, slice(None), objective)
    loss.sum().backward()
    expected, slopes = formula_of(case)
    return apart(loss.detach(), expected), apart(logits.grad, slopes)


@cache
def formula_of(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of each position by the reference, and its gradient."""
    examples, objective = batch(case), case.objective
    logits = logits_of_student(sum(len(e.tokens.response) for e in examples)).double().numpy()
    teacher = torch.cat([logits_of_teacher(i, len(e.tokens.response)) for i, e in enumerate(examples)]).double().numpy()
    targets = [token for e in examples for token in e.tokens.response]
    losses, slopes = [], []
    for row, target, teacher_row in zip(logits, targets, teacher, strict=True):

        def summed(x, target=target, teacher_row=teacher_row):
            total = objective.cross_entropy * reference.cross_entropy(x, target)
            told = (min(case.k, VOCABULARY), objective.temperature)
            for name, weight in objective.divergences.items():
                found = reference.divergence(name, x, teacher_row, *told, objective.beta, objective.skew)
                total = total + weight * objective.temperature**2 * found
            if objective.universal:
                total = total + objective.universal * reference.universal(x, teacher_row, *told)
            return total

        losses.append(summed(row))
        slopes.append(reference.gradient(summed, row))
    return torch.tensor(losses), torch.tensor(np.array(slopes))


# The columns of the model


@cache
def plainly(case: Case, padded: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and gradient by all weights: whole logits, one mean over all response tokens, one backward pass."""
    one = model(torch.float64)
    examples = batch(case)
    if padded:
        longest = max(len(e.tokens.inputs) for e in examples)
        ids = torch.tensor([[*e.tokens.inputs, *[0] * (longest - len(e.tokens.inputs))] for e in examples])
        mask = torch.tensor([[i < len(e.tokens.inputs) for i in range(longest)] for e in examples])
        whole = one(input_ids=ids, attention_mask=mask.long()).logits
    else:
        whole = [one(input_ids=torch.tensor([e.tokens.inputs])).logits[0] for e in examples]
    total = torch.zeros((), dtype=one.dtype)
    for e, logits in zip(examples, whole, strict=True):
        own = logits[e.tokens.response_start - 1 : len(e.tokens.inputs)]
        loss = case.objective.cross_entropy * step.cross_entropy(own, torch.tensor(e.tokens.response))
        if case.objective.signalled:
            loss = loss + stack([e.soft_labels]).loss(own, torch.tensor(e.tokens.response), slice(None), case.objective)
        total = total + loss.sum()
    mean = total / sum(len(e.tokens.response) for e in examples)
    one.zero_grad()
    mean.backward()
    return mean.detach(), gradient_of(one)


def ours(one: LlamaForCausalLM, case: Case, column: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and gradient by all weights as the product computes them, cut as ``column`` says."""
    examples = batch(case, one.dtype)
    parts = [examples[:1], examples[1:5], examples[5:]] if column == "accumulation" else [examples]
    tokens = sum(len(e.tokens.response) for e in examples)
    one.zero_grad()
    if column == "replicas":
        with replaced(parallel, "WORTH", float("inf")):
            found = Replicas(one, None, 3, 3).accumulate(examples, case.objective, 4096)
        return torch.tensor(found.mean, dtype=torch.float64), gradient_of(one)
    whole = Losses()
    with replaced(step, "CHUNK_POSITIONS", 3 if column == "chunks" else step.CHUNK_POSITIONS):
        for part in parts:
            found = accumulate(
                one,
                part,
                case.objective,
                pack_tokens=40 if column == "micro-batches" else 4096,
                share=column != "packing",
                of_tokens=tokens,
            )
            whole.objective += found.objective
            whole.tokens += found.tokens
    return torch.tensor(whole.mean, dtype=torch.float64), gradient_of(one)


def one_of_two(rank: int, port: int, folder: str) -> None:
    """A process that computes its share of every case, and leaves what both together found."""
    torch.set_num_threads(1)
    told = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in told.items()})
    found = {}
    with joined() as processes:
        for dtype, column in itertools.product(LIMITS, TOGETHER):
            one = model(dtype)
            if column == "parted":
                processes.shard(one)
            replicas = Replicas(one, None, 1, 1, processes)
            for case in CASES:
                one.zero_grad()
                budget = 40 if column == "parted" else 4096
                losses = replicas.accumulate(batch(case, dtype), case.objective, budget)
                found[f"{case.name}/{dtype}/{column}/loss"] = torch.tensor(losses.mean, dtype=torch.float64)
                found[f"{case.name}/{dtype}/{column}/gradient"] = gradient_of(one)
        if processes.first:
            save_file(found, Path(folder) / "found.safetensors")


def two_processes() -> dict[str, torch.Tensor]:
    """What two processes found, by case, precision and quantity."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(one_of_two, (port, folder), nprocs=2)
        return load_file(Path(folder) / "found.safetensors")


# The table


def prove(case: Case, dtype: torch.dtype) -> dict[str, float]:
    """The largest relative error of each column but those of several processes."""
    errors = dict(zip(COLUMNS, formula(case, dtype), strict=False))
    measured = model(dtype)
    for column in COLUMNS[2:]:
        errors[column] = worst(ours(measured, case, column), plainly(case, padded=column == "padding"))
    return errors


def table(errors: dict[str, dict[str, float]]) -> str:
    """Markdown: a row an objective."""
    columns = (*COLUMNS, *TOGETHER)
    lines = [f"| objective | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for name, row in errors.items():
        lines.append(f"| {name} | {' | '.join(f'{row[column]:.0e}' for column in columns)} |")
    return "\n".join(lines)


def main() -> int:
    """Compute, print and write the tables; gives the exit status."""
    torch.set_num_threads(1)
    began = time.monotonic()
    together = two_processes()
    written, bad = [], []
    for dtype, limit in LIMITS.items():
        errors = {}
        for case in CASES:
            row = prove(case, dtype)
            for column in TOGETHER:
                found = tuple(together[f"{case.name}/{dtype}/{column}/{what}"] for what in ("loss", "gradient"))
                row[column] = worst(found, plainly(case, padded=False))
            errors[case.name] = row
            bad += [f"{case.name}, {column}, {dtype}: {e:.1e}" for column, e in row.items() if not e <= limit]
        kind = str(dtype).removeprefix("torch.")
        largest = max(error for row in errors.values() for error in row.values())
        written.append(f"In {kind}; the largest is {largest:.1e}, the limit {limit:.0e}:\n\n{table(errors)}")
        print(written[-1], end="\n\n")
    text = PAGE.read_text(encoding="utf-8")
    marks = r"(<!-- made by `make prove` -->\n).*(\n<!-- end -->)"
    body = "\n\n".join(written)
    PAGE.write_text(re.sub(marks, lambda m: f"{m[1]}\n{body}\n{m[2]}", text, flags=re.S), encoding="utf-8")
    cells = len(CASES) * (len(COLUMNS) + len(TOGETHER)) * len(LIMITS)
    print(f"{cells} cells, {len(bad)} above their limit, {time.monotonic() - began:.0f} s", *bad, sep="\n")
    return 1 if bad else 0


def worst(found: tuple[torch.Tensor, torch.Tensor], expected: tuple[torch.Tensor, torch.Tensor]) -> float:
    return max(apart(a, b) for a, b in zip(found, expected, strict=True))


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    """|found - expected| / |expected|."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def gradient_of(one: LlamaForCausalLM) -> torch.Tensor:
    return torch.cat([whole(p.grad).flatten() for p in one.parameters()])


@contextmanager
def replaced(module: ModuleType, name: str, value: float) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
