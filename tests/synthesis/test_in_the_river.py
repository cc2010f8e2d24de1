"""A whole distillation with a trial, a context and mended labels: each step leaves its traces, and the report tells."""

import json

import pytest
from tests.conftest import make_model
from tests.factory import message, write_rows

import limbeck

SYSTEM = "You are the teacher and you know."


@pytest.fixture
def recipe(tmp_path, tiny_folder):
    rows = [{"prompt": message(i)[0], "completion": message(i)[1], "context": f"Page {i}."} for i in range(30)]
    test = [{"prompt": message(i)[0], "completion": message(i)[1], "context": f"Page {i}."} for i in range(90, 94)]
    return {
        "kind": "distillation",
        "name": "student",
        "source": {
            "prompts": str(write_rows(tmp_path / "rows.jsonl", rows)),
            "held_out": str(write_rows(tmp_path / "test.jsonl", test)),
            "minimum": 10,
            "system": "Name the intent.",
        },
        "trial": {"teachers": [str(make_model(tmp_path / "other", layers=2, seed=9)), str(tiny_folder)], "rows": 4},
        "student": {"shrink": {"layers": 1}},
        "synthesis": {"max_response_tokens": 4, "top_k": 8, "teacher_system": SYSTEM, "labels": "improve"},
        "training": {"epochs": 1},
        "evaluation": {"latency_requests": 2, "baseline": False},
        "export": {"gguf": "none"},
    }


def test_what_was_tried_and_decided_is_told_and_the_teacher_examined_as_it_taught(tmp_path, recipe):
    home = tmp_path / "home"
    made = limbeck.distill(recipe, home=home)
    job = home / "jobs" / "student"
    chosen = json.loads((job / "2-teachers" / "trial.json").read_text())
    policy = json.loads((job / "2-synthesis" / "policy.json").read_text())
    assert made.lineage["taught_by"] == chosen["chosen"] and len(chosen["candidates"]) == 2
    report = json.loads((job / "5-evaluation" / "report.json").read_text())
    said = report["details"]["said"]
    learned, tried, decided = (next(s for s in said if part in s) for part in ("were learned", "teacher: ", "labels: "))
    assert "labels as they were given" in learned and tried == chosen["sentence"]
    assert decided == f"labels: {policy['labels']}, as the recipe says" == "labels: improve, as the recipe says"
    page = (job / "5-evaluation" / "report.html").read_text()
    assert "How the data were made" in page and "the best of 2 by labels on 4 prompts" in page
    kept = [json.loads(line) for line in (job / "3-curation" / "kept.jsonl").read_text().splitlines()]
    assert all(SYSTEM not in json.dumps(row) and "Page" not in json.dumps(row) for row in kept)
    assert all(row["label"] == message(int(row["messages"][-1]["text"].split()[4][:-1]))[1] for row in kept)

    before = {path: path.stat().st_mtime_ns for path in (home / "jobs").rglob("manifest.json")}
    again = limbeck.distill(recipe, home=home, resume=True)
    assert again.fingerprint == made.fingerprint
    assert {path: path.stat().st_mtime_ns for path in (home / "jobs").rglob("manifest.json")} == before
