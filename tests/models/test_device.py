"""Whatever a job does on another device than the processor comes to the same, and a device not there is told."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests import elsewhere
from tests.factory import pairs, write_rows

import limbeck
from limbeck.errors import InvalidInput, NotYet
from limbeck.models import products
from limbeck.models.device import device_called, memory_of
from limbeck.models.loading import load_weights
from limbeck.settings import Settings, machine_memory
from limbeck.steps import together
from limbeck.training import Processes

NARROW = {"shrink": {"layers": 2, "choose": "importance", "feed_forward": 0.5, "vocabulary": 380}}
BOTH_KL = {"forward_kl": 0.5, "reverse_kl": 0.5}
HIDDEN = {"forward_kl": 1.0, "hidden": {"measure": "cosine"}}

DISTILLATIONS = {
    "hidden states, a trimmed vocabulary, a checkpoint a step": (
        {"shrink": {"layers": 2, "vocabulary": 380}},
        {"freeze_embeddings": False, "objective": HIDDEN, "checkpoint_seconds": 0.001},
        {},
    ),
    "chosen by importance, on-policy": (NARROW, {"objective": BOTH_KL | {"on_policy": {"share": 0.5}}}, {}),
    "an adapter, draws of a teacher that samples": (
        {"shrink": {"layers": 2}, "adapter": {"kind": "lora", "rank": 4}},
        {},
        {"temperature": 0.7, "draws": 12},
    ),
}
READING = "read on"


def recipes(place, taught_folder):
    prompts, held_out = pairs(place / "prompts.jsonl", 12, labelled=False), pairs(place / "test.jsonl", 3, start=1000)
    texts = write_rows(place / "texts.jsonl", [{"input": f"the kettle {at} leaks on the floor"} for at in range(12)])
    common = {"name": "made", "export": {"gguf": "none"}}
    training = {"epochs": 1, "batch_size": 4, "learning_rate": 0.005, "replicas": 1, "precision": "fp32"}
    source = {"prompts": str(prompts), "held_out": str(held_out), "minimum": 1, "system": "Name the intent."}
    found = {
        name: common | {
            "kind": "distillation",
            "source": source,
            "teacher": {"model": str(taught_folder)},
            "student": student,
            "synthesis": {"max_response_tokens": 4, "top_k": 8, **synthesis},
            "training": training | more,
            "evaluation": {"latency_requests": 2, "baseline": False},
        }
        for name, (student, more, synthesis) in DISTILLATIONS.items()
    }  # fmt: skip
    found[READING] = common | {
        "kind": "continued-pre-training",
        "source": {"prompts": str(texts), "minimum": 1},
        "student": {"model": str(taught_folder)},
        "training": training,
    }
    return found


@pytest.fixture(scope="module")
def done(tmp_path_factory, taught_folder):
    """Recipes by name, and for each the home where it was done elsewhere and what was raised there."""
    place = tmp_path_factory.mktemp("elsewhere")
    asked = recipes(place, taught_folder)
    homes = {name: place / str(at) for at, name in enumerate(asked)}
    lines = [json.dumps({"recipe": asked[name], "home": str(homes[name])}) for name in asked]
    told = subprocess.run(
        [sys.executable, "-m", "tests.elsewhere"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        env={**os.environ, "LIMBECK_DEVICE": elsewhere.NAME},
        cwd=Path(elsewhere.__file__).parent.parent,
    )
    answers = told.stdout.splitlines()
    assert len(answers) == len(asked), told.stderr
    return {name: (asked[name], homes[name], json.loads(raised)) for name, raised in zip(asked, answers, strict=True)}


@pytest.mark.parametrize("name", [*DISTILLATIONS, READING])
def test_a_job_on_another_device_comes_to_the_same(name, done, tmp_path, monkeypatch):
    monkeypatch.setattr(products, "FASTER", False)  # that device has PyTorch's products
    recipe, there, raised = done[name]
    assert raised is None, raised
    do = limbeck.distill if recipe["kind"] == "distillation" else limbeck.pretrain
    do(recipe, home=tmp_path)
    jobs = [home / "jobs" / "made" for home in (tmp_path, there)]
    losses = [list(csv.DictReader((job / "4-training" / "metrics.csv").read_text().splitlines())) for job in jobs]
    columns = ("training_loss", "gradient_norm")
    for here, other in zip(*losses, strict=True):
        assert [float(other[x]) for x in columns] == pytest.approx(
            [float(here[x]) for x in columns], rel=1e-3, abs=1e-6
        )
    own, others = (load_weights(job / "6-model" / "model.safetensors") for job in jobs)
    assert own.keys() == others.keys()
    for key, value in own.items():
        # Not number by number: where a gradient is nearly nothing, AdamW makes steps of its rounding.
        assert others[key].shape == value.shape and (others[key] - value).norm() < 1e-3 * value.norm(), key
    if name != READING:
        answers = [(job / "5-evaluation" / "answers.jsonl").read_text() for job in jobs]
        assert answers[0] == answers[1]


def test_devices_that_are_not_there_are_told():
    with pytest.raises(InvalidInput, match='LIMBECK_DEVICE is "gpu"; expected cpu, cuda, cuda:1, mps'):
        device_called("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(InvalidInput, match=r'"cuda:1", and torch .* finds none of that kind; expected cpu, or'):
            device_called("cuda:1")
    assert device_called("cpu") == torch.device("cpu") and memory_of(torch.device("cpu")) == machine_memory()


def test_several_processes_train_on_processors_alone(tmp_path):
    settings = Settings(tmp_path, threads=1, device="cuda")
    with pytest.raises(NotYet, match="LIMBECK_DEVICE is cuda; several processes"):
        together.check(None, Processes(0, 2), settings)
