"""The whole river on a tiny model: runs, resumes, and comes to the same bits however often it is broken off."""

import json
import re
import shutil
import signal
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.factory import INTENTS, message, pairs, write_rows
from tests.forks import distill_until_killed, forked
from transformers import AutoModelForCausalLM, AutoTokenizer

import limbeck
from limbeck.errors import Conflict, InvalidDataset, InvalidInput, InvalidRecipe, NotYet, Stopped, UnknownModel
from limbeck.intake import collect
from limbeck.models.catalog import system_of
from limbeck.progress import Silent, StopSignal
from limbeck.recipe import Recipe
from limbeck.settings import Settings
from limbeck.storage.workspace import Workspace, file_digest, read_json

STAGES = ["1-intake", "2-synthesis", "3-curation", "4-training", "5-evaluation", "6-model"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The prompts and the held-out pairs of all recipes here."""
    place = tmp_path_factory.mktemp("rows")
    return pairs(place / "prompts.jsonl", 60, labelled=False), pairs(place / "test.jsonl", 12, start=1000)


def make_recipe(rows, taught_folder):
    prompts, held_out = rows
    return {
        "kind": "distillation",
        "name": "student",
        "source": {
            "prompts": str(prompts),
            "held_out": str(held_out),
            "minimum": 10,
            "system": "Name the intent.",
        },
        "teacher": {"model": str(taught_folder)},
        "student": {"shrink": {"layers": 2}},
        "synthesis": {"max_response_tokens": 6, "top_k": 8},
        "training": {
            "freeze_embeddings": False,
            "epochs": 5,
            "batch_size": 16,
            "learning_rate": 0.005,
            "checkpoint_seconds": 0.001,
        },
        "evaluation": {"latency_requests": 2},
        "export": {"gguf": "none"},
    }


@pytest.fixture
def recipe(rows, taught_folder):
    return make_recipe(rows, taught_folder)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, rows, taught_folder):
    """A home with the recipe's job, done in one go, and its student."""
    home = tmp_path_factory.mktemp("unbroken")
    return home, limbeck.distill(make_recipe(rows, taught_folder), home=home)


@pytest.mark.row(31, 60)
def test_fine_tuning_teaches_and_distillation_passes_it_on(taught_folder, unbroken):
    taught = json.loads((taught_folder / "lineage.json").read_text())["lineage"]["report"]["models"]
    assert taught["student after"]["exact_match"]["value"] > 0.5 > taught["student before"]["exact_match"]["value"]
    home, student = unbroken
    job = home / "jobs" / "student"
    assert [path.name for path in sorted(job.glob("[0-9]-*"))] == STAGES
    report = json.loads((job / "5-evaluation" / "report.json").read_text())
    assert list(report["models"]) == ["teacher", "student before", "student after", "baseline"]
    assert report["models"]["student after"]["agreement"]["value"] > 0.8
    losses = [loss for _, loss in report["details"]["loss_curve"]["training"]]
    assert losses[-1] < losses[0]
    page = (job / "5-evaluation" / "report.html").read_text()
    assert page.count("<svg") == 2
    assert "://" not in page and "<script" not in page

    metrics = (job / "4-training" / "metrics.csv").read_text().splitlines()
    assert metrics[0].startswith("step_number,epoch_number,training_loss,perplexity")
    assert len(metrics) == 1 + json.loads((job / "4-training" / "losses.json").read_text())["steps"]

    loaded = limbeck.load("student", home=home)
    prompt = "about my kettle number 5: noise please"
    plain = AutoModelForCausalLM.from_pretrained(student.path)
    tokenizer = AutoTokenizer.from_pretrained(student.path)
    turns = [{"role": "system", "content": "Name the intent."}, {"role": "user", "content": prompt}]
    tokens = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = plain.generate(**tokens, do_sample=False, max_new_tokens=8)[0, tokens["input_ids"].shape[1] :]
    answer = loaded.answer(turns, max_tokens=8)
    assert answer == tokenizer.decode(out, skip_special_tokens=True)
    assert "".join(loaded.stream(prompt, system="Name the intent.", max_tokens=8)) == answer
    card = (student.path / "README.md").read_text()
    assert "Verdict" not in card and student.lineage["hashes"]["weights"] in card


def test_a_registered_model_has_a_gguf_file_and_its_card_says_what_it_loses(taught_folder):
    lineage = json.loads((taught_folder / "lineage.json").read_text())["lineage"]
    measured = lineage["export"]["parity"]
    assert lineage["export"]["gguf"] == "model-f16.gguf"
    assert measured["bytes"] == (taught_folder / "model-f16.gguf").stat().st_size
    assert (measured["prompts"], measured["equal_texts"]) == (8, 1.0)
    assert measured["largest_difference"] < 0.1
    card = (taught_folder / "README.md").read_text()
    assert "100% of 8 greedy answers the same" in card and "`model-f16.gguf` is for llama.cpp" in card
    assert "FROM ./model-f16.gguf" in (taught_folder / "Modelfile").read_text()


def test_wherever_a_model_goes_the_system_prompt_it_learned_with_goes_too(taught_folder, tmp_path, monkeypatch, capsys):
    limbeck.library.export(str(taught_folder), tmp_path / "out", home=tmp_path / "home")
    for place in (taught_folder, tmp_path / "out"):
        assert 'SYSTEM """Name the intent."""' in (place / "Modelfile").read_text()
        assert system_of(str(place), Settings(tmp_path / "home", 1)) == "Name the intent."
    code = re.search("```python\n(.*?)```", (taught_folder / "README.md").read_text(), re.S)[1]
    asked = message(2000)[0]
    monkeypatch.chdir(taught_folder)
    exec(code.replace("…", asked).replace("64", "6"))
    assert capsys.readouterr().out.strip() == limbeck.load(str(taught_folder)).answer(asked, max_tokens=6)


def test_a_model_without_a_gguf_file_says_why(tmp_path, recipe, unbroken, monkeypatch):
    asked_for_none = unbroken[1]
    assert asked_for_none.lineage["export"] == {"gguf": None, "reason": "the recipe asks for none"}
    assert not list(asked_for_none.path.glob("*.gguf"))

    def too_odd(*_):
        raise InvalidInput("too odd")

    monkeypatch.setattr("limbeck.registry.export", too_odd)
    model = limbeck.distill({**recipe, "export": {"gguf": "q8_0"}}, home=tmp_path / "odd")
    assert model.lineage["export"] == {"gguf": None, "reason": "too odd"}
    assert "There is no GGUF file: too odd." in (model.path / "README.md").read_text()


@pytest.mark.row(54)
def test_any_folder_is_exported_whole_or_not_at_all(tmp_path, tiny_folder):
    rows = pairs(tmp_path / "rows.jsonl", 3)
    parity = limbeck.library.export(str(tiny_folder), tmp_path / "out", prompts=rows, home=tmp_path / "home")
    assert (parity.quantization, parity.prompts) == ("f16", 3)
    names = {path.name for path in tiny_folder.iterdir()} | {"model-f16.gguf", "Modelfile", "parity.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    with pytest.raises(Conflict, match="there is something already"):
        limbeck.library.export(str(tiny_folder), tmp_path / "out", home=tmp_path / "home")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    (tmp_path / "out" / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    with pytest.raises(NotYet, match="activation relu"):
        limbeck.library.export(str(tmp_path / "out"), tmp_path / "odd", home=tmp_path / "home")
    assert not (tmp_path / "odd").exists() and not list(tmp_path.glob(".odd*"))


def test_a_recipe_from_before_a_key_was_known_is_gone_on_with(recipe, unbroken):
    home, first = unbroken
    stored = home / "jobs" / "student" / "recipe.json"
    old = json.loads(stored.read_text())
    for section, key in (("synthesis", "use_responses"), ("training", "seed"), ("evaluation", "tolerance")):
        assert key not in recipe[section]
        del old[section][key]
    stored.write_text(json.dumps(old))
    assert limbeck.distill(recipe, home=home, resume=True).fingerprint == first.fingerprint


def test_a_finished_job_resumed_does_nothing_and_gives_the_same_model(recipe, unbroken):
    home, first = unbroken
    before = {path: path.stat().st_mtime_ns for path in (home / "jobs").rglob("manifest.json")}
    again = limbeck.distill(recipe, home=home, resume=True)
    assert again.fingerprint == first.fingerprint
    assert {path: path.stat().st_mtime_ns for path in (home / "jobs").rglob("manifest.json")} == before


def test_what_a_job_of_another_name_has_finished_is_registered_under_the_new_name(tmp_path, recipe, unbroken):
    _, first = unbroken
    left = first.path.parent
    shutil.copytree(left, tmp_path / "jobs" / "heir", ignore=shutil.ignore_patterns("recipe.json", ".lock"))
    heir = limbeck.distill({**recipe, "name": "heir"}, home=tmp_path, resume=True)
    assert (heir.name, heir.path.parent.name) == ("heir", "heir")
    told = json.loads((tmp_path / "models" / "heir.json").read_text())
    assert (told["name"], told["lineage"]["recipe"]["name"]) == ("heir", "heir")
    assert heir.fingerprint == first.fingerprint


def test_a_name_that_is_taken_and_a_recipe_that_changed_are_refused(recipe, unbroken):
    home, _ = unbroken
    with pytest.raises(Conflict, match=r'job "student" is there already.*--resume'):
        limbeck.distill(recipe, home=home)
    recipe["training"]["epochs"] = 3
    with pytest.raises(Conflict, match=r"different: training\.epochs"):
        limbeck.distill(recipe, home=home, resume=True)


def test_a_job_that_another_began_between_the_first_look_and_the_lock_is_refused(tmp_path, recipe, monkeypatch):
    job = tmp_path / "jobs" / "student"

    @contextmanager
    def locked(work):
        job.mkdir(parents=True)
        (job / "recipe.json").write_text(json.dumps(Recipe.build(recipe).dump()))
        yield

    monkeypatch.setattr(Workspace, "locked", locked)
    with pytest.raises(Conflict, match=r'job "student" is there already'):
        limbeck.distill(recipe, home=tmp_path)
    assert [path.name for path in job.iterdir()] == ["recipe.json"]


def test_a_recipe_may_be_mended_until_it_has_come_to_something(tmp_path, recipe):
    recipe["student"]["shrink"] = {"layers": 99}
    with pytest.raises(InvalidInput, match="99; the model has 4 layers"):
        limbeck.distill(recipe, home=tmp_path)
    recipe["student"]["shrink"] = {"layers": 2}
    assert limbeck.distill(recipe, home=tmp_path, resume=True).name == "student"


def test_a_job_of_which_nothing_could_be_said_is_refused_before_anything_is_learned(tmp_path, recipe):
    one, two = (write_rows(tmp_path / f"{name}.jsonl", [{"prompt": "a leak"}] * 2) for name in ("one", "two"))
    recipe["source"] = {"prompts": str(one), "minimum": 1}
    with pytest.raises(InvalidInput, match="1 different prompts, and none of them held out"):
        limbeck.distill(recipe, home=tmp_path)
    recipe["source"] = {"prompts": recipe["source"]["prompts"], "held_out": str(one), "minimum": 1}
    with pytest.raises(InvalidInput, match="no prompt is left to learn from: 2 rows are of prompts that are held out"):
        limbeck.distill(recipe, home=tmp_path, resume=True)
    recipe["source"] = {"prompts": recipe["source"]["prompts"], "validation": [str(two)], "minimum": 1}
    with pytest.raises(
        InvalidInput, match=r"all 2 rows of one\.jsonl are of prompts of the validation data .* too; take"
    ):
        limbeck.distill(recipe, home=tmp_path, resume=True)
    assert not list((tmp_path / "jobs" / "student").glob("[2-9]-*"))


def test_where_the_shares_hold_nothing_out_the_nearest_prompt_is(tmp_path, recipe):
    rows = [{"prompt": text} for text in ("a leak", "A LEAK!", "some noise", "a bill")]
    recipe["source"] = {"prompts": str(write_rows(tmp_path / "few.jsonl", rows)), "held_out_share": 0, "minimum": 1}
    examples = collect(Recipe.build(recipe), Workspace(tmp_path / "job"))
    held_out = {one.prompt.normalized_id for one in examples if one.split == "held-out"}
    assert len(held_out) == 1
    assert not held_out & {one.prompt.normalized_id for one in examples if one.split != "held-out"}


def test_a_model_answers_under_the_system_prompt_it_learned_with(unbroken):
    home, made = unbroken
    model = limbeck.load(made, home=home)
    asked = "about my fan number 3: billing please"
    learned = model.answer(asked, max_tokens=6)
    assert learned == model.answer(asked, system="Name the intent.", max_tokens=6)
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": asked}]
    assert model.answer(turns, max_tokens=6) == model.answer(asked, system="Be brief.", max_tokens=6)
    for wrong, told in (({"max_tokens": 0}, "max_tokens: 0"), ({"temperature": -1.0}, "temperature: -1")):
        with pytest.raises(InvalidInput, match=told):
            model.answer(asked, **wrong)


def test_too_few_prompts_leave_nothing_behind(tmp_path, recipe):
    recipe["source"]["minimum"] = None
    with pytest.raises(InvalidDataset, match=r"prompts\.jsonl: 60 valid prompts of 60 rows; expected at least 100"):
        limbeck.distill(recipe, home=tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_what_cannot_be_run_is_said_before_anything_is_written(tmp_path, recipe):
    home = tmp_path / "home"
    with pytest.raises(UnknownModel, match="no model"):
        limbeck.distill({**recipe, "teacher": {"model": "nobody"}}, home=home)
    with pytest.raises(InvalidRecipe, match="continued pre-training learns from text and has none"):
        limbeck.pretrain({**recipe, "kind": "continued-pre-training"}, home=home)
    assert not list(home.glob("jobs/*/1-intake"))


@pytest.mark.row(34)
def test_plain_text_is_read_and_what_was_gained_and_forgotten_is_told(tmp_path, tiny_folder):
    nouns = [f"{size} {thing}" for size in ("old", "new", "red", "big") for thing in ("kettle", "washer", "hob")]
    rows = write_rows(tmp_path / "text.jsonl", [{"input": f"The {noun} leaks water. " * 25} for noun in nouns])
    recipe = {
        "kind": "continued-pre-training",
        "name": "reader",
        "source": {"prompts": str(rows)},
        "student": {"model": str(tiny_folder)},
        "training": {
            "epochs": 3,
            "batch_size": 2,
            "learning_rate": 0.01,
            "pack_tokens": 256,
            "freeze_embeddings": False,
        },
    }
    model = limbeck.pretrain(recipe, home=tmp_path / "home")
    job = tmp_path / "home" / "jobs" / "reader"
    assert [path.name for path in sorted(job.glob("[0-9]-*"))] == ["1-intake", "4-training", "5-evaluation", "6-model"]
    report = json.loads((job / "5-evaluation" / "report.json").read_text())
    before, after = report["models"]["student before"], report["models"]["student after"]
    assert after["perplexity"]["value"] < 0.5 * before["perplexity"]["value"]
    assert after["general_perplexity"]["value"] != before["general_perplexity"]["value"]
    assert "held-out perplexity" in report["verdict"] and "general perplexity" in report["verdict"]
    assert report["verdict"] in (model.path / "README.md").read_text().replace("Do not", "do not").replace(
        "Ship", "ship"
    )
    assert (model.path / "model-f16.gguf").exists()
    assert "trained further on text from" in (model.path / "README.md").read_text()
    assert json.loads((job / "advice.json").read_text())["counts"]["training"] > 5
    again = limbeck.pretrain({**recipe, "name": "further", "student": {"model": "reader"}}, home=tmp_path / "home")
    assert again.base == "reader"
    known = json.loads((again.path.parent / "5-evaluation" / "report.json").read_text())["models"]
    assert known["student before"]["perplexity"]["value"] == pytest.approx(after["perplexity"]["value"], rel=1e-4)


@pytest.mark.slow
def test_every_kind_starts_from_a_model_of_ours(tmp_path, tiny_folder):
    home, rows = tmp_path / "home", pairs(tmp_path / "pairs.jsonl", 16)
    text = write_rows(tmp_path / "text.jsonl", [{"input": f"The kettle number {i} leaks."} for i in range(8)])
    common = {
        "training": {"epochs": 1, "batch_size": 8, "objective": {"cross_entropy": 1}},
        "evaluation": {"latency_requests": 2, "baseline": False},
        "synthesis": {"max_response_tokens": 4},
        "export": {"gguf": "none"},
    }

    def job(name, start, prompts=rows, **more):
        source = {"prompts": str(prompts), "minimum": 2, "held_out_share": 0.3}
        return {"name": name, "source": source, "student": {"model": start}, **common, **more}

    first = limbeck.fine_tune(job("first", str(tiny_folder)), home=home)
    weights = file_digest(first.path / "model.safetensors")
    reused = {"teacher": {"model": str(tiny_folder)}, "synthesis": {"max_response_tokens": 4, "use_responses": True}}
    made = [
        limbeck.fine_tune(job("tuned", "first"), home=home),
        limbeck.pretrain(job("read", "first", text), home=home),
        limbeck.distill(job("distilled", "first", **reused), home=home),
    ]
    for model in made:
        assert model.base == "first"
        assert file_digest(model.path / "model.safetensors") != weights
        before = model.report["models"]["student before"]
        assert before["parameters"] == first.lineage["parameters"]
    tuned, read, distilled = (file_digest(model.path / "model.safetensors") for model in made)
    assert read != tuned == distilled  # where a distillation learns labels alone, it is a fine-tuning


class StopAfter(Silent):
    """Asks to stop once a task of that name has begun."""

    def __init__(self, name: str, stop: StopSignal) -> None:
        self.name, self.stop = name, stop

    def task(self, name, total, unit, done=0):
        if name == self.name:
            self.stop.set()
        return super().task(name, total, unit, done)


@pytest.mark.parametrize(("plan", "most"), [({}, 2), ({"max_response_tokens": 40}, None)])
def test_after_fine_tuning_answers_are_at_most_twice_the_longest_that_was_given(tmp_path, tiny_folder, plan, most):
    made = limbeck.fine_tune(
        {
            "kind": "fine-tuning",
            "name": "tuned",
            "source": {"prompts": str(pairs(tmp_path / "pairs.jsonl", 40)), "held_out_share": 0.2},
            "student": {"model": str(tiny_folder)},
            "training": {"epochs": 1, "learning_rate": 1e-6},
            "evaluation": {"latency_requests": 2, **plan},
        },
        home=tmp_path / "home",
    )
    asked = read_json(made.path.parent / "5-evaluation" / "manifest.json")["inputs"]["settings"]["max_tokens"]
    tokenizer = AutoTokenizer.from_pretrained(made.path)
    longest = max(len(tokenizer.encode(message(at)[1], add_special_tokens=False)) + 1 for at in range(40))
    assert asked == (most * longest if most else 40)


@pytest.mark.parametrize("where", ["teacher answers", "training", "examining the student after", "timing"])
@pytest.mark.row(43)
def test_a_job_stopped_in_any_stage_goes_on_to_the_same_weights(tmp_path, recipe, unbroken, where):
    stop = StopSignal()
    with pytest.raises(Stopped):
        limbeck.distill(recipe, home=tmp_path / "broken", progress=StopAfter(where, stop), stop=stop)
    resumed = limbeck.distill(recipe, home=tmp_path / "broken", resume=True)
    assert file_digest(resumed.path / "model.safetensors") == file_digest(unbroken[1].path / "model.safetensors")


@pytest.mark.parametrize(
    ("where", "count"),
    [("teacher answers", 1), ("training", 3), ("training", 7), ("examining the student after", 1), ("timing", 1)],
)
@pytest.mark.row(44)
def test_a_job_killed_with_sigkill_goes_on_to_the_same_weights(tmp_path, recipe, unbroken, where, count):
    assert forked(distill_until_killed, recipe, tmp_path, where, count) == -signal.SIGKILL
    assert not (tmp_path / "models").exists()
    resumed = limbeck.distill(recipe, home=tmp_path, resume=True)
    assert file_digest(resumed.path / "model.safetensors") == file_digest(unbroken[1].path / "model.safetensors")


class Heard(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text):
        self.said.append(text)


def test_with_other_threads_a_job_goes_on_where_it_stood_and_says_so(tmp_path, recipe, monkeypatch):
    assert forked(distill_until_killed, recipe, tmp_path, "training", 7) == -signal.SIGKILL
    monkeypatch.setenv("LIMBECK_THREADS", "2")
    heard = Heard()
    limbeck.distill(recipe, home=tmp_path, resume=True, progress=heard)
    resumed, otherwise = (line for line in heard.said if "resumed at" in line or "until there" in line)
    assert int(resumed.split()[4]) > 0
    one, two = (f"with {threads} thread(s) on cpu in each of 1 process(es)" for threads in (1, 2))
    assert one in otherwise and f"and now {two}" in otherwise
    monkeypatch.setenv("LIMBECK_THREADS", "1")
    done = Heard()
    limbeck.distill(recipe, home=tmp_path, resume=True, progress=done)
    assert "4-training: done before" in done.said


def test_a_job_gone_on_with_later_reads_the_date_on_which_it_began(tmp_path, recipe, taught_folder):
    dated = shutil.copytree(taught_folder, tmp_path / "dated")
    template = dated / "chat_template.jinja"
    template.write_text("{{ strftime_now('%H %M %S %f') }}" + template.read_text())  # no moment is like another
    recipe["teacher"], recipe["training"]["epochs"] = {"model": str(dated)}, 1
    stop = StopSignal()
    with pytest.raises(Stopped):
        limbeck.distill(recipe, home=tmp_path / "one", progress=StopAfter("training", stop), stop=stop)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    one, two = (limbeck.distill(recipe, home=tmp_path / home, resume=True) for home in ("one", "two"))
    assert one.lineage["hashes"]["weights"] == two.lineage["hashes"]["weights"]


def stored(home) -> int:
    with closing(sqlite3.connect(home / "answers.sqlite")) as database:
        return database.execute("select count(*) from answers").fetchone()[0]


@pytest.mark.slow
def test_what_curation_asks_for_is_learned_from_and_never_asked_again(tmp_path, recipe):
    home, prompts = tmp_path / "home", tmp_path / "prompts.jsonl"
    personal = json.dumps({"prompt": "write to ada@example.org, about my fan: noise please"})
    prompts.write_text(Path(recipe["source"]["prompts"]).read_text() + personal + "\n")
    recipe["source"]["prompts"] = str(prompts)
    recipe["training"]["epochs"] = 1
    recipe["curation"] = {
        "labels": list(INTENTS),
        "privacy": "mask",
        "votes": {"samples": 3, "temperature": 0.5, "threshold": 0.4},
    }
    limbeck.distill(recipe, home=home)
    job = home / "jobs" / "student"
    kept = [json.loads(line) for line in (job / "3-curation" / "kept.jsonl").read_text().splitlines()]
    assert {row["response"] for row in kept} <= set(INTENTS) and len(kept) > 20
    assert all(row["scores"]["agreement"] >= 0.4 for row in kept)
    masked = [row for row in kept if "prompt_unmasked" in row]
    assert [row["messages"][-1]["text"] for row in masked] == ["write to [EMAIL-1], about my fan: noise please"]
    weights, answers = file_digest(job / "4-training" / "weights.safetensors"), stored(home)
    (job / "3-curation" / "manifest.json").unlink()
    (job / "4-training" / "manifest.json").unlink()
    limbeck.distill(recipe, home=home, resume=True)
    assert file_digest(job / "4-training" / "weights.safetensors") == weights
    assert stored(home) == answers
