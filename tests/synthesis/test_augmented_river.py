"""A whole distillation whose teacher writes prompts first: they are answered, learned, and shown as what they are."""

import json

from tests.conftest import make_model
from tests.factory import message, write_rows

import limbeck
from limbeck.settings import Settings
from limbeck.views.report import report
from limbeck.views.rows import rows


def read_manifest(job, stage):
    return json.loads((job / stage / "manifest.json").read_text())["inputs"]["teacher"]


def test_made_prompts_are_answered_learned_and_in_view(tmp_path, tiny_folder):
    given = [{"prompt": message(i)[0], "completion": message(i)[1]} for i in range(20)]
    test = [{"prompt": message(i)[0], "completion": message(i)[1]} for i in range(90, 94)]
    recipe = {
        "kind": "distillation",
        "name": "student",
        "source": {
            "prompts": str(write_rows(tmp_path / "rows.jsonl", given)),
            "held_out": str(write_rows(tmp_path / "test.jsonl", test)),
            "minimum": 10,
        },
        "teacher": {"model": str(tiny_folder)},
        "student": {"shrink": {"layers": 1}},
        "synthesis": {
            "max_response_tokens": 4,
            "top_k": 8,
            "augment": {"to": 30, "methods": ["paraphrase", "vary"], "max_tokens": 24, "temperature": 1.5},
        },
        "training": {"epochs": 1},
        "evaluation": {"latency_requests": 2, "baseline": False},
        "export": {"gguf": "none"},
    }
    writer = {"model": str(make_model(tmp_path / "writer", layers=2, seed=9))}
    recipe["synthesis"]["augment"]["writer"] = writer
    home = tmp_path / "home"
    made = limbeck.distill(recipe, home=home)
    job = home / "jobs" / "student"
    summary = json.loads((job / "2-augmented" / "summary.json").read_text())
    shown = list(rows(job))
    written = [row for row in shown if row["prompt_origin"] == "augmented"]
    assert len(written) == summary["made"] > 0 and len(shown) == 24 + len(written)
    assert all(row["origin"] == "teacher" and row["prompt_parent"] and row["prompt_method"] for row in written)
    assert read_manifest(job, "2-augmented") != read_manifest(job, "2-synthesis")
    said = json.loads((job / "5-evaluation" / "report.json").read_text())["details"]["said"]
    assert summary["sentence"] in said
    page = report(job, Settings(home, threads=1))
    assert "prompts by origin" in page and summary["sentence"].split(";")[0][1:] in page

    asked = json.loads((job / "recipe.json").read_text())
    (job / "recipe.json").write_text(json.dumps({**asked, "curation": {**asked["curation"], "privacy": "mask"}}))
    private = report(job, Settings(home, threads=1))
    assert "Samples of what was refused" in page and "Samples of what was refused" not in private
    (job / "recipe.json").write_text(json.dumps(asked))

    before = {path: path.stat().st_mtime_ns for path in job.rglob("manifest.json")}
    assert limbeck.distill(recipe, home=home, resume=True).fingerprint == made.fingerprint
    assert {path: path.stat().st_mtime_ns for path in job.rglob("manifest.json")} == before
