"""Rows that a student has no room for are refused before anything is paid for."""

import pytest
from tests.conftest import make_tokenizer
from tests.factory import write_rows
from tests.families import MODELS
from transformers import AutoModelForCausalLM

import limbeck
from limbeck.errors import InvalidInput
from limbeck.recipe import Recipe
from limbeck.records import Example, Message, Prompt
from limbeck.steps.lessons import check_rows

LONG = "the kettle leaks " * 200
JOB = {"name": "a", "source": {"prompts": "p.jsonl"}, "student": {"model": "m"}}
FINE_TUNING = {"kind": "fine-tuning", **JOB}
DISTILLATION = {"kind": "distillation", "teacher": {"model": "t"}, **JOB}


def row(line, text="leak?", label=None, split="train"):
    return Example(Prompt((Message("user", text),)), label, split, "p.jsonl", line)


def told(student, rows, recipe=FINE_TUNING, **sections):
    with pytest.raises(InvalidInput) as refused:
        check_rows(student, rows, Recipe.build({**recipe, **sections}))
    return str(refused.value).splitlines()


def test_all_are_told_at_once_with_their_places(tiny):
    rows = [row(1, label="leak"), row(2, LONG, "leak"), row(3, label=LONG), row(4, LONG, "leak", "held-out")]
    found = told(tiny, rows)
    assert [line.split(":")[0] for line in found] == ["p.jsonl line 2", "p.jsonl line 3", "p.jsonl line 4"]
    assert "prompt and answer are" in found[0] and "expected at most the student's 512" in found[0]
    assert "with the first token of its answer the prompt is" in found[2]


def test_where_the_teacher_answers_a_prompt_alone_may_be_too_long(tiny):
    rows = [row(1, LONG), row(2, label=LONG)]
    assert len(told(tiny, rows, DISTILLATION)) == 2
    assert len(told(tiny, rows, DISTILLATION, synthesis={"labels": "ignore"})) == 1


def test_a_row_that_is_dropped_or_not_asked_about_may_be_as_long_as_it_is(tiny):
    rows = [row(1, label=LONG), *(row(line, str(line), "x", "held-out") for line in range(2, 9))]
    check_rows(tiny, rows, Recipe.build({**FINE_TUNING, "curation": {"max_characters": 100}}))
    rows = [row(line, LONG + str(line), "x", "held-out") for line in range(9)]
    assert len(told(tiny, rows, evaluation={"rows": 2})) == 2


def test_a_row_fits_to_the_token(tiny):
    size = len(tiny.renderer.prompt(row(1).prompt)) + len(tiny.renderer.response("leak"))
    for context, held in ((size, "train"), (size - 1, "held-out")):
        tiny.model.config.max_position_embeddings = context
        check_rows(tiny, [row(1, label="leak", split=held)], Recipe.build(FINE_TUNING))
    assert len(told(tiny, [row(1, label="leak")])) == 1


def test_a_sliding_window_bounds_what_is_learned_and_not_what_is_asked(tiny):
    tiny.model.config.sliding_window, tiny.model.config.layer_types = 8, ["sliding_attention"] * 4
    (line,) = told(tiny, [row(1, label="leak"), row(2, label="leak", split="held-out")])
    assert "expected at most the student's 9 of its sliding window" in line


def test_no_judge_is_asked_of_rows_that_do_not_fit(tiny_folder, tmp_path):
    rows = [{"prompt": f"leak {at}", "completion": LONG if at == 7 else "leak"} for at in range(20)]
    source = {"prompts": str(write_rows(tmp_path / "p.jsonl", rows)), "minimum": 1}
    judge = {"judge": {"model": str(tiny_folder)}}
    job = {**FINE_TUNING, "source": source, "student": {"model": str(tiny_folder)}, "curation": judge}
    with pytest.raises(InvalidInput, match="line 8: prompt and answer are"):
        limbeck.fine_tune(job, home=tmp_path / "home")
    assert not (tmp_path / "home" / "answers.sqlite").exists()


def test_documents_are_cut_at_a_sliding_window(tmp_path):
    """Gemma 2's, of 128 tokens here: a document of hundreds is read, and its likelihood told, in parts."""
    config = MODELS["gemma2"].__class__.from_dict({**MODELS["gemma2"].to_dict(), "sliding_window": 128})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "gemma")
    make_tokenizer().save_pretrained(tmp_path / "gemma")
    rows = [{"input": f"The kettle number {at} leaks water. " * 16} for at in range(12)]
    text = write_rows(tmp_path / "text.jsonl", rows)
    made = limbeck.pretrain(
        {
            "kind": "continued-pre-training",
            "name": "reader",
            "source": {"prompts": str(text)},
            "student": {"model": str(tmp_path / "gemma")},
            "training": {"epochs": 1, "batch_size": 4},
            "export": {"gguf": "none"},
        },
        home=tmp_path / "home",
    )
    assert (made.path / "model.safetensors").exists()
