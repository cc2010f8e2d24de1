"""Our training loop against TRL's GKDTrainer (lmbda 0, beta 0: forward KL on given text), one process after another.

    make bench-training             # or: python benchmarks/training.py --repeats 5 --threads 2 --shown 14

Same examples in the same order, same tokens (those TRL's own collator makes), same student (6 of SmolLM2's 30
layers), same teacher, same optimizer and learning rate, fp32, one thread. TRL runs the teacher inside every step.
Limbeck reads the teacher's distributions once beforehand; that capture is a process of its own and is counted in
the last row. Each contender is a process, so that its peak memory is its own; contenders take turns, and medians
over the repeats are printed. ``--shown`` puts so many worked examples into the system prompt that all share (fourteen
make some 400 tokens).

Below the table: how much of the machine's own matrix product (PyTorch's sgemm and the one that our linear layers use,
measured between the same steps) the products that our loop needs amount to, here and as jobs are by default (32
examples a step, embeddings that do not learn; in bf16 where the processor has instructions for it); and what a whole
job takes, the teacher's answers to the prompts included: ours writes them with its engine and captures meanwhile, the
other with transformers.generate in batches as large; each does so once.

- `dense`: every token's log-probability is stored, so the loss is TRL's but for rounding; both are held against the
  same run in float64, written out plainly.
- `top-32`: 32 candidates and the tail, as a job stores them. Its loss is a lower bound of the other.
- the text alone: no teacher in either, against TRL's SFTTrainer, which packs examples too. (Without FlashAttention its
  packed examples see each other, so its loss is another; it computes a prefix for every example.)
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "disabled"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch

BATCH, STEPS, RATE, SEED = 16, 6, 1e-4, 0
MODEL = "huggingface.smollm2-135m-instruct-v1:0"
DATA = Path(__file__).parent.parent / "examples" / "service-desk"
SYSTEM = "Name the intent of the customer's message."
LAYERS = tuple(range(6))
LONGEST = 8
"""Tokens of a written answer."""
AS_JOBS = {"batch_size": 32, "freeze_embeddings": True, "epochs": 2}
"""What jobs do by default, and the peers' trainers do not."""
SHOWN = int(os.environ.get("BENCH_SHOWN", "0"))


def rows() -> list[dict]:
    """The examples, in the order in which our loop takes them."""
    from limbeck.training.batches import batches_of_epoch

    with (DATA / "labelled.jsonl").open(encoding="utf-8") as file:
        found = [json.loads(line) for _, line in zip(range(BATCH * STEPS), file, strict=False)]
    return [found[i] for batch in batches_of_epoch(len(found), BATCH, 0, SEED) for i in batch]


def system() -> str:
    """The system prompt, with worked examples where they are wanted."""
    with (DATA / "labelled.jsonl").open(encoding="utf-8") as file:
        shown = [json.loads(line) for line in file][-SHOWN:] if SHOWN else []
    return "\n".join([SYSTEM, *(f"{row['prompt']} -> {row['completion']}" for row in shown)])


def messages(row: dict) -> list[dict]:
    turns = (("system", system()), ("user", row["prompt"]), ("assistant", row["completion"]))
    return [{"role": role, "content": text} for role, text in turns]


def prepare(work: Path) -> None:
    """Models as folders, and the tokens that TRL's collator makes of the examples."""
    from limbeck.models.loading import load, save
    from limbeck.models.shrink import keep_layers
    from limbeck.settings import Settings

    teacher = load(MODEL, Settings.read())
    tokenizer = teacher.renderer.tokenizer
    save(teacher.model, tokenizer, work / "teacher")
    save(keep_layers(teacher.model, LAYERS), tokenizer, work / "student")
    from trl.experimental.utils import DataCollatorForChatML

    collate = DataCollatorForChatML(tokenizer=tokenizer, max_length=1024)
    tokens = []
    for row in rows():
        made = collate([{"messages": messages(row)}])
        ids, labels = made["input_ids"][0].tolist(), made["labels"][0].tolist()
        tokens.append({"ids": ids, "start": next(i for i, label in enumerate(labels) if label != -100)})
    (work / "tokens.json").write_text(json.dumps(tokens))


def capture(work: Path, k: int) -> dict:
    """Limbeck's teacher pass: read every answer once, keep k candidates and the tail."""
    import numpy as np
    from safetensors.numpy import save_file

    from limbeck.inference.engine import Engine
    from limbeck.models.loading import load
    from limbeck.settings import Settings

    engine = Engine(load(str(work / "teacher"), Settings.read()))
    tokens = json.loads((work / "tokens.json").read_text())
    began = time.perf_counter()
    prompts = [t["ids"][: t["start"]] for t in tokens]
    answers = engine.read(prompts, [t["ids"][t["start"] :] for t in tokens], k)
    seconds = time.perf_counter() - began
    soft = [answer.soft_labels for answer in answers]
    arrays = {
        "top_ids": np.concatenate([s.top_ids_TK for s in soft]),
        "top_logprobs": np.concatenate([s.top_logprobs_TK for s in soft]),
        "tail": np.concatenate([s.tail_logprob_T for s in soft]),
    }
    save_file(arrays, work / f"signals-{k}.safetensors")
    return {"seconds": seconds, "bytes_a_token": sum(a.nbytes for a in arrays.values()) / len(arrays["tail"])}


def write_ours(work: Path) -> dict:
    """Limbeck's engine answers all prompts, and keeps the teacher's top 32 as it does."""
    from limbeck.inference.engine import Engine, common_prefix
    from limbeck.models.loading import load
    from limbeck.records import GenerationSettings
    from limbeck.settings import Settings

    engine = Engine(load(str(work / "teacher"), Settings.read()))
    prompts = sorted((t["ids"][: t["start"]] for t in json.loads((work / "tokens.json").read_text())), key=len)
    settings = GenerationSettings(LONGEST, top_k_captured=32)
    began = time.perf_counter()
    engine.generate(prompts, settings, prefix=common_prefix(prompts))
    return {"seconds": time.perf_counter() - began}


def write_theirs(work: Path) -> dict:
    """transformers.generate answers all prompts, in batches of like length."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    end = AutoTokenizer.from_pretrained(work / "teacher").convert_tokens_to_ids("<|im_end|>")
    model = AutoModelForCausalLM.from_pretrained(work / "teacher", dtype=torch.float32).eval()
    prompts = sorted((t["ids"][: t["start"]] for t in json.loads((work / "tokens.json").read_text())), key=len)
    began = time.perf_counter()
    for at in range(0, len(prompts), BATCH):
        some = prompts[at : at + BATCH]
        longest = max(map(len, some))
        ids = torch.tensor([[0] * (longest - len(p)) + p for p in some])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in some])
        with torch.inference_mode():
            model.generate(
                ids, attention_mask=mask, max_new_tokens=LONGEST, do_sample=False, eos_token_id=end, pad_token_id=end
            )
    return {"seconds": time.perf_counter() - began}


def sgemm(seconds: float = 0.5, size: int = 1024) -> tuple[float, float]:
    """The machine's own matrix product, in operations a second: PyTorch's, and that of our linear layers."""
    from limbeck.models.products import product

    left, right = torch.randn(size, size), torch.randn(size, size)

    def measured(multiply: Callable[[], object]) -> float:
        multiply()
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            multiply()
            count += 1
        return 2 * size**3 * count / (time.perf_counter() - began)

    out = torch.empty(size, size)
    return measured(lambda: torch.mm(left, right, out=out)), measured(lambda: product(left, right))


class Clock:
    """Notes the time at every step; the first step, which pays for allocations, is not counted.

    ``between`` is measured after each step, in time that is not counted either: a machine's speed differs from one
    minute to the next.
    """

    def __init__(self, between: Callable[[], tuple[float, float]] | None = None) -> None:
        self.ticks: list[float] = []
        self.between: list[tuple[float, float]] = []
        self._measure, self._apart = between, 0.0

    def tick(self) -> None:
        now = time.perf_counter()
        self.ticks.append(now - self._apart)
        if self._measure is not None:
            self.between.append(self._measure())
            self._apart += time.perf_counter() - now

    def seconds(self) -> float:
        return self.ticks[-1] - self.ticks[1]


def ours(work: Path, k: int, text_alone: bool = False, **plan: Any) -> dict:
    """Limbeck's loop on the stored signals or the text alone: the loop a job runs, called as the pipeline calls it.

    ``plan`` changes what the peers' trainers have too.
    """
    import csv

    from safetensors.numpy import load_file

    from limbeck.models.loading import load
    from limbeck.models.packing import Tokens
    from limbeck.progress import Silent, StopSignal
    from limbeck.recipe import Objective, Training
    from limbeck.records import SoftLabels
    from limbeck.settings import Settings
    from limbeck.training import TrainingExample, train

    student = load(str(work / "student"), Settings.read())
    tokens = json.loads((work / "tokens.json").read_text())
    signals = load_file(work / f"signals-{k}.safetensors")
    examples, at = [], 0
    for t in tokens:
        own = slice(at, at + len(t["ids"]) - t["start"])
        soft = SoftLabels(signals["top_ids"][own], signals["top_logprobs"][own], signals["tail"][own])
        examples.append(TrainingExample(Tokens(tuple(t["ids"]), t["start"]), soft))
        at = own.stop
    # rows() is in the loop's order already; the loop must see it as it was before.
    from limbeck.training.batches import batches_of_epoch

    order = [i for batch in batches_of_epoch(len(examples), BATCH, 0, SEED) for i in batch]
    unshuffled = [example for _, example in sorted(zip(order, examples, strict=True), key=lambda pair: pair[0])]
    clock = Clock(sgemm)

    class Ticking(Silent):
        def task(self, *given, **named):
            inner = super().task(*given, **named)
            task = inner.__enter__()
            step = task.advance
            task.advance = lambda amount=1: (clock.tick(), step(amount))[1]
            clock.tick()

            class Context:
                def __enter__(self):
                    return task

                def __exit__(self, *rest):
                    return inner.__exit__(*rest)

            return Context()

    usual = dict(
        epochs=1, batch_size=BATCH, learning_rate=RATE, schedule="constant", warmup=0.0, weight_decay=0.0, seed=SEED,
        checkpoint_seconds=1e9, pack_tokens=4096, freeze_embeddings=False, precision="fp32",
    )  # fmt: skip
    plan = Training(**usual | plan)
    folder = Path(tempfile.mkdtemp(dir=work))
    objective = Objective(cross_entropy=1.0) if text_alone else Objective(forward_kl=1.0)
    train(student.model, unshuffled, [], objective, plan, folder, Ticking(), StopSignal())
    with (folder / "metrics.csv").open() as file:
        losses = [float(row["training_loss"]) for row in csv.DictReader(file)]
    # What the steps that were timed need: counted, not estimated; PyTorch counts its own products.
    from torch.utils.flop_counter import FlopCounterMode

    from limbeck.models import products
    from limbeck.training.step import accumulate

    products.FASTER = False
    order = [batch for at in range(plan.epochs) for batch in batches_of_epoch(len(examples), plan.batch_size, at, SEED)]
    needed = 0
    for batch in order[1:]:
        with FlopCounterMode(display=False) as counter:
            accumulate(student.model, [unshuffled[i] for i in batch], objective, plan.pack_tokens)
        needed += counter.get_total_flops()
    machine = [statistics.mean(some) for some in zip(*clock.between, strict=True)]
    return {"seconds": clock.seconds(), "losses": losses, "needed": needed, "machine": machine}


def ticking(clock: Clock):
    """What tells ``clock`` of the steps of a trainer of theirs."""
    from transformers import TrainerCallback

    class Ticking(TrainerCallback):
        def on_train_begin(self, *given, **named):
            clock.tick()

        def on_step_end(self, *given, **named):
            clock.tick()

    return Ticking()


def as_ours(work: Path) -> dict:
    """What our loop has, as their trainers name it."""
    return dict(
        output_dir=tempfile.mkdtemp(dir=work), num_train_epochs=1, learning_rate=RATE, lr_scheduler_type="constant",
        warmup_steps=0, weight_decay=0.0, adam_beta2=0.95, max_grad_norm=1.0, optim="adamw_torch_fused",
        logging_steps=1, save_strategy="no", report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False,
        disable_tqdm=True, dataloader_pin_memory=False, seed=SEED,
    )  # fmt: skip


def trl(work: Path) -> dict:
    """TRL's GKDTrainer, as its documentation uses it."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    warnings.simplefilter("ignore")
    tokenizer = AutoTokenizer.from_pretrained(work / "student")
    student, teacher = (
        AutoModelForCausalLM.from_pretrained(work / name, dtype=torch.float32) for name in ("student", "teacher")
    )
    for model in (student, teacher):
        model.get_input_embeddings().padding_idx = None  # as Limbeck loads it; see docs/design.md
    clock = Clock()

    class InOrder(GKDTrainer):
        def _get_train_sampler(self, *given, **named):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    config = GKDConfig(
        lmbda=0.0, beta=0.0, temperature=1.0, max_length=1024, per_device_train_batch_size=BATCH, **as_ours(work)
    )
    trainer = InOrder(
        model=student, teacher_model=teacher, args=config, processing_class=tokenizer, callbacks=[ticking(clock)],
        train_dataset=Dataset.from_list([{"messages": messages(row)} for row in rows()]),
    )  # fmt: skip
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"seconds": clock.seconds(), "losses": losses}


def sft(work: Path) -> dict:
    """TRL's SFTTrainer with packing, on the answers as text: a pack as long as a batch of ours each step."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    warnings.simplefilter("ignore")
    tokenizer = AutoTokenizer.from_pretrained(work / "student")
    student = AutoModelForCausalLM.from_pretrained(work / "student", dtype=torch.float32)
    lengths = [len(t["ids"]) for t in json.loads((work / "tokens.json").read_text())]
    clock = Clock()
    seen: list[int] = []

    class Counting(SFTTrainer):
        def training_step(self, model, inputs, *given, **named):
            seen.append(inputs["input_ids"].numel())
            return super().training_step(model, inputs, *given, **named)

    config = SFTConfig(
        packing=True, max_length=sum(lengths) // STEPS, completion_only_loss=True, per_device_train_batch_size=1,
        **as_ours(work),
    )  # fmt: skip
    given = [messages(row) for row in rows()]
    trainer = Counting(
        model=student, args=config, processing_class=tokenizer, callbacks=[ticking(clock)],
        train_dataset=Dataset.from_list([{"prompt": one[:-1], "completion": one[-1:]} for one in given]),
    )  # fmt: skip
    trainer.train()
    return {"seconds": clock.seconds(), "tokens": sum(seen[1:])}


def rms_norm(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.rms_norm(x, module.weight.shape, module.weight, module.variance_epsilon)


def exact(work: Path) -> dict:
    """The same run in float64, written out plainly: an example at a time, all its logits, nothing packed or shared."""
    from transformers import AutoModelForCausalLM
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    student, teacher = (
        AutoModelForCausalLM.from_pretrained(work / name, dtype=torch.float64).eval() for name in ("student", "teacher")
    )
    for module in (*student.modules(), *teacher.modules()):
        if isinstance(module, LlamaRMSNorm):  # whose own forward goes through fp32
            module.forward = partial(rms_norm, module)
    student.get_input_embeddings().padding_idx = None
    optimizer = torch.optim.AdamW(student.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.0)
    tokens, losses = json.loads((work / "tokens.json").read_text()), []
    for at in range(0, len(tokens), BATCH):
        batch = tokens[at : at + BATCH]
        said, whole = sum(len(t["ids"]) - t["start"] for t in batch), 0.0
        for t in batch:
            ids = torch.tensor([t["ids"][:-1]])
            with torch.no_grad():
                theirs = teacher(input_ids=ids).logits[0, t["start"] - 1 :].log_softmax(-1)
            own = student(input_ids=ids).logits[0, t["start"] - 1 :].log_softmax(-1)
            loss = torch.nn.functional.kl_div(own, theirs, reduction="sum", log_target=True) / said
            loss.backward()
            whole += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(whole)
    return {"losses": losses}


def child(role: str, work: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    vocabulary = 49_152
    found = {
        "prepare": lambda: prepare(work) or {},
        "capture-dense": lambda: capture(work, vocabulary),
        "capture-32": lambda: capture(work, 32),
        "dense": lambda: ours(work, vocabulary),
        "top-32": lambda: ours(work, 32),
        "text": lambda: ours(work, 32, text_alone=True),
        "job": lambda: ours(work, 32, **AS_JOBS),
        "job-bf16": lambda: ours(work, 32, precision="bf16", **AS_JOBS),
        "trl": lambda: trl(work),
        "sft": lambda: sft(work),
        "exact": lambda: exact(work),
        "write-ours": lambda: write_ours(work),
        "write-theirs": lambda: write_theirs(work),
    }[role]()
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (work / f"{role}.json").write_text(json.dumps(found))


def run(role: str, work: Path, threads: int) -> dict:
    environment = {
        **os.environ,
        "BENCH_SHOWN": str(SHOWN),
        "LIMBECK_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
    }
    command = [sys.executable, __file__, "--role", role, "--work", str(work), "--threads", str(threads)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{role} failed:\n{done.stderr[-3000:]}")
    return json.loads((work / f"{role}.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shown", type=int, default=0)
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        child(given.role, given.work, given.threads)
        return
    global SHOWN
    SHOWN = given.shown
    from limbeck.training.precision import has_bf16

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        run("prepare", work, given.threads)
        run("capture-dense", work, given.threads)
        roles = ["trl", "capture-32", "top-32", "dense", "sft", "text", "job"]
        if has_bf16(torch.device("cpu")):
            roles.append("job-bf16")
        writing = {name: [run(name, work, given.threads)] for name in ("write-ours", "write-theirs")}
        runs: dict[str, list[dict]] = {role: [] for role in roles} | writing
        for repeat in range(given.repeats):
            for role in roles:
                runs[role].append(run(role, work, given.threads))
                print(f"repeat {repeat + 1}: {role}: {runs[role][-1]['seconds']:.1f} s", file=sys.stderr)
        tokens = sum(len(t["ids"]) for t in json.loads((work / "tokens.json").read_text())[BATCH:])

        def median(role: str, key: str) -> float:
            return statistics.median(found[key] for found in runs[role])

        counted = (STEPS - 1) / STEPS  # capture covers all the steps, the clock all but the first
        rows = {
            "TRL GKDTrainer": ("trl", 0.0),
            "Limbeck, dense": ("dense", 0.0),
            "Limbeck, top-32": ("top-32", 0.0),
            "Limbeck, top-32, with capture": ("top-32", counted * median("capture-32", "seconds")),
        }
        base = median("trl", "seconds")
        setting = f"{given.threads} thread(s), medians of {given.repeats}"
        print(f"{STEPS - 1} steps of {BATCH} examples, {tokens} tokens, {setting}\n")
        print(f"{'':31}{'seconds':>9}{'tokens/s':>10}{'speed':>8}{'peak MB':>9}{'memory':>8}")
        for name, (role, more) in rows.items():
            seconds = median(role, "seconds") + more
            peak = max(median(role, "peak_mb"), median("capture-32", "peak_mb") if more else 0.0)
            speed, memory = base / seconds, peak / median("trl", "peak_mb")
            print(f"{name:31}{seconds:9.2f}{tokens / seconds:10.0f}{speed:7.2f}x{peak:9.0f}{memory:7.2f}x")
        theirs = statistics.median(f["tokens"] / f["seconds"] for f in runs["sft"])
        mine = tokens / median("text", "seconds")
        memory = median("text", "peak_mb") / median("sft", "peak_mb")
        print(f"\nthe text alone (cross-entropy): TRL SFTTrainer with packing {theirs:.0f} tokens/s, ours {mine:.0f}:")
        print(f"{mine / theirs:.2f}x the speed, {memory:.2f}x the memory")
        print()
        measured = {"top-32": "top-32", "as jobs are, in fp32": "job", "as jobs are, in bf16": "job-bf16"}
        for name, role in measured.items():
            if role not in runs:
                continue
            needed = statistics.median(f["needed"] / f["seconds"] for f in runs[role])
            theirs, mine = (statistics.median(f["machine"][at] for f in runs[role]) for at in (0, 1))
            told = f"{needed / theirs:.0%} of PyTorch's sgemm ({theirs / 1e9:.1f})"
            told += f", {needed / mine:.0%} of the product our layers use ({mine / 1e9:.1f})"
            print(f"needed, {name}: {needed / 1e9:.1f} GFLOP/s, {told}")
        if "job-bf16" in runs:
            speed = median("job", "seconds") / median("job-bf16", "seconds")
            exact, rounded = (runs[role][0]["losses"] for role in ("job", "job-bf16"))
            apart = max(abs(a - b) / a for a, b in zip(exact, rounded, strict=True))
            print(f"bf16: {speed:.2f}x the speed of fp32, losses within {apart:.1%}")
        whole = STEPS / (STEPS - 1)  # the clock leaves the first step out
        for epochs in (1, 3):
            their_job = median("write-theirs", "seconds") + epochs * whole * base
            our_job = median("write-ours", "seconds") + epochs * whole * median("top-32", "seconds")
            print(f"whole job, {epochs} epoch(s): {their_job:.1f} s and {our_job:.1f} s, {their_job / our_job:.2f}x")
        theirs, mine = runs["trl"][0]["losses"], runs["dense"][0]["losses"]
        told = {"TRL": theirs, "dense": mine}
        if not SHOWN:  # in float64, an example at a time, a long prompt would take an hour
            told["float64"] = run("exact", work, given.threads)["losses"]
        print()
        for name, losses in told.items():
            apart = [abs(a - b) for a, b in zip(losses, told.get("float64", theirs), strict=True)]
            print(f"losses, {name + ':':9}{' '.join(f'{x:.5f}' for x in losses)}, at most {max(apart):.1e} apart")
        print("(from float64's, or, where that was not run, from TRL's; ours at most 1e-4 is expected)")
        sys.exit(max(abs(a - b) for a, b in zip(mine, told.get("float64", theirs), strict=True)) > 1e-4)


if __name__ == "__main__":
    main()
