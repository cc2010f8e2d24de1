"""What a caller of the library may ask a model, and what is refused before the model is asked."""

import pytest

from limbeck.errors import InvalidInput
from limbeck.inference.engine import Engine
from limbeck.library import Model


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("", "turn 1: found '': expected text"),
        (5, 'found 5: expected text, or turns {"role", "content"}'),
        ([], "the last to speak is nobody: expected the user"),
        ([{"role": "system", "content": "Be short."}], "the last to speak is nobody: expected the user"),
        (
            [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}],
            "the last to speak is assistant: expected the user",
        ),
        ([{"role": "usr", "content": "Why?"}], "role one of system, user, assistant"),
        (["Why?"], "turn 1: found 'Why?': expected {"),
        ([{"role": "user", "content": 5}], "turn 1: found 5: expected text"),
        ("\ud83d", "turn 1: found half of a surrogate pair: expected text that is valid Unicode"),
    ],
)
def test_what_waits_for_no_answer_is_refused(tiny, prompt, told):
    model = Model(Engine(tiny))
    for asked in (model.answer, model.stream):
        with pytest.raises(InvalidInput) as refused:
            asked(prompt)
        assert told in str(refused.value).replace("; expected", ": expected")
