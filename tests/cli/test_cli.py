"""The command line as a user meets it: real processes, what goes where, and the exit status.

Verbs that need torch are forked from a process that has it, but for those here that a signal or a terminal meets.
"""

import errno
import gzip
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest
import yaml
from tests.factory import message, pairs, write_rows
from tests.forks import command as forked_command

from limbeck.cli.app import _of_the_machine
from limbeck.storage.workspace import write_json

HEAVY = ("distill", "evaluate", "export")


@pytest.fixture
def limbeck(tmp_path):
    environment = {**os.environ, "LIMBECK_HOME": str(tmp_path / "home"), "LIMBECK_THREADS": "1", "COLUMNS": "200"}

    def run(*arguments, input=""):
        arguments = [str(argument) for argument in arguments]
        if arguments[0] in HEAVY:
            return forked_command(arguments, environment, tmp_path, input)
        command = [sys.executable, "-m", "limbeck", *arguments]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, input=input
        )

    run.environment = environment
    return run


TEN_FAULTS = [
    '{"prompt": "a"',
    "[]",
    '{"prompt": 7}',
    '{"prompt": "a", "prompt": "b"}',
    '{"text": "a"}',
    '{"messages": []}',
    '{"messages": [{"role": "asistant", "content": "a"}]}',
    '{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}',
    '{"schemaVersion": "bedrock-conversion-2024", "messages": [{"role": "user", "content": [{"text": "a"}]}]}',
    '{"schemaVersion": "bedrock-conversation-2024", "messages": [{"role": "user", "content": [{"image": {}}]}]}',
]


def test_what_is_counted_stands_in_one_line_however_narrow_a_terminal_is(limbeck, tmp_path):
    limbeck.environment["COLUMNS"] = "30"
    path = write_rows(tmp_path / "rows.jsonl", [{"prompt": "a", "completion": "b"}])
    told = limbeck("validate", path).stderr
    assert told == "rows.jsonl: 1 rows, 1 valid (1 different prompts, 1 with an answer)\n"
    refused = limbeck("data", "export", "none", "--format", "dance").stderr
    assert refused.startswith("limbeck: Invalid value for '--format'") and refused.count("\n") == 1


def test_logs_are_looked_at_before_a_job_is_made_of_them(limbeck, tmp_path):
    said = [{"messages": [{"role": "user", "content": [{"text": text}]}]} for text in ("a", "b", "a", "c")]
    records = [
        {
            "schemaType": "ModelInvocationLog",
            "modelId": "m",
            "input": {"inputBodyJson": body},
            "requestMetadata": {"at": str(at)},
        }
        for at, body in enumerate(said)
    ]
    (tmp_path / "log").mkdir()
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "log" / "a.json.gz").write_bytes(gzip.compress(lines.encode()))
    asked = json.dumps({"notEquals": {"at": "3"}})
    done = limbeck("logs", "log", "--filter", asked, "--to", "rows.jsonl", "--json")
    counts = {"taken": 2, "the same prompt as an earlier record": 1, "does not fit the filters": 1}
    assert (done.returncode, json.loads(done.stdout)) == (0, counts)
    assert "2 rows, 2 valid" in limbeck("validate", "rows.jsonl").stderr
    assert len((tmp_path / "rows.passed-over.csv").read_text().splitlines()) == 3
    (tmp_path / "r.yaml").write_text("{kind: distillation, name: a, source: {logs: {uri: log}}, teacher: {model: m}}")
    done = limbeck("validate", "r.yaml")
    assert "4 records: 3 taken, 1 the same prompt as an earlier record" in done.stderr
    assert (done.returncode, 'no model "m"' in done.stderr) == (2, True)
    twice = limbeck("logs", "log", "--filter", '{"equals": {"a": "b", "c": "d"}}')
    assert (twice.returncode, "--filter: equals: found 2 pairs" in twice.stderr) == (2, True)


def test_a_file_with_ten_faults_gets_ten_lines_and_nothing_else(limbeck, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(line for fault in TEN_FAULTS for line in ('{"prompt": "fine"}', fault)) + "\n")
    done = limbeck("validate", path)
    lines = done.stdout.splitlines()
    assert done.returncode == 2
    assert [line.split(":")[0] for line in lines] == [f"rows.jsonl line {2 * i + 2}" for i in range(10)]
    assert all("found" in line and "expected" in line for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_recipe_is_told_all_files_and_models_it_names_in_vain(limbeck, tmp_path, tiny_folder):
    pairs(tmp_path / "p.jsonl", 3)
    values = {
        "kind": "distillation",
        "name": "a",
        "source": {
            "prompts": ["p.jsonl", "q.jsonl"],
            "held_out": "h.jsonl",
            "golden": "g.jsonl",
            "validation": ["v.jsonl"],
            "minimum": 3,
        },
        "teacher": {"model": "nobody"},
        "student": {"model": "./nowhere"},
    }
    (tmp_path / "r.yaml").write_text(json.dumps(values))
    done = limbeck("validate", "r.yaml")
    assert done.returncode == 2
    told = [f"{name}.jsonl: No such file or directory; expected a file of rows" for name in "qvhg"]
    assert all(part in done.stderr for part in [*told, 'no model "nobody"', f'no model "{tmp_path / "nowhere"}"'])
    assert "p.jsonl" not in done.stderr
    for name in "qhgv":
        pairs(tmp_path / f"{name}.jsonl", 3)
    (tmp_path / "r.yaml").write_text(json.dumps({**values, "teacher": {"model": str(tiny_folder)}, "student": {}}))
    assert limbeck("validate", "r.yaml").returncode == 0


@pytest.mark.parametrize("command", [["validate"], ["distill", "--dry-run"]])
def test_a_cut_that_cannot_be_is_told_before_a_job_is_made(limbeck, tmp_path, tiny_folder, command):
    asked = yaml.safe_load(recipe(tmp_path, tiny_folder).read_text())
    for layers, told in (
        (40, "found 40; {} has 4 layers, expected 1 to 4"),
        ([0, 4], "found [0, 4]; {} has 4 layers, expected numbers from 0 to 3"),
        ([0, 0, 1], "layers: found [0, 0, 1]; expected different numbers from 0, in rising order"),
    ):
        (tmp_path / "cut.yaml").write_text(json.dumps({**asked, "student": {"shrink": {"layers": layers}}}))
        done = limbeck(*command, "cut.yaml")
        assert done.returncode == 2 and told.format(tiny_folder) in done.stderr


@pytest.mark.row(37)
def test_advice_on_a_recipe_comes_before_anything_is_spent(limbeck, tmp_path, tiny_folder):
    pairs(tmp_path / "rows.jsonl", 40, labelled=False)
    recipe = {
        "kind": "distillation",
        "name": "a",
        "source": {"prompts": "rows.jsonl", "minimum": 10},
        "teacher": {"model": str(tiny_folder)},
        "student": {"shrink": {"layers": 2}},
        "training": {"warmup_steps": 100},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    done = limbeck("advise", "recipe.yaml")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("! training.warmup_steps: 100 warm-up steps of ")
    assert any(line.startswith("? source.golden: no prompt has an answer") for line in lines)
    found = json.loads(limbeck("advise", "recipe.yaml", "--json").stdout)
    assert found["counts"]["prompts"] + found["counts"]["held_out"] == 40
    assert 0 < found["counts"]["student_parameters"] < found["counts"]["teacher_parameters"]
    assert all(one["reason"] and one["rules"] and one["source"] for one in found["advice"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml", "rows.jsonl"]


def test_advice_on_continued_pre_training_reads_documents(limbeck, tmp_path, tiny_folder):
    rows = "".join(json.dumps({"input": f"The kettle number {number} leaks."}) + "\n" for number in range(20))
    (tmp_path / "rows.jsonl").write_text(rows)
    (tmp_path / "book.txt").write_text("A kettle boils water.")
    recipe = {
        "kind": "continued-pre-training",
        "name": "a",
        "source": {"prompts": ["rows.jsonl", "book.txt"]},
        "student": {"model": str(tiny_folder)},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    done = limbeck("advise", "recipe.yaml", "--json")
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)["counts"]
    assert counts["prompts"] == 21 and counts["training"] + counts["validation"] + counts["held_out"] == 21


def test_a_distillation_from_faulty_rows_alone_writes_nothing(limbeck, tmp_path):
    (tmp_path / "rows.jsonl").write_text("\n".join(TEN_FAULTS) + "\n")
    done = limbeck(
        "distill", "--name", "x", "--prompts", "rows.jsonl", "--teacher", "huggingface.smollm2-135m-instruct-v1:0"
    )
    assert done.returncode == 2
    assert done.stdout == ""
    told = [line for line in done.stderr.splitlines() if "rows.jsonl line" in line]
    assert len(told) == 10
    assert "0 valid prompts of 10 rows; expected at least 100" in done.stderr
    assert "--minimum N accepts fewer" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_good_file_is_said_to_be_good(limbeck, tmp_path):
    done = limbeck("validate", pairs(tmp_path / "p.jsonl", 5))
    assert (done.returncode, done.stdout) == (0, "")
    assert "p.jsonl: 5 rows, 5 valid (5 different prompts, 5 with an answer)" in done.stderr


def test_answers_that_contradict_each_other_are_told_and_no_fault(limbeck, tmp_path):
    rows = [{"prompt": "Why?", "completion": text} for text in ("so", "so", "not so")]
    done = limbeck("validate", write_rows(tmp_path / "p.jsonl", rows))
    told = "p.jsonl line 3: another answer to the prompt of line 1; that of line 1 is learned\n"
    assert (done.returncode, done.stdout) == (0, told)
    assert "p.jsonl: 3 rows, 3 valid (1 different prompts, 3 with an answer, 1 with another than before)" in done.stderr


def test_a_removed_job_is_told_with_the_models_that_learned_from_its_own(limbeck, tmp_path):
    write_json(tmp_path / "home/jobs/old/recipe.json", {"kind": "distillation", "name": "old"})
    for name, taught_by in (("old", "x"), ("new", "old")):
        facts = {"name": name, "kind": "distillation", "base": "x", "fingerprint": "0"}
        more = {"path": f"jobs/{name}/6-model", "lineage": {"taught_by": taught_by}}
        write_json(tmp_path / f"home/models/{name}.json", {**facts, **more})
    done = limbeck("remove", "old")
    assert done.stderr.startswith("old: removed\nnew learned from it and stay;")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["validate", "nowhere.jsonl"], "nowhere.jsonl: No such file"),
        (["distill", "nowhere.yaml"], "nowhere.yaml: cannot be read: No such file"),
        (["distill", "--name", "x"], "--prompts is missing"),
        (["distill", "--nam", "x"], "No such option: --nam"),
        (["distill", "--set", "a"], 'found "a"; expected KEY=VALUE'),
        (["distill", "--set", "a=b: {"], 'a: found "b: {", which is no YAML: line 1'),
        (["distill", "--name", "nobody", "--resume"], 'no job "nobody" to go on with'),
        (["invoke", "nobody", "hi"], 'no model "nobody"'),
        (
            ["invoke", "huggingface.smollm2-135m-instruct-v1", "hi"],
            'did you mean "huggingface.smollm2-135m-instruct-v1:0"?',
        ),
        (["frobnicate"], "No such command 'frobnicate'"),
    ],
)
def test_what_is_wrong_is_told_in_words_with_status_2(limbeck, arguments, told):
    done = limbeck(*arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["keys", "add", "bob"], ["distill", "recipe.yaml"], ["jobs"]])
@pytest.mark.parametrize("inside", ["", "home"])
def test_a_file_that_stands_in_the_place_of_a_home_is_told_in_words(limbeck, tmp_path, tiny_folder, command, inside):
    recipe(tmp_path, tiny_folder)
    limbeck.environment["LIMBECK_HOME"] = str(tmp_path / "prompts.jsonl" / inside)
    done = limbeck(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"limbeck: {tmp_path / 'prompts.jsonl'}: no folder; expected one for the home" in done.stderr


def test_a_home_that_cannot_be_made_is_told_in_words(limbeck):
    limbeck.environment["LIMBECK_HOME"] = "/proc/limbeck"
    done = limbeck("keys", "add", "bob")
    assert (done.returncode, done.stderr) == (1, "limbeck: /proc/limbeck: No such file or directory\n")


@pytest.mark.parametrize(
    "arguments", [["invoke", "m", "-"], ["invoke", "m", b"\xff\xfe"], ["distill", "--system", b"\xff\xfe"]]
)
def test_text_that_is_no_utf_8_is_refused(limbeck, arguments):
    command = [sys.executable, "-m", "limbeck", *arguments]
    done = subprocess.run(command, env=limbeck.environment, capture_output=True, timeout=60, input=b"\xff\xfe")
    assert done.returncode == 2
    assert b"byte 0xff at 0; expected" in done.stderr and b"UTF-8" in done.stderr


def test_a_second_ctrl_c_is_answered_in_a_word(limbeck):
    probe = (
        "import sys, limbeck.cli.using as using\n"
        "def interrupted(*a, **k): raise KeyboardInterrupt\n"
        "using.job_states = interrupted\n"
        "sys.argv = ['limbeck', 'jobs']\n"
        "from limbeck.cli import main; main()"
    )
    command = [sys.executable, "-c", probe]
    done = subprocess.run(command, env=limbeck.environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "limbeck: stopped\n")


def test_without_a_word_it_shows_what_it_can(limbeck):
    done = subprocess.run(
        [sys.executable, "-m", "limbeck"], env=limbeck.environment, capture_output=True, text=True, check=False
    )
    assert "distill" in done.stdout and done.stderr == ""


@pytest.mark.parametrize("arguments", [["models"], ["jobs"], ["--help"], ["--version"], ["validate", "p.jsonl"]])
def test_the_front_desk_opens_without_torch(arguments, tmp_path, limbeck):
    pairs(tmp_path / "p.jsonl", 3)
    probe = (
        "import sys; sys.argv = ['limbeck', *sys.argv[1:]]\n"
        "from limbeck.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    command = [sys.executable, "-c", probe, *arguments]
    done = subprocess.run(command, env=limbeck.environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_what_it_begins_takes_no_module_from_the_folder_it_is_in(tmp_path, limbeck):
    (tmp_path / "selectors.py").write_text("raise SystemExit(9)")
    probe = (
        "import sys; sys.path.remove(''); sys.argv = ['limbeck', '--version']\n"
        "from limbeck.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "from multiprocessing import get_context\n"
        "begun = get_context('forkserver').Process(target=print, args=('begun',))\n"
        "begun.start(), begun.join()"
    )
    command = [sys.executable, "-c", probe]
    done = subprocess.run(command, env=limbeck.environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "begun", done.stderr


def test_a_model_that_nobody_measured_has_no_verdict(limbeck, tmp_path):
    for name, lineage in (
        ("brought", {}),
        ("worse", {"report": {"ship": False}}),
        ("better", {"report": {"ship": True}}),
    ):
        row = {"name": name, "path": str(tmp_path), "kind": "imported", "base": "Llama", "fingerprint": "f"}
        write_json(tmp_path / "home" / "models" / f"{name}.json", {**row, "lineage": lineage})
    found = {row["model"]: row for row in json.loads(limbeck("models", "--json").stdout)}
    verdicts = [found[name]["verdict"] for name in ("brought", "worse", "better")]
    assert verdicts == [None, "do not ship", "ship"]
    base = found["huggingface.smollm2-135m-instruct-v1:0"]
    assert (base["base"], base["licence"], base["verdict"]) == (None, "Apache-2.0", None)
    assert "None" not in limbeck("models").stdout


def recipe(tmp_path, taught_folder, **training):
    path = tmp_path / "recipe.yaml"
    pairs(tmp_path / "prompts.jsonl", 60, labelled=False)
    pairs(tmp_path / "test.jsonl", 12, start=1000)
    values = {
        "kind": "distillation",
        "name": "desk",
        "source": {"prompts": "prompts.jsonl", "held_out": "test.jsonl", "minimum": 10, "system": "Name the intent."},
        "teacher": {"model": str(taught_folder)},
        "student": {"shrink": {"layers": 2}},
        "synthesis": {"max_response_tokens": 6},
        "training": {"freeze_embeddings": False, "epochs": 5, "batch_size": 16, "learning_rate": 0.005, **training},
        "evaluation": {"latency_requests": 2},
        "export": {"gguf": "none"},
    }
    path.write_text(json.dumps(values))
    return path


def test_the_verbs_in_the_order_a_user_takes_them(limbeck, tmp_path, taught_folder):
    path = recipe(tmp_path, taught_folder)
    assert "a recipe for distillation" in limbeck("validate", path).stderr
    done = limbeck("distill", path)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("Verdict: ")
    assert [line.split("  ")[0] for line in done.stdout.splitlines()[2:6]] == [
        "teacher",
        "student before",
        "student after",
        "baseline",
    ]
    assert "training: 20 of 20 steps" in done.stderr

    models = json.loads(limbeck("models", "--json").stdout)
    shipped = ["huggingface.smollm2-135m-instruct-v1:0", "huggingface.smollm2-135m-6-layers-v1:0"]
    assert [row["model"] for row in models] == [*shipped, "desk"]
    jobs = json.loads(limbeck("jobs", "--json").stdout)
    assert [(job["name"], job["state"], len(job["stages"])) for job in jobs] == [("desk", "finished", 6)]
    assert "desk" in limbeck("models").stdout and "finished" in limbeck("jobs").stdout

    answer = limbeck("invoke", "desk", message(3)[0])
    assert (answer.returncode, answer.stdout) == (0, limbeck("invoke", "desk", "-", input=message(3)[0] + "\n").stdout)
    assert answer.stdout.strip()
    assert shipped[0] in limbeck("models").stdout  # whole, to be copied

    (tmp_path / "home").rename(tmp_path / "moved")
    limbeck.environment["LIMBECK_HOME"] = str(tmp_path / "moved")
    assert limbeck("invoke", "desk", message(3)[0]).stdout == answer.stdout
    (tmp_path / "home").symlink_to("moved")

    measured = limbeck(
        "evaluate", "desk", tmp_path / "test.jsonl", "--system", "Name the intent.", "--json", "--max-tokens", 6
    )
    report = json.loads((tmp_path / "home/jobs/desk/5-evaluation/report.json").read_text())
    assert json.loads(measured.stdout)["exact_match"] == report["models"]["student after"]["exact_match"]
    # Under the system prompt it learned with, where nothing is said.
    answers = tmp_path / "seen" / "answers.jsonl"
    told = limbeck("evaluate", "desk", tmp_path / "test.jsonl", "--max-tokens", 6, "--to", answers).stdout
    seen = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    held_out = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["place"], row["prompt"], row["reference"]) for row in seen] == [
        (f"test.jsonl line {at}", row["prompt"], row["completion"]) for at, row in enumerate(held_out, 1)
    ]
    assert [row["exact_match"] for row in seen] == [float(row["answer"] == row["reference"]) for row in seen]
    assert sum(row["exact_match"] for row in seen) / len(seen) == json.loads(measured.stdout)["exact_match"]["value"]
    assert f"exact match: {100 * report['models']['student after']['exact_match']['value']:.1f}%" in told

    again = limbeck("distill", path)
    assert again.returncode == 2 and "--resume goes on with it" in again.stderr
    foreseen = json.loads(limbeck("distill", path, "--dry-run", "--json").stdout)
    assert foreseen["parts"] == [] and foreseen["stored"] == foreseen["rows"]

    assert limbeck("remove", "desk").returncode == 0
    assert [row["model"] for row in json.loads(limbeck("models", "--json").stdout)] == shipped
    assert json.loads(limbeck("jobs", "--json").stdout) == [] and (tmp_path / "home/answers.sqlite").exists()
    assert 'no job "desk"' in limbeck("remove", "desk").stderr


def test_a_job_is_removed_with_its_model_where_its_home_was_moved_behind_a_link(limbeck, tmp_path):
    job = tmp_path / "disk" / "jobs" / "desk"
    (job / "6-model").mkdir(parents=True)
    write_json(job / "recipe.json", {"kind": "distillation", "name": "desk"})
    facts = {"name": "desk", "kind": "distillation", "base": "x", "fingerprint": "0", "lineage": {}}
    place = str(tmp_path / "home/jobs/desk/6-model")  # as it was called before
    write_json(tmp_path / "disk/models/desk.json", {**facts, "path": place})
    (tmp_path / "home").symlink_to("disk")
    assert limbeck("remove", "desk").returncode == 0
    assert list((tmp_path / "disk/models").iterdir()) == []


def test_a_job_whose_model_the_service_made_is_removed_there_whatever_the_two_are_called(limbeck, tmp_path):
    job, models = tmp_path / "home/jobs/a-job", tmp_path / "home/models"
    (job / "6-model").mkdir(parents=True)
    (job / "recipe.json").write_text("{}")
    models.mkdir()
    facts = {"name": "a-model", "path": str(job / "6-model"), "kind": "distillation", "base": "x", "fingerprint": "0"}
    (models / "a-model.json").write_text(json.dumps({**facts, "lineage": {"arn": "arn:aws:bedrock:one"}}))
    done = limbeck("remove", "a-job")
    assert done.returncode == 2 and '"a-model" was made by the service' in done.stderr
    assert (job / "6-model").exists()
    (models / "a-model.json").write_text(json.dumps({**facts, "lineage": {}}))
    assert limbeck("remove", "a-job").returncode == 0
    assert not job.exists() and not list(models.iterdir())


def test_a_model_is_exported_with_what_that_loses(limbeck, tmp_path, taught_folder):
    home = taught_folder.parent.parent.parent
    done = limbeck("export", "taught", "--to", "out", "--quantization", "q8_0", "--json", "--home", home)
    assert done.returncode == 0, done.stderr
    told, out = json.loads(done.stdout), tmp_path / "out"
    assert (told["model"], told["quantization"], told["prompts"]) == ("taught", "q8_0", 8)
    assert json.loads((out / "parity.json").read_text()).items() <= told.items()
    assert {path.name for path in out.glob("*.gguf")} == {"model-q8_0.gguf"}
    assert (out / "model.safetensors").read_bytes() == (taught_folder / "model.safetensors").read_bytes()
    assert "FROM ./model-q8_0.gguf" in (out / "Modelfile").read_text()
    card = (out / "README.md").read_text()
    assert "model-f16.gguf" not in card and "`model-q8_0.gguf` is for llama.cpp" in card


def test_flags_alone_make_a_recipe_and_a_name_alone_resumes_it(limbeck, tmp_path, taught_folder):
    recipe(tmp_path, taught_folder)
    flags = ["--name", "flagged", "--prompts", "prompts.jsonl", "--held-out", "test.jsonl", "--minimum", 10]
    flags += ["--system", "Name the intent.", "--teacher", taught_folder, "--layers", 2, "--epochs", 1]
    flags += ["--set", "synthesis.max_response_tokens=6", "--set", "evaluation.latency_requests=2"]
    done = limbeck("distill", *flags)
    assert done.returncode == 0, done.stderr
    stored = json.loads((tmp_path / "home/jobs/flagged/recipe.json").read_text())
    assert stored["source"]["prompts"] == str(tmp_path / "prompts.jsonl")
    assert stored["training"]["epochs"] == 1
    resumed = limbeck("distill", "--name", "flagged", "--resume")
    assert resumed.returncode == 0 and resumed.stdout == done.stdout
    told = json.loads(limbeck("distill", "--name", "flagged", "--resume", "--json").stdout)
    assert (told["model"], told["kind"]) == ("flagged", "distillation") and "verdict" in told["report"]


def test_ctrl_c_stops_at_a_checkpoint_says_how_to_go_on_and_going_on_works(limbeck, tmp_path, taught_folder):
    path = recipe(tmp_path, taught_folder)
    command = [sys.executable, "-m", "limbeck", "distill", str(path), "--name", "other", "--set", "training.epochs=60"]
    running = subprocess.Popen(
        command, env=limbeck.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    metrics = tmp_path / "home/jobs/other/4-training/metrics.csv"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") > 20) and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert out == ""
    # The file knows nothing of the flags: the job's own recipe does.
    assert "the checkpoint is kept; go on with: limbeck distill --name other --resume" in err
    assert json.loads(limbeck("jobs", "--json").stdout)[0]["state"] == "unfinished"
    resumed = limbeck("distill", "--name", "other", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "training: resumed at step" in resumed.stderr
    assert resumed.stdout.splitlines()[-1].startswith("Verdict: ")


def test_the_command_that_goes_on_can_be_pasted_whatever_its_folders_are_called(limbeck, tmp_path, taught_folder):
    home = tmp_path / "Käthes home"
    path = recipe(tmp_path, taught_folder, epochs=60).rename(tmp_path / "it's mine.yaml")
    command = [sys.executable, "-m", "limbeck", "distill", str(path), "--home", str(home)]
    running = subprocess.Popen(command, env=limbeck.environment, stderr=subprocess.PIPE, text=True)
    while not (home / "jobs/desk/1-intake/manifest.json").exists() and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    told = running.communicate(timeout=60)[1].strip().rpartition("go on with: ")[2]
    assert running.returncode == 130
    assert shlex.split(told) == ["limbeck", "distill", str(path), "--resume", "--home", str(home)]


def test_a_terminal_gets_bars_with_rate_and_time_left(limbeck, tmp_path, taught_folder):
    path = recipe(tmp_path, taught_folder, epochs=20)
    main, other = pty.openpty()
    environment = {**limbeck.environment, "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "limbeck", "distill", str(path)]
    running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=other)
    os.close(other)
    shown = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(main)
    out, _ = running.communicate(timeout=120)
    text = shown.decode()
    assert running.returncode == 0, text
    assert "training" in text and "/s" in text and "━" in text and "0:00:0" in text and "loss" in text
    assert out.decode().splitlines()[-1].startswith("Verdict: ")


def test_only_who_can_accept_fewer_is_told_so(limbeck, tmp_path, taught_folder):
    path = write_rows(tmp_path / "rows.jsonl", [{"prompt": "a", "completion": "b"}])
    tuned = limbeck("fine-tune", "--name", "few", "--pairs", path, "--model", taught_folder)
    assert tuned.returncode == 2 and "--minimum N accepts fewer" in tuned.stderr
    read = limbeck("pretrain", "--name", "none", "--text", path, "--model", taught_folder)
    assert read.returncode == 2 and "0 documents; expected at least 1" in read.stderr
    assert "--minimum" not in read.stderr


def test_a_fault_of_ours_is_told_without_a_trace_and_kept_for_a_report(limbeck, tmp_path, taught_folder):
    path = recipe(tmp_path, taught_folder)
    probe = (
        "import sys, limbeck.pipeline\n"
        "def broken(*a, **k): raise ZeroDivisionError('secret detail')\n"
        "limbeck.pipeline.KINDS['distillation'] = broken\n"
        f"sys.argv = ['limbeck', 'distill', {str(path)!r}]\n"
        "from limbeck.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], env=limbeck.environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "a fault of ours" in done.stderr and "Traceback" not in done.stderr
    traces = list((tmp_path / "home/faults").iterdir())
    assert len(traces) == 1 and "ZeroDivisionError" in traces[0].read_text()


def test_a_full_disk_is_no_fault_of_ours(limbeck, tmp_path):
    command = [sys.executable, "-m", "limbeck", "validate", str(write_rows(tmp_path / "rows.jsonl", ["no"] * 2000))]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, env=limbeck.environment, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode == 1 and "limbeck: No space left on device" in done.stderr
    assert "a fault of ours" not in done.stderr and not (tmp_path / "home/faults").exists()


def test_a_full_disk_is_told_with_the_file_that_found_no_room():
    said = '{"exception_type":"IO","exception_message":"Could not write file: No space left on device","errno":"28"}'
    assert _of_the_machine(duckdb.IOException(said)) == "No space left on device"
    copied = OSError(errno.ENOSPC, "No space left on device", "from", None, "to")
    assert _of_the_machine(copied) == "to: No space left on device"
    assert _of_the_machine(duckdb.IOException("no files found")) is None


def test_rows_that_fail_are_reported_and_the_valid_ones_go_on(limbeck, tmp_path, taught_folder):
    path = recipe(tmp_path, taught_folder)
    rows = [{"prompt": message(i)[0]} for i in range(60)]
    rows[10] = {"prompt": 10}
    write_rows(tmp_path / "prompts.jsonl", rows)
    done = limbeck("distill", path)
    assert done.returncode == 0
    assert "intake: 59 of 60 rows of prompts.jsonl accepted, 1 refused" in done.stderr


def test_a_model_is_measured_with_a_word_on_the_rows_it_was_not_measured_on(limbeck, tmp_path, taught_folder):
    rows = [{"prompt": message(0)[0], "completion": label} for label in ("leak", "noise")] + [{"prompt": 5}] * 11
    asked = ("evaluate", taught_folder, write_rows(tmp_path / "rows.jsonl", rows), "--max-tokens", 6)
    done = limbeck(*asked)
    assert "intake: 1 of 13 rows of rows.jsonl accepted, 1 folded, 11 refused" in done.stderr
    assert 'line 2: the same prompt as line 1, with another answer ("noise")' in done.stderr
    assert "line 3: prompt: found 5, expected text" in done.stderr and "and 2 more; `limbeck validate`" in done.stderr
    assert done.stdout.endswith("1 rows tell nothing from chance; give 6 at least, better a hundred\n")
    told = json.loads(limbeck(*asked, "--json").stdout)
    counts = {key: told["intake"][key] for key in ("rows", "accepted", "folded", "refused")}
    assert counts == {"rows": 13, "accepted": 1, "folded": 1, "refused": 11} and len(told["intake"]["faults"]) == 12
    assert told["remarks"] == [done.stdout.splitlines()[-1]]


def test_answers_are_not_written_where_no_file_can_be(limbeck, tmp_path):
    refused = limbeck("evaluate", "desk", tmp_path / "test.jsonl", "--to", tmp_path)
    assert refused.returncode == 2 and f"--to {tmp_path}: a folder; expected a file" in refused.stderr


def test_keys_are_made_listed_without_their_secret_and_removed(limbeck, tmp_path):
    made = limbeck("keys", "add", "ada")
    key_id, secret = (line.partition("=")[2] for line in made.stdout.splitlines())
    assert made.stdout.startswith("AWS_ACCESS_KEY_ID=AKIA")
    listed = limbeck("keys", "list").stdout
    assert ("ada" in listed, key_id in listed, secret in listed) == (True, True, False)
    assert limbeck("keys", "remove", key_id).returncode == 0
    again = limbeck("keys", "remove", key_id)
    assert (again.returncode, "limbeck keys list" in again.stderr) == (2, True)
