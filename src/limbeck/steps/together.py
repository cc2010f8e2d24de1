"""A training that several processes do together: what the first hands to the others, and how they take it up.

The first runs the job. When it comes to the training it leaves all that the loop needs in a folder of the job, which
all of them see, and says where; then each opens it and runs the loop, the first as well. When the job has ended, it
says so.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load_file, save_file

from limbeck import registry, training
from limbeck.errors import Conflict, DamagedArtifact, InvalidInput, NotYet
from limbeck.models import adapters
from limbeck.models.loading import LoadedModel, load, save
from limbeck.models.packing import Tokens
from limbeck.progress import Progress, Silent, StopSignal
from limbeck.recipe import Adapter, Objective, Recipe, Training
from limbeck.records import CustomModel, SoftLabels
from limbeck.settings import Settings
from limbeck.storage.tensor_files import tensor_file
from limbeck.storage.workspace import Workspace, read_json, write_json

__all__ = ["check", "help_along", "lead", "working_together"]

PLACE = ".together"
ENDED, FAILED = "ended", "failed"


def check(recipe: Recipe, processes: training.Processes, settings: Settings) -> None:
    """Refuse what only one process can do, before anybody is asked anything."""
    if processes.size == 1:
        return
    if settings.device != "cpu":
        raise NotYet(f"LIMBECK_DEVICE is {settings.device}; several processes train together on processors alone yet")
    for key, asked in (("on_policy", recipe.objective.on_policy), ("hidden", recipe.objective.hidden)):
        if asked is not None:
            raise InvalidInput(
                f"training.objective.{key}: its teacher works beside the student, in one process; drop it, or start one"
                " process alone"
            )


@contextmanager
def working_together(processes: training.Processes) -> Iterator[None]:
    """The first process at its job: however it ends, the others hear of it."""
    ending = FAILED
    try:
        yield
        ending = ENDED
    finally:
        processes.part(ending)


def lead(
    student: LoadedModel,
    lessons: Sequence[training.TrainingExample],
    validation: Sequence[Sequence[training.TrainingExample]],
    objective: Objective,
    recipe: Recipe,
    folder: Path,
    work: Workspace,
    settings: Settings,
    processes: training.Processes,
) -> None:
    """Train with the others, in ``folder``. ``student`` itself stays as it is."""
    place = folder / PLACE
    shutil.rmtree(place, ignore_errors=True)
    save(student.model, student.renderer.tokenizer, place / "model")
    for number, examples in enumerate((lessons, *validation)):
        _write(examples, place / f"examples-{number}.safetensors")
    plan = {
        "sets": 1 + len(validation),
        "objective": objective.model_dump(mode="json"),
        "training": recipe.training.model_dump(mode="json"),
        "adapter": None if recipe.student.adapter is None else recipe.student.adapter.model_dump(mode="json"),
    }
    write_json(place / "plan.json", plan)
    processes.say(str(folder))
    _train(folder, settings, work.progress, work.stop, processes)
    shutil.rmtree(place)


def help_along(work: Workspace, settings: Settings, processes: training.Processes) -> CustomModel:
    """Train what the first says, until its job has ended; gives the model that came of it."""
    while (said := processes.hear(work.stop)) not in (ENDED, FAILED):
        _train(Path(said), settings, Silent(), work.stop, processes)
    processes.heard()
    if said == FAILED:
        raise Conflict("the first process has ended its job; what it said tells why")
    return registry.registered_as(work.name, settings)


def _train(
    folder: Path, settings: Settings, progress: Progress, stop: StopSignal, processes: training.Processes
) -> None:
    place = folder / PLACE
    try:
        plan = read_json(place / "plan.json")
    except DamagedArtifact:
        raise InvalidInput(
            f"{place}: not seen by process {processes.rank + 1} of {processes.size}; expected one home for all"
            " (LIMBECK_HOME on a disk that their machines share)"
        ) from None
    model = load(str(place / "model"), settings).model
    torch.set_num_threads(settings.threads)
    if plan["adapter"] is not None:
        adapters.attach(model, Adapter.model_validate(plan["adapter"]), plan["training"]["seed"])
    lessons, *validation = (_read(place / f"examples-{number}.safetensors") for number in range(plan["sets"]))
    training.train(
        model,
        lessons,
        validation,
        Objective.model_validate(plan["objective"]),
        Training.model_validate(plan["training"]),
        folder,
        progress,
        stop,
        processes=processes,
    )


def _write(examples: Sequence[training.TrainingExample], path: Path) -> None:
    """Examples as arrays, end to end: E of them, T response tokens, K candidates."""
    tokens = [one.tokens for one in examples]
    read = [[at, stretch.start, stretch.stop] for at, one in enumerate(tokens) for stretch in one.read]
    arrays: dict[str, npt.NDArray[Any]] = {
        "ids": np.array([token for one in tokens for token in one.ids], np.int32),
        "lengths_E": np.array([len(one.ids) for one in tokens], np.int64),
        "starts_E": np.array([one.response_start for one in tokens], np.int64),
        "read": np.array(read, np.int64).reshape(-1, 3),
    }
    soft = [one.soft_labels.opened() for one in examples if one.soft_labels is not None]
    if soft:
        arrays["top_ids_TK"] = np.concatenate([one.top_ids_TK for one in soft])
        arrays["top_logprobs_TK"] = np.concatenate([one.top_logprobs_TK for one in soft])
        arrays["tail_logprob_T"] = np.concatenate([one.tail_logprob_T for one in soft])
    with tensor_file(path):
        save_file(arrays, path)


def _read(path: Path) -> list[training.TrainingExample]:
    with tensor_file(path):
        arrays = load_file(path)
    read: dict[int, list[range]] = {}
    for at, start, stop in arrays["read"].tolist():
        read.setdefault(at, []).append(range(start, stop))
    examples, begin, told = [], 0, 0
    for at, (length, start) in enumerate(zip(arrays["lengths_E"].tolist(), arrays["starts_E"].tolist(), strict=True)):
        ids = tuple(arrays["ids"][begin : begin + length].tolist())
        tokens = Tokens(ids, start, tuple(read.get(at, ())))
        begin += length
        soft = None
        if "tail_logprob_T" in arrays:
            own = slice(told, told + len(tokens.response))
            soft = SoftLabels(*(arrays[name][own] for name in ("top_ids_TK", "top_logprobs_TK", "tail_logprob_T")))
            told = own.stop
        examples.append(training.TrainingExample(tokens, soft))
    return examples
