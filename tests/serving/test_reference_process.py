"""What the process that hosts with transformers tells of an answer, event by event."""

import pytest
import torch

from limbeck.inference.engine import Engine
from limbeck.inference.telling import REPLACEMENT
from limbeck.serving.reference_process import _events

ASKED = {
    "prompt": [5],
    "n_predict": 40,
    "samplers": ["top_k"],
    "temperature": 1.0,
    "top_p": 1.0,
    "seed": 0,
    "n_probs": 0,
}


@pytest.fixture
def told(tiny, monkeypatch):
    """The text and the last event of an answer of given tokens."""
    engine = Engine(tiny)

    def telling(tokens):
        monkeypatch.setattr(engine, "steps", lambda *_: ((token, torch.zeros(420)) for token in tokens))
        *events, last = _events(engine, ASKED, 512)
        assert last["stop"] and not any(event["stop"] for event in events)
        assert last["tokens_predicted"] == len(tokens)
        return "".join(event["content"] for event in (*events, last)), last["stop_type"]

    telling.bytes = lambda given: [tiny.renderer.tokenizer.convert_tokens_to_ids(letter) for letter in given]
    telling.end = tiny.renderer.end_id
    telling.text = tiny.renderer.text
    return telling


@pytest.mark.parametrize("said", ["hi", "ÿÿÿ", "hiÿ", "ðŁĻ", "ï¿½"])
def test_an_answer_that_ends_its_turn_is_told_to_its_last_byte(told, said):
    tokens = [*told.bytes(said), told.end]
    assert told(tokens) == (told.text(tokens), "eos")


@pytest.mark.parametrize(("said", "shown"), [("hi", "hi"), ("ðŁĻĤhiðŁĻ", "🙂hi"), ("ÿhi", f"{REPLACEMENT}hi")])
def test_a_character_that_the_length_cuts_off_is_left_out(told, said, shown):
    assert told(told.bytes(said)) == (shown, "limit")
