"""The training loop, written out straight: batch, forward, loss, backward, step, log, save.

It knows nothing of recipes, teachers or jobs: it gets examples, a model and numbers. Left in the folder:
`metrics.csv` (a row a step), `validation.csv` (a row a validation), checkpoints while it runs, and at the end
`weights.safetensors` and, last, `losses.json`.
"""

from __future__ import annotations

import csv
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from limbeck.errors import InvalidInput, NotYet, Stopped
from limbeck.models.device import memory_of
from limbeck.models.loading import load_weights, save_weights
from limbeck.models.packing import Tokens, packs_well, window_of
from limbeck.progress import Progress, StopSignal
from limbeck.recipe import Objective, Training
from limbeck.storage.workspace import read_json, write_json
from limbeck.training import checkpoints, head, memory
from limbeck.training.alignment import STATES, Alignment
from limbeck.training.batches import batches_of_epoch
from limbeck.training.examples import TrainingExample
from limbeck.training.on_policy import Sampling
from limbeck.training.parallel import MOST, Replicas
from limbeck.training.precision import rounds
from limbeck.training.processes import ALONE, Processes, by_kind, clip, whole
from limbeck.training.schedule import learning_rate
from limbeck.training.step import Losses
from limbeck.training.watch import Watch

__all__ = ["check_architecture", "check_frozen", "load_trained", "train"]

METRICS = (
    "step_number",
    "epoch_number",
    "training_loss",
    "perplexity",
    "learning_rate",
    "gradient_norm",
    "tokens_per_second",
)
VALIDATION = ("step_number", "epoch_number", "validation_loss", "perplexity")
WEIGHTS, LOSSES = "weights.safetensors", "losses.json"
"""What a run that has ended leaves: the second, written last, says that it has."""


def train(
    model: Any,
    examples: Sequence[TrainingExample],
    validation: Sequence[Sequence[TrainingExample]],
    objective: Objective,
    plan: Training,
    folder: Path,
    progress: Progress,
    stop: StopSignal,
    sampling: Sampling | None = None,
    alignment: Alignment | None = None,
    processes: Processes = ALONE,
) -> dict[str, Any]:
    """Train ``model`` in place; gives the last losses. Goes on from ``folder``'s checkpoint if there is one; a run that
    has ended there before gives ``model`` its weights, and is not run again.

    ``validation`` holds one or more sets whose loss is watched: `validation.csv` has it over all of them, and the
    result each set's own, None for an empty one. ``sampling`` has the student write some of the batches, ``alignment``
    draws its hidden states to the teacher's (in training only: what is watched is the rest). ``processes`` that train
    together are all given the same, and see the same ``folder``; where layers are parted among them, so is the model
    that they are left with.

    Raises `InvalidInput` for a training this machine cannot hold or that leaves nothing to learn, `TrainingDiverged`
    (see `Watch.check`), and `Stopped`, with a checkpoint written, when ``stop`` is set.
    """
    if (folder / LOSSES).exists():
        load_trained(model, folder)
        _clear(folder, processes)
        return dict(read_json(folder / LOSSES))
    steps_an_epoch = math.ceil(len(examples) / plan.batch_size)
    steps = steps_an_epoch * plan.epochs
    wish = round(plan.warmup * steps) if plan.warmup_steps is None else plan.warmup_steps
    warmup_steps = min(wish, steps - 1)
    check_architecture(model)
    _freeze(model, plan)
    bf16 = bool(processes.least(rounds(plan, model.device)))
    sequences = [one.tokens for some in (examples, *validation) for one in some]
    count = _replicas(model, sequences, plan, progress, processes)
    _check_window(model, sequences)
    head.learn_in_place(model)
    if plan.shard and processes.size > 1:
        processes.shard(model)
    aligned = None if alignment is None else alignment.head(model)
    # What learns and is kept in checkpoints: the model, and what only helps it to learn.
    learning = model if aligned is None else torch.nn.ModuleDict({"student": model, "alignment": aligned})
    optimizer = _optimizer(learning, plan)
    watched = [example for one in validation for example in one]
    if not watched and (plan.patience or plan.keep == "best"):
        raise InvalidInput(
            "training.patience and training.keep: no validation rows were given or set aside;"
            " expected source.validation, or a larger source.validation_share"
        )
    every = plan.validate_every or steps_an_epoch
    machine = _machine(model, processes, bf16)
    if bf16:
        progress.say("training: layers multiply in bf16, for which this machine has instructions (training.precision)")
    step, watch = 0, Watch()
    if (found := checkpoints.latest(folder)) is not None:
        state = checkpoints.restore(found, learning, optimizer, processes)
        step, watch = state["step"], Watch.of(state)
        progress.say(f"training: resumed at step {step} of {steps}")
        if (before := state.get("machine", machine)) != machine:
            progress.say(
                f"training: until there with {before}, and now with {machine}: its last bits will not be those of an"
                " unbroken run"
            )
    replicas = Replicas(model, aligned, count, torch.get_num_threads(), processes, bf16)
    if alignment is not None and aligned is not None:
        read = tuple(aligned.pairs.values())
        examples = alignment.read(examples, read, plan.pack_tokens, folder, progress, stop)
    saved_at = time.monotonic()
    batches: list[list[int]] = []

    def save() -> None:
        best = watch.best_step if plan.keep == "best" else None
        state = {**watch.state(), "machine": machine}
        checkpoints.save(folder, step, learning, optimizer, state, best, processes)

    def check(stopped: bool) -> None:
        if stopped:
            save()
            raise Stopped(f"stopped after step {step} of {steps}; the checkpoint is kept")

    with (
        _Table(folder / "metrics.csv", METRICS, step, processes.first) as metrics,
        _Table(folder / "validation.csv", VALIDATION, step, processes.first) as validated,
        progress.task("training", steps, "steps", done=step) as task,
    ):
        while step < steps and not (plan.patience and watch.unimproved >= plan.patience):
            stopped, due = processes.any(stop.is_set(), time.monotonic() - saved_at >= plan.checkpoint_seconds)
            check(stopped)
            began = time.monotonic()
            epoch, place = divmod(step, steps_an_epoch)
            if place == 0 or not batches:
                batches = batches_of_epoch(len(examples), plan.batch_size, epoch, plan.seed)
            batch = batches[place]

            members, score = [examples[i] for i in batch], None
            if sampling is not None and sampling.takes(step):
                members, score = sampling.batch(step, batch, lambda: check(stop.is_set())), sampling.scored
            model.train()
            torch.manual_seed(plan.seed + step)  # dropout, where a model has it, is the same after a resume
            losses = replicas.accumulate(members, objective, plan.pack_tokens, score=score)
            norm = clip(list(learning.parameters()), plan.max_gradient_norm)
            watch.check(losses, norm, step, plan.learning_rate, model.config.vocab_size)
            rate = learning_rate(step, steps, plan.learning_rate, warmup_steps, plan.schedule)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            head.clear(learning.parameters())

            speed = losses.computed / (time.monotonic() - began)
            metrics.add(step, epoch, losses.mean, _perplexity(losses), rate, norm, round(speed, 1))
            watch.training_loss = losses.mean
            step += 1
            task.note(f"loss {losses.mean:.4f}, {speed:.0f} tokens a second")
            task.advance()
            improved = False
            if watched and (step % every == 0 or step == steps):
                model.eval()
                losses = replicas.accumulate(watched, objective, plan.pack_tokens, backward=False)
                validated.add(step - 1, epoch, losses.mean, _perplexity(losses))
                improved = watch.validated(losses, step)
            # The best weights are part of a checkpoint, so what is kept and where the run stands are never at odds.
            if (due and step < steps) or (improved and plan.keep == "best"):
                save()
                saved_at = time.monotonic()
    if step < steps:
        progress.say(
            f"training: ended after step {step} of {steps}: {watch.unimproved} validations without a lower loss than"
            f" {watch.best_loss:.4g}, after step {watch.best_step}"
        )
    kept = watch.best_step or step if plan.keep == "best" else step
    if kept != step:
        progress.say(f"training: the weights after step {kept} are kept, the best of those validated")
        checkpoints.load_best(folder, learning, processes)
    model.eval()
    sets = validation if len(validation) > 1 else []
    apart = [
        replicas.accumulate(one, objective, plan.pack_tokens, backward=False).mean if one else None for one in sets
    ]
    learned = {}
    for name, parameter in model.named_parameters():
        value = whole(parameter.detach()) if parameter.requires_grad else None  # all put it together
        if value is not None and processes.first:
            learned[name] = value
    result = {
        "steps": step,
        "kept_step": kept,
        "precision": "bf16" if bf16 else "fp32",
        "training_loss": watch.training_loss,
        "validation_loss": watch.best_loss if plan.keep == "best" else watch.validation_loss,
        "validation_losses": apart,
    }
    if processes.first:
        save_weights(learned, folder / WEIGHTS)
        write_json(folder / LOSSES, result)
    _clear(folder, processes)
    return result


def _clear(folder: Path, processes: Processes) -> None:
    """Remove what a run that has ended would have been taken up again from, once all is there."""
    processes.wait()
    if processes.first:
        for place in folder.glob("step-*"):
            shutil.rmtree(place)
        (folder / STATES).unlink(missing_ok=True)


def load_trained(model: Any, folder: Path) -> None:
    """Put the final weights of a finished run into ``model``."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in load_weights(folder / WEIGHTS).items():
            parameters[name].copy_(value)
    model.eval()


def check_architecture(model: Any) -> None:
    """Raise `NotYet` for a model of other parts than are known here, or that computes something else in a pack."""
    known = hasattr(model.config.get_text_config(), "intermediate_size")
    if not known or getattr(model.get_decoder(), "layers", None) is None:
        raise NotYet(
            f"{type(model).__name__}: an architecture of other parts than are known here; it cannot be trained yet"
        )
    model.eval()
    if not packs_well(model):
        raise NotYet(
            f"{type(model).__name__} computes something else when examples are packed; this architecture cannot be"
            " trained yet"
        )


def check_frozen(model: Any, plan: Training) -> None:
    """Raise `InvalidInput` where no layer would be left to learn."""
    depth = len(model.get_decoder().layers)
    if plan.freeze_layers >= depth:
        raise InvalidInput(
            f"training.freeze_layers: {plan.freeze_layers}; the model has {depth} layers, some of which must"
            f" learn; expected {depth - 1} or fewer"
        )


def _freeze(model: Any, plan: Training) -> None:
    if plan.freeze_embeddings:
        model.get_input_embeddings().weight.requires_grad_(False)
    if plan.freeze_layers:
        check_frozen(model, plan)
        model.get_decoder().layers[: plan.freeze_layers].requires_grad_(False)


def _optimizer(model: Any, plan: Training) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101); norms and biases are not decayed."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in some if (p.ndim >= 2) is decays], "weight_decay": plan.weight_decay * decays}
        for some in by_kind(parameters)
        for decays in (True, False)
    ]
    return torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.95), fused=True)


def _machine(model: Any, processes: Processes, bf16: bool) -> str:
    """What, beside all that a run is given, its last bits follow from: in what numbers and order sums are taken."""
    threads = torch.get_num_threads()
    products = " with products of bf16" if bf16 else ""
    return f"{threads} thread(s) on {model.device} in each of {processes.size} process(es){products}"


def _replicas(
    model: Any,
    sequences: Sequence[Tokens],
    plan: Training,
    progress: Progress,
    processes: Processes,
) -> int:
    """As many as are asked for, or, where nothing is said, as there are threads and memory for in each process.

    One where layers are parted (they are put together once for all threads), and on a card.
    """
    there = memory_of(model.device) // processes.here
    shard = plan.shard and processes.size > 1
    asked = 1 if shard or model.device.type != "cpu" else plan.replicas
    count = asked or min(torch.get_num_threads(), MOST)
    while True:
        needs = memory.forecast(model, sequences, plan.batch_size, plan.pack_tokens, count, processes.size, shard)
        if asked or count == 1 or needs.total <= there:
            break
        count //= 2
    memory.check(needs, there)
    progress.say(f"training: {needs}")
    return processes.least(count)


def _check_window(model: Any, sequences: Sequence[Tokens]) -> None:
    """Raise `NotYet` for rows longer than the model looks back."""
    window, longest = window_of(model.config), max((len(one.inputs) for one in sequences), default=0)
    if window is not None and longest > window:
        raise NotYet(
            f"an example of {longest:,} tokens is longer than the model's sliding window of {window:,}; leave such rows"
            " out, or cut them"
        )


def _perplexity(losses: Losses) -> float:
    return math.exp(min(losses.mean_cross_entropy, 700.0))


class _Table:
    """A CSV file that grows by a row at a time; on a resume, rows of steps that will be done again are dropped."""

    def __init__(self, path: Path, columns: Sequence[str], steps_done: int, written: bool = True) -> None:
        """``written``: whether it is this process that writes it."""
        self._writes = written
        if not written:
            return
        kept: list[list[str]] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))[1:]
            kept = [row for row in rows if len(row) == len(columns) and int(row[0]) < steps_done]
        self._file = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(columns)
        self._writer.writerows(kept)
        self._file.flush()

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writes:
            self._file.close()

    def add(self, *values: float) -> None:
        if not self._writes:
            return
        self._writer.writerow([f"{v:.8g}" if isinstance(v, float) else v for v in values])
        self._file.flush()
