"""Two processes that train one model find what one finds, whole or with parted layers, and resume to the same bits."""

import json
import multiprocessing
import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests import forks
from tests.conftest import make_model
from tests.factory import pairs
from tests.training.test_loop import PLAN, StopAt, rows, same_bits
from tests.training.test_step import batch

import limbeck
from limbeck.errors import InvalidInput, Stopped
from limbeck.models import adapters
from limbeck.models.loading import load
from limbeck.progress import Silent, StopSignal
from limbeck.recipe import Adapter, Objective, Recipe
from limbeck.settings import Settings
from limbeck.steps import together
from limbeck.training import ALONE, Processes, head, joined, memory, train
from limbeck.training.memory import forecast
from limbeck.training.parallel import Replicas
from limbeck.training.processes import parted, whole
from limbeck.training.step import accumulate

FORWARD_KL = Objective(forward_kl=1)
TWO = PLAN.model_copy(update={"batch_size": 7, "pack_tokens": 60, "replicas": 1, "freeze_embeddings": False})
SECONDS = 240


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def in_two(target, *arguments) -> None:
    """``target`` in two processes that a launcher would have started, each with its rank first."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["limbeck.pipeline"])
    port = free_port()
    both = [context.Process(target=_one_of_two, args=(rank, port, target, arguments)) for rank in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(SECONDS)
    assert [one.exitcode for one in both] == [0, 0]


def _one_of_two(rank, port, target, arguments):
    told = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    os.environ |= {name: str(value) for name, value in told.items()}
    torch.set_num_threads(1)
    with joined() as processes:
        assert (processes.rank, processes.size, processes.first) == (rank, 2, rank == 0)
        target(processes, *arguments)


def opened(folder: Path, adapter: bool):
    model = load(str(folder), Settings.read()).model
    if adapter:
        adapters.attach(model, Adapter(kind="lora", rank=4), 0)
    return model


def trained(processes, folder, model, plan, adapter=False, broken=False):
    """A run, broken off after every second step if so asked; what the others hold is compared with the first's."""
    one = opened(model, adapter)
    validation = [batch(4)] if plan.keep == "best" else []
    while True:
        stop = StopSignal()
        watcher = StopAt(stop, 2) if broken and processes.first else Silent()
        try:
            train(one, batch(), validation, FORWARD_KL, plan, folder, watcher, stop, processes=processes)
        except Stopped:
            one = opened(model, adapter)  # as new processes would
            continue
        break
    assert parted(one) is plan.shard
    if not plan.shard:
        held = {name: p.detach().clone() for name, p in one.named_parameters() if p.requires_grad}
        assert same_bits(held, load_file(folder / "weights.safetensors")), "each holds the same weights"


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "model")


@pytest.mark.parametrize(("shard", "adapter"), [(False, False), (True, False), (True, True)])
def test_two_processes_train_as_one_does(model, tmp_path, shard, adapter):
    plan = TWO.model_copy(update={"shard": shard, "freeze_embeddings": adapter})
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    trained(ALONE, tmp_path / "one", model, plan.model_copy(update={"shard": False}), adapter)
    in_two(trained, tmp_path / "two", model, plan, adapter)
    alone, together = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    assert alone.keys() == together.keys()
    start = dict(opened(model, adapter).named_parameters())
    for name, weight in alone.items():
        moved = (weight - start[name].detach()).norm()
        assert moved > 0 and (together[name] - weight).norm() < 1e-3 * moved, name
    ours, theirs = (rows(tmp_path / name / "metrics.csv") for name in ("two", "one"))
    for one, other in zip(ours, theirs, strict=True):
        for column in ("training_loss", "gradient_norm", "perplexity"):
            assert float(one[column]) == pytest.approx(float(other[column]), rel=1e-3)


@pytest.mark.parametrize("shard", [False, True], ids=["whole", "parted"])
def test_a_run_of_two_broken_off_ends_with_the_bits_of_an_unbroken_one(model, tmp_path, shard):
    plan = TWO.model_copy(update={"shard": shard, "keep": "best", "validate_every": 1, "freeze_embeddings": True})
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
        in_two(trained, tmp_path / name, model, plan, False, name == "broken")
    whole, broken = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "broken"))
    assert same_bits(whole, broken)
    assert not list((tmp_path / "broken").glob("step-*"))
    ours, theirs = (
        [{k: v for k, v in row.items() if k != "tokens_per_second"} for row in rows(tmp_path / name / "metrics.csv")]
        for name in ("broken", "whole")
    )
    assert ours == theirs


def few(processes, folder, model, shard):
    """More processes than examples, and one with many packs more than the other."""
    one = opened(model, False)
    head.learn_in_place(one)
    if shard:
        processes.shard(one)
    replicas = Replicas(one, None, 1, 1, processes)
    for number, examples in enumerate((batch(1), batch(3), batch(9))):
        one.zero_grad()
        found = replicas.accumulate(examples, FORWARD_KL, 30)
        watched = replicas.accumulate(examples, FORWARD_KL, 30, backward=False)
        assert watched.mean == pytest.approx(found.mean, rel=1e-5)
        gradients = {name: whole(p.grad).contiguous() for name, p in one.named_parameters()}
        if processes.first:
            save_file({"mean": torch.tensor(found.mean), **gradients}, folder / f"{number}.safetensors")


@pytest.mark.parametrize("shard", [False, True], ids=["whole", "parted"])
def test_processes_with_less_to_do_keep_pace(model, tmp_path, shard):
    in_two(few, tmp_path, model, shard)
    one = opened(model, False)
    for number, count in enumerate((1, 3, 9)):
        one.zero_grad()
        expected = accumulate(one, batch(count), FORWARD_KL, 30).mean
        found = load_file(tmp_path / f"{number}.safetensors")
        assert float(found.pop("mean")) == pytest.approx(expected, rel=1e-5)
        for name, parameter in one.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-6)


def test_parted_layers_take_less_memory(tiny):
    tokens = [one.tokens for one in batch()]
    whole, half = (forecast(tiny.model, tokens, 8, 2048, 1, 2, shard) for shard in (False, True))
    assert half.moments < 0.7 * whole.moments and half.gradients < 0.7 * whole.gradients
    assert half.weights < whole.weights and half.activations == whole.activations
    assert memory.forecast(tiny.model, tokens, 8, 2048, 1, 1).activations > whole.activations


def launched(home: Path, recipe: Path) -> list[subprocess.CompletedProcess]:
    """`limbeck distill` in two processes that are told of each other as torch's launcher does."""
    port = str(free_port())
    told = {"LIMBECK_HOME": str(home), "GLOO_SOCKET_IFNAME": "lo", "LIMBECK_THREADS": "1"}
    told |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}

    def one(rank: int) -> subprocess.CompletedProcess:
        folder = recipe.parent / f"process {rank}"
        folder.mkdir()
        return forks.command(["distill", str(recipe)], {**os.environ, **told, "RANK": str(rank)}, folder)

    with ThreadPoolExecutor() as both:
        return list(both.map(one, range(2)))


@pytest.fixture
def recipe(taught_folder, tmp_path):
    """A small distillation with parted layers."""
    prompts = pairs(tmp_path / "p.jsonl", 24, labelled=False)
    held_out = pairs(tmp_path / "t.jsonl", 6, start=1000)
    made = {
        "kind": "distillation",
        "name": "together",
        "source": {"prompts": str(prompts), "held_out": str(held_out), "minimum": 10, "system": "Name the intent."},
        "teacher": {"model": str(taught_folder)},
        "student": {"shrink": {"layers": 2}},
        "synthesis": {"max_response_tokens": 6},
        "training": {"epochs": 2, "batch_size": 8, "learning_rate": 0.005, "shard": True},
        "evaluation": {"latency_requests": 2, "baseline": False},
        "export": {"gguf": "none"},
    }
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(made))
    return path


def test_two_processes_do_a_job_and_the_first_tells_of_it(recipe, tmp_path):
    first, second = launched(tmp_path / "home", recipe)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stdout.count("Verdict:") == 1 and second.stdout == second.stderr == ""
    (model,) = (tmp_path / "home" / "jobs").glob("together/6-model")
    assert not (model.parent / "4-training" / ".together").exists()
    assert "loss" in (model.parent / "4-training" / "metrics.csv").read_text()
    assert limbeck.load("together", home=tmp_path / "home").answer("hi", max_tokens=4) is not None


@pytest.mark.parametrize("key", ["on_policy", "hidden"])
def test_what_only_one_process_can_do_is_refused(key, settings):
    job = {"kind": "distillation", "name": "a", "source": {"prompts": "p.jsonl"}, "teacher": {"model": "m"}}
    objective = {"reverse_kl": 1, key: {"share": 0.5} if key == "on_policy" else {"weight": 1}}
    recipe = Recipe.build({**job, "student": {"shrink": {"layers": 2}}, "training": {"objective": objective}})
    together.check(recipe, ALONE, settings)
    with pytest.raises(InvalidInput, match=rf"training\.objective\.{key}: its teacher works beside the student"):
        together.check(recipe, Processes(0, 2), settings)


def test_processes_that_are_not_there_are_told(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidInput, match=r"WORLD_SIZE is 2.*RANK.*torchrun"), joined():
        pass
