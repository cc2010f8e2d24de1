"""How a job's models are asked when it is over."""

from limbeck.recipe import Recipe
from limbeck.records import Example, Message, Prompt
from limbeck.steps.examination import _asked, _too_long

FINE_TUNING = {"kind": "fine-tuning", "name": "t", "source": {"prompts": "p.jsonl"}, "student": {"model": "m"}}


def test_after_fine_tuning_answers_may_be_twice_as_many_tokens_as_any_label(tiny):
    """What has few letters may have many tokens: bytes of a script that the tokenizer has no words of."""
    labels = ["the kettle leaks", "漏水了"]
    tokens = [len(tiny.renderer.response(label)) for label in labels]
    assert len(labels[1]) < len(labels[0]) and tokens[1] > 2 * tokens[0]
    rows = [Example(Prompt((Message("user", label),)), label, "train", "p.jsonl", 1) for label in labels]
    assert _asked(Recipe.build(FINE_TUNING), tiny, rows).max_tokens == 2 * tokens[1]
    short = Recipe.build({**FINE_TUNING, "synthesis": {"max_response_tokens": 5}})
    assert _asked(short, tiny, rows).max_tokens == 5


def test_references_that_no_answer_can_be_as_long_as_are_told(tiny):
    rows = [
        Example(Prompt((Message("user", text),)), text, "held-out", "p.jsonl", 1) for text in ("leak", "noise " * 9)
    ]
    rows.append(Example(Prompt((Message("user", "why?"),)), None, "held-out", "p.jsonl", 3))
    most = len(tiny.renderer.response(rows[1].label))
    assert _too_long(rows, tiny, most) == []
    (said,) = _too_long(rows, tiny, most - 1)
    assert said.startswith(f"1 of 3 held-out answers have more than the {most - 1} tokens that models may answer in")
