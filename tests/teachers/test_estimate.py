"""What a distillation will take, before anything is asked; and what it makes is the same each time."""

import json

import pytest
from tests.factory import message, pairs, write_rows
from typer.testing import CliRunner

from limbeck import intake
from limbeck.cli.app import app
from limbeck.cli.forecast import forecast
from limbeck.errors import InvalidDataset
from limbeck.models import identity
from limbeck.models.catalog import find
from limbeck.recipe import Recipe
from limbeck.steps.stored import framing_of
from limbeck.storage.workspace import Workspace
from limbeck.synthesis import Framing, Session, answer
from limbeck.teachers import ask
from limbeck.teachers.estimate import Range
from limbeck.teachers.finding import remote_teacher
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


@pytest.mark.parametrize(
    ("tokens", "told"), [(100, "not enough"), (10_000, "perhaps not enough"), (5_000_000, "enough")]
)
def test_a_cap_stands_beside_what_is_foreseen(recipe, settings, tokens, told):
    asked = {**PRICED, "budget": {"tokens": tokens, "usd": 1000}}
    found = forecast(Recipe.build({**recipe, "teacher": asked}), settings)
    of_tokens, of_money = found.lines[-2:]
    assert of_tokens.startswith(f"budget:   {tokens:,} tokens; ") and of_tokens.endswith(f" are foreseen: {told}")
    assert of_money.startswith("budget:   1,000.00 USD; ") and of_money.endswith(" are foreseen: enough")
    assert found.to_json()["caps"] == {"tokens": tokens, "usd": 1000}


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
    (asked,) = [part for part in found.parts if part.kind == "similar prompts"]
    assert asked.questions == 8 * 64 + 8 and asked.most == 20 * made + 2 * 64
    read = plain.prompt_tokens + made * each
    assert found.prompt_tokens == pytest.approx(read + asked.questions * (each + 60), rel=0.02)
    assert found.prompt_tokens_most == pytest.approx(read + asked.most * (each + 60), rel=0.02)
    written = plain.response_tokens.low + made * 5
    assert found.response_tokens.high == plain.response_tokens.high + made * 50 + asked.most * 100
    assert found.response_tokens.low == pytest.approx(written + asked.questions * each, rel=0.02)
    (line,) = [line for line in found.lines if line.startswith("asked:")]
    assert f"{asked.questions:,} to {asked.most:,} similar prompts" in line
    assert found.usd.high > plain.usd.high and found.seconds.low > plain.seconds.low


def parts(recipe, settings, **changes):
    found = forecast(Recipe.build({**recipe, **changes}), settings)
    assert sum(part.prompt_tokens.low for part in found.parts) == pytest.approx(found.prompt_tokens, abs=1)
    assert sum(part.response_tokens.high for part in found.parts) == found.response_tokens.high
    return found, {part.kind: part for part in found.parts}


def test_other_samples_and_refined_answers_are_foreseen_kind_by_kind(recipe, settings):
    refine = {"max_response_tokens": 50, "refine": {"instruction": "Be brief."}}
    found, kinds = parts(recipe, settings, synthesis=refine, curation={"votes": {"samples": 5}})
    count = found.answered
    assert {kind: part.questions for kind, part in kinds.items()} == {
        "answers": count,
        "refined": count,  # a service reads nothing
        "samples": 4 * count,
        "samples refined": 4 * count,
        "examination": found.examined,
    }
    assert kinds["samples"].prompt_tokens.low == pytest.approx(4 * kinds["answers"].prompt_tokens.low)
    assert kinds["refined"].prompt_tokens.high - kinds["refined"].prompt_tokens.low == 45 * count
    assert found.prompt_tokens < found.prompt_tokens_most and found.usd.high > 9 * count * 50 * 0.002 / 1000
    (line,) = [line for line in found.lines if line.startswith("asked:")]
    assert f"{4 * count:,} samples" in line and f"{10 * count + found.examined:,} questions" in line


def test_labels_that_are_mended_are_read_written_and_read_by_a_teacher_here(recipe, settings, tmp_path, tiny_folder):
    source = {"prompts": str(pairs(tmp_path / "labelled.jsonl", 120))}
    improve = {"max_response_tokens": 50, "labels": "improve"}
    here = {"source": source, "teacher": {"model": str(tiny_folder)}}
    found, kinds = parts(recipe, settings, **here, synthesis=improve)
    count = 120 - found.examined
    assert (kinds["labels"].questions, kinds["mended labels"].questions) == (count, 2 * count)
    assert kinds["labels"].response_tokens.high == 0 and kinds["mended labels"].response_tokens.high == 50 * count
    _, kept = parts(recipe, settings, **here)
    assert set(kept) == {"labels", "examination"}
    _, far = parts(recipe, settings, source=source, synthesis=improve)
    assert far["mended labels"].questions == count and "labels" not in far
    _, auto = parts(recipe, settings, **here, synthesis={**improve, "labels": "auto"})
    assert auto["measured"].questions == 150 and auto["mended labels"].response_tokens.low == 0


def test_prompts_are_counted_as_the_teacher_sees_them(recipe, settings, tmp_path):
    plain = forecast(Recipe.build(recipe), settings)
    rows = [{"prompt": message(i)[0], "context": "Page one of the terms. " * 20} for i in range(120)]
    path = tmp_path / "contexts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with_context = forecast(Recipe.build({**recipe, "source": {"prompts": str(path)}}), settings)
    told = {"max_response_tokens": 50, "teacher_system": "Name the intent of the message in one word. " * 10}
    with_system = forecast(Recipe.build({**recipe, "synthesis": told}), settings)
    # Those of the examination too: a teacher that has a context is examined with it.
    assert with_context.prompt_tokens > plain.prompt_tokens + 120 * 60
    assert with_system.prompt_tokens > plain.prompt_tokens + 120 * 60


def test_a_trial_is_foreseen_with_each_candidates_prices_and_its_judge(recipe, settings):
    judge = {**PRICED, "model": "stern", "prices": {"input": 0.1, "output": 0.2}}
    trial = {
        "teachers": [PRICED, {**PRICED, "model": "cheap"}, {**PRICED, "model": "dear"}],
        "rows": 20,
        "judge": judge,
    }
    alone = forecast(Recipe.build(recipe), settings)
    found = forecast(Recipe.build({**recipe, "teacher": None, "trial": trial}), settings)
    tried = [(part.model, part.questions) for part in found.parts if part.kind == "trial"]
    assert tried == [("cheap", 20), ("dear", 20), ("stern", 60)]  # what the best of them said is learned
    assert found.usd.high > alone.usd.high + 60 * 50 * 0.2 / 1000


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


@pytest.mark.parametrize("via", ["openai", "transformers"])
def test_what_is_answered_already_is_told_and_is_not_foreseen(recipe, settings, tmp_path, tiny_folder, via):
    if via == "transformers":
        recipe["teacher"] = {"model": str(tiny_folder)}
    rows = [{"prompt": message(i)[0], **({"completion": message(i)[1]} if i % 4 == 0 else {})} for i in range(120)]
    golden = write_rows(tmp_path / "golden.jsonl", [{"prompt": message(900)[0], "completion": "so"}])
    recipe["source"] |= {"prompts": str(write_rows(tmp_path / "some.jsonl", rows)), "golden": str(golden)}
    built, work = Recipe.build(recipe), Workspace(tmp_path / "job")
    first = forecast(built, settings)
    examples, framing = intake.collect(built, work), framing_of(built)
    if via == "openai":
        far = remote_teacher(built.teacher, built.student.model, settings)
        named = {how: far.stored_as(how) for how in (built.asking, built.examining)}
    else:
        here = identity.known_fingerprint(find(str(tiny_folder), settings), settings)
        named = dict.fromkeys((built.asking, built.examining), here)
    teacher = ScriptedTeacher(lambda text: text.split()[-2], named[built.asking])
    answer(examples, Session(teacher, built.asking, framing, settings.answers, work), built.synthesis, min)
    again = forecast(built, settings)
    told = {part.kind: part.questions for part in again.parts}
    assert (first.stored, told) == (0, {"examination": first.examined}) and first.answered > 60
    learned = first.answered if via == "openai" else first.rows - first.examined
    assert again.stored == learned and (again.answered, again.rows) == (first.answered, first.rows)
    assert again.prompt_tokens < first.prompt_tokens / 2
    assert f"stored:   the answers to {learned} of them, which are not asked for again" in again.lines
    held_out = [example for example in examples if example.split == "held-out"]
    ask(
        ScriptedTeacher(str.upper, named[built.examining]),
        [framing.examined(held_out, None)(example) for example in held_out],
        built.examining,
        settings.answers,
    )
    nothing = forecast(built, settings)
    assert (nothing.parts, nothing.usd) == ((), Range())
    hotter = {"max_response_tokens": 50, "temperature": 0.5}
    assert forecast(Recipe.build({**recipe, "synthesis": hotter}), settings).stored >= first.examined
    sampled = Recipe.build({**recipe, "evaluation": {"rows": 5}})
    assert sampled.evaluation.examined(examples) != held_out[:5]
    settings.answers.unlink()
    ask(
        ScriptedTeacher(str.upper, named[built.examining]),
        [framing.examined(held_out, None)(example) for example in sampled.evaluation.examined(examples)],
        built.examining,
        settings.answers,
    )
    assert forecast(sampled, settings).stored == 5  # those that the job will examine, not the first of them


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
