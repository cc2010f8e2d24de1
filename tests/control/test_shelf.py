"""Custom models under AWS's names: as the registry has them, whatever changes beside it."""

import os

import pytest

from limbeck.arns import Arns
from limbeck.control.shelf import Shelf
from limbeck.settings import Settings
from limbeck.storage.workspace import write_json

BASE = "huggingface.smollm2-135m-instruct-v1:0"


@pytest.fixture
def home(tmp_path):
    settings = Settings.read(tmp_path)
    return settings, Shelf(settings, Arns(settings.region, settings.account))


def register(settings, name, base=BASE, kind="distillation", rested=True, **lineage):
    place = settings.jobs / name / "6-model"
    write_json(place / "manifest.json", {"files": {}})
    row = {"name": name, "kind": kind, "base": base, "fingerprint": "f" * 64, "lineage": lineage, "path": str(place)}
    write_json(settings.models / f"{name}.json", row)
    if rested:  # as a registry that has not changed for a while
        os.utime(settings.models, (1_700_000_000, 1_700_000_000 + len(list(settings.models.iterdir()))))


@pytest.mark.parametrize("rested", [True, False])
def test_a_model_is_found_by_its_name_and_arn_from_the_moment_it_is_registered(home, rested):
    settings, shelf = home
    assert (shelf.all(), shelf.find("desk")) == ([], None)
    register(settings, "desk", rested=rested)
    register(settings, "brought", kind="imported", rested=rested)
    (one,) = shelf.all()
    assert shelf.find("desk") is shelf.find("desk") if rested else shelf.find("desk") is not None
    assert shelf.find("desk") == shelf.find(one.arn) == one
    assert one.arn.startswith("arn:aws:bedrock:us-east-1:000000000000:custom-model/huggingface.smollm2")
    assert shelf.find("brought") is None
    register(settings, "hall", base="desk", rested=rested)
    hall = shelf.find("hall")
    assert (hall.base_arn, hall.base_id, hall.customization_type) == (one.arn, BASE, "DISTILLATION")
    assert {found.model.name for found in shelf.all()} == {"desk", "hall"}


def test_a_model_whose_files_are_gone_is_not_there_until_they_come_back(home):
    settings, shelf = home
    for name in ("desk", "hall"):
        register(settings, name)
    assert len(shelf.all()) == 2
    aside = settings.home / "aside"
    (settings.jobs / "desk").rename(aside)
    assert (shelf.find("desk"), [one.is_there() for one in shelf.all()]) == (None, [False, True])
    other = Shelf(settings, Arns(settings.region, settings.account))  # of a service that begins now
    assert [one.model.name for one in other.all()] == ["hall"]
    aside.rename(settings.jobs / "desk")
    assert shelf.find("desk").is_there() and other.find("desk").is_there()
    (settings.models / "desk.json").unlink()
    assert shelf.find("desk") is None
