"""`limbeck data` at the terminal: what each command prints, and that none of them loads torch."""

import json
import subprocess
import sys

import pytest
from tests.views.conftest import home, register  # noqa: F401 (a fixture)
from typer.testing import CliRunner

from limbeck.cli.data import app
from limbeck.views.rows import job_folder, rows


@pytest.fixture
def run(home):  # noqa: F811
    register(home, "student", "first", "base", "scripted")

    def run(*words, ok=True):
        result = CliRunner().invoke(app, [*words, "--home", str(home.home)], catch_exceptions=not ok)
        assert (result.exit_code == 0) is ok
        return result.output if ok else result.exception

    return run


def test_show_prints_rows_and_nothing_a_terminal_obeys(run):
    said = run("show", "first", "--where", "prompt~script", "--where", "verdict!=none yet")
    assert "1 of 1 rows" in said and "<script>" in said
    assert "\x1b[31m" not in said and "\u202e" not in said
    (row,) = map(json.loads, run("show", "first", "--where", "verdict=refusal", "--json").splitlines())
    assert row["prompt"] == "please refuse this"
    assert "3 of 35 rows; --limit 0 shows all" in run("show", "first", "--limit", "3")


def test_a_verdict_that_does_not_exist_is_told_with_those_that_do(run):
    said = str(run("show", "first", "--where", "verdict!=keep", ok=False))
    assert said.startswith('--where "verdict!=keep": unknown verdict "keep"; expected one of kept, held-out, empty,')
    assert said.endswith("balance, none yet")
    found = run("show", "first", "--where", "verdict!=kept", "--where", "split!=held-out")
    assert "1 of 1 rows" in found and "refusal" in found


@pytest.mark.parametrize("command", ["show", "export", "report"])
def test_a_job_that_read_documents_is_not_shown_as_one_without_rows(run, home, command):  # noqa: F811
    recipe = home.jobs / "reader" / "recipe.json"
    recipe.parent.mkdir()
    recipe.write_text(json.dumps({"kind": "continued-pre-training"}))
    said = str(run(command, "reader", ok=False))
    assert said.startswith("reader: it read documents") and "1-intake/documents.jsonl" in said
    assert not (home.jobs / "reader" / "data.html").exists()


def test_lineage_and_forget_name_the_model(run, home):  # noqa: F811
    row = next(row for row in rows(job_folder("first", home)) if row["verdict"] == "kept" and row["split"] == "train")
    said = run("lineage", row["id"][:10])
    assert "trained student" in said and f"line {row['line']}" in said and "of scripted" in said
    said = run("forget", row["id"])
    assert "1 rows in 1 jobs; models that learned from them: student" in said and "answers.sqlite" in said
    assert "models that learned from them: none" in run("forget", "user=nobody")


def test_export_writes_kept_rows_for_training_and_all_rows_otherwise(run, tmp_path):
    kept = run("export", "first", "--format", "openai").splitlines()
    assert all(json.loads(line)["messages"][-1]["role"] == "assistant" for line in kept)
    assert len(run("export", "first").splitlines()) == 35 > len(kept) > 20
    run("export", "first", "--format", "parquet", "--to", str(tmp_path / "x.parquet"))
    assert (tmp_path / "x.parquet").stat().st_size > 1000
    assert "say --to FILE" in str(run("export", "first", "--format", "parquet", ok=False))


@pytest.mark.parametrize(
    "words", [("export", "first"), ("export", "first", "--format", "parquet"), ("report", "first")]
)
def test_a_place_that_no_file_can_have_is_told_and_what_looks_like_a_pattern_is_a_name(run, words, tmp_path):
    assert str(run(*words, "--to", str(tmp_path), ok=False)) == f"--to {tmp_path}: a folder; expected a file"
    assert "cannot be written" in str(run(*words, "--to", "/proc/nowhere/x", ok=False))
    (tmp_path / "q?").mkdir()
    run(*words, "--to", str(tmp_path / "q?" / "a[1]*.out"))
    assert [path.name for path in (tmp_path / "q?").iterdir()] == ["a[1]*.out"]


def test_report_writes_a_page_into_the_jobs_folder(run, home):  # noqa: F811
    assert run("report", "first").strip() == str(home.jobs / "first" / "data.html")
    assert "<!doctype html>" in (home.jobs / "first" / "data.html").read_text()


def test_none_of_it_loads_torch():
    code = "import sys, limbeck.cli.data, limbeck.views.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
