"""A home with a job done up to its verdicts by a scripted teacher, and a registered model that came of it."""

import json

import pytest
from tests.factory import message, write_rows

from limbeck import curation
from limbeck.intake import collect
from limbeck.recipe import Recipe
from limbeck.records import GenerationSettings
from limbeck.settings import Settings
from limbeck.storage.workspace import Workspace, write_json
from limbeck.synthesis import Framing, Session, answer
from limbeck.teachers.scripted import ScriptedTeacher

HOSTILE = "<script>alert('x')</script>\x1b[31m about my kettle \u202e <img src=x onerror=y>"


def said(text: str) -> str:
    return "I'm sorry, but I cannot help with that." if "refuse" in text else HOSTILE if "script" in text else "leak"


@pytest.fixture
def home(tmp_path) -> Settings:
    settings = Settings(tmp_path / "home", threads=1)
    rows = [{"prompt": message(i)[0]} for i in range(30)]
    rows += [{"prompt": message(31)[0], "completion": "noise"}] * 2
    rows += [{"prompt": "please refuse this"}, {"prompt": HOSTILE}, {"prompt": "tell ada@example.org that it leaks"}]
    rows += [{"prompt": "tell ada@example.org that it leaks today"}]
    rows += [{"prompt": 7}]
    file = write_rows(tmp_path / "prompts<b>.jsonl", rows)
    recipe = Recipe.build(
        {
            "kind": "distillation",
            "name": "first",
            "source": {"prompts": str(file), "held_out_share": 0.2, "minimum": 1},
            "teacher": {"model": "scripted", "prices": {"input": 1.0, "output": 2.0}},
            "curation": {"refusals": True, "privacy": "mask"},
        }
    )
    work = Workspace(settings.jobs / "first")
    write_json(work.folder / "recipe.json", recipe.dump())
    examples = collect(recipe, work)
    session = Session(ScriptedTeacher(said), GenerationSettings(200), Framing(), settings.answers, work)
    answered = answer(examples, session, recipe.synthesis, lambda one, other: 0.0)
    curation.sift(answered, examples, work, recipe.curation, curation.Asking(session.settings))
    return settings


def register(settings: Settings, name: str, job: str, base: str, taught_by: str) -> None:
    path = str(settings.jobs / job / "6-model")
    about = {"name": name, "path": path, "base": base, "lineage": {"taught_by": taught_by}}
    settings.models.mkdir(parents=True, exist_ok=True)
    (settings.models / f"{name}.json").write_text(json.dumps(about))
