"""What a distillation will take, before anything is asked; and what it makes is the same each time."""

import json

import pytest
from tests.factory import message, pairs
from typer.testing import CliRunner

from limbeck import intake
from limbeck.cli.app import app
from limbeck.cli.forecast import forecast
from limbeck.errors import InvalidDataset
from limbeck.recipe import Recipe
from limbeck.storage.workspace import Workspace
from limbeck.synthesis import Framing, Session, answer
from limbeck.teachers.scripted import ScriptedTeacher

PRICED = {"model": "wise", "endpoint": "http://127.0.0.1:9/v1", "prices": {"input": 0.001, "output": 0.002}}


@pytest.fixture
def recipe(tmp_path, tiny_folder):
    return {
        "kind": "distillation",
        "name": "student",
        "source": {"prompts": str(pairs(tmp_path / "prompts.jsonl", 120, labelled=False))},
        "teacher": PRICED,
        "student": {"model": str(tiny_folder)},
        "synthesis": {"max_response_tokens": 50},
    }


def test_rows_tokens_time_and_cost_are_told_with_a_range_and_nobody_is_asked(recipe, settings, tiny):
    found = forecast(Recipe.build(recipe), settings)
    assert found.rows == found.answered + found.examined == 120
    exact = sum(
        len(tiny.renderer.prompt(intake.rows.parse_row(json.dumps({"prompt": message(i)[0]}).encode(), "f", 1).prompt))
        for i in range(120)
    )
    assert found.prompt_tokens == pytest.approx(exact, rel=0.01)
    assert (found.response_tokens.low, found.response_tokens.high) == (600, 6000)
    assert found.usd.low == pytest.approx((0.001 * found.prompt_tokens + 0.002 * 600) / 1000)
    assert found.usd.high == pytest.approx((0.001 * found.prompt_tokens + 0.002 * 6000) / 1000)
    assert 0 < found.seconds.low < found.seconds.high
    assert not settings.home.exists()


def test_a_large_set_is_counted_on_a_sample(recipe, settings, tmp_path):
    recipe["source"]["prompts"] = str(pairs(tmp_path / "many.jsonl", 1000, labelled=False))
    found = forecast(Recipe.build(recipe), settings)
    few = forecast(Recipe.build({**recipe, "source": {"prompts": str(tmp_path / "prompts.jsonl")}}), settings)
    assert found.prompt_tokens / 1000 == pytest.approx(few.prompt_tokens / 120, rel=0.05)


def test_labels_are_not_asked_for_and_say_how_long_answers_are(recipe, settings, tmp_path):
    recipe["source"]["prompts"] = str(pairs(tmp_path / "labelled.jsonl", 120))
    found = forecast(Recipe.build(recipe), settings)
    assert (found.answered, found.rows) == (0, 120) and found.examined > 0
    assert found.response_tokens.low < 0.1 * found.response_tokens.high
    ignored = forecast(Recipe.build({**recipe, "synthesis": {"labels": "ignore"}}), settings)
    assert ignored.answered == 120 - ignored.examined


def test_prompts_that_the_teacher_is_to_write_are_foreseen(recipe, settings):
    plain = forecast(Recipe.build(recipe), settings)
    plan = {"synthesis": {"max_response_tokens": 50, "augment": {"to": 1000, "max_tokens": 100}}}
    found = forecast(Recipe.build({**recipe, **plan}), settings)
    made = 1000 - plain.answered
    assert (found.rows, found.answered, found.examined) == (120, 1000, plain.examined)
    each = plain.prompt_tokens / 120
    assert found.prompt_tokens == pytest.approx(plain.prompt_tokens + made * (2 * each + 60), rel=0.02)
    assert found.response_tokens.high == plain.response_tokens.high + made * (50 + 100)
    assert found.response_tokens.low == pytest.approx(plain.response_tokens.low + made * (5 + each), rel=0.02)
    assert found.usd.high > plain.usd.high and found.seconds.low > plain.seconds.low


def test_a_judges_marks_are_foreseen_with_its_own_prices(recipe, settings):
    alone = forecast(Recipe.build(recipe), settings)
    judge = {**PRICED, "model": "stern", "prices": {"input": 0.01, "output": 0.02}}
    marked = forecast(Recipe.build({**recipe, "curation": {"judge": {"model": judge}}}), settings)
    found = marked.judged
    assert alone.judged is None and (marked.prompt_tokens, marked.usd) == (alone.prompt_tokens, alone.usd)
    assert (found.judge, found.questions, found.response_tokens.high) == (
        "stern",
        alone.answered,
        256.0 * alone.answered,
    )
    assert found.prompt_tokens > alone.answered * 40  # the rubric's words among them
    assert found.usd.high == pytest.approx((0.01 * found.prompt_tokens + 0.02 * found.response_tokens.high) / 1000)
    best = {"judge": {"model": judge}, "votes": {"samples": 3, "choose": "judge"}}
    assert forecast(Recipe.build({**recipe, "curation": best}), settings).judged.questions == 3 * alone.answered
    assert any(line.startswith("judge:    stern gives") for line in marked.lines)


@pytest.mark.row(70)
def test_the_command_prints_the_estimate_for_a_model_here_and_for_a_service(recipe, tmp_path, tiny_folder):
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    run = CliRunner().invoke(
        app, ["distill", str(tmp_path / "recipe.yaml"), "--dry-run", "--home", str(tmp_path / "home")]
    )
    assert run.exit_code == 0, run.output
    assert [line.split(":")[0] for line in run.stdout.splitlines()] == ["rows", "tokens", "time", "cost"]
    assert "USD" in run.stdout and "600 to 6,000 of answers" in run.stdout
    local = ["--set", f"teacher={{model: {tiny_folder}}}", "--json"]
    run = CliRunner().invoke(app, ["distill", str(tmp_path / "recipe.yaml"), "--dry-run", *local])
    found = json.loads(run.stdout)
    assert found["usd"] is None and found["rows"] == 120 and found["seconds"]["high"] > found["seconds"]["low"] > 0


def test_what_a_job_would_refuse_its_estimate_refuses_too(recipe, settings, tmp_path):
    recipe["source"]["prompts"] = str(pairs(tmp_path / "few.jsonl", 99, labelled=False))
    with pytest.raises(InvalidDataset, match="99 valid prompts"):
        forecast(Recipe.build(recipe), settings)


@pytest.mark.row(70)
def test_the_same_seed_makes_the_same_data_with_the_same_hashes(recipe, tmp_path):
    built = Recipe.build(recipe)
    digests = set()
    for place in ("one", "other"):
        work = Workspace(tmp_path / place)
        examples = intake.collect(built, work)
        teacher = ScriptedTeacher(lambda text: text.split()[-2])
        answer(
            examples,
            Session(teacher, built.asking, Framing(), tmp_path / f"{place}.sqlite", work),
            built.synthesis,
            min,
        )
        digests.add((work.digest_of("1-intake"), work.digest_of("2-synthesis")))
    assert len(digests) == 1
