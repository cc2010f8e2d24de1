"""What was masked has the teacher's distributions over the masked words; what was not is as it was."""

from dataclasses import replace

import numpy as np
import pytest
from tests.curation.made import answered

from limbeck.curation.asking import Asking
from limbeck.curation.masking import cover, mask, read_again
from limbeck.curation.privacy import KINDS
from limbeck.recipe import Curation
from limbeck.records import GenerationSettings, Question
from limbeck.teachers import ask
from limbeck.teachers.local import LocalTeacher

SETTINGS = GenerationSettings(12, top_k_captured=4)


@pytest.fixture
def asking(tmp_path, tiny):
    teacher = LocalTeacher(tiny)

    def answers(pairs, settings, name):
        return ask(teacher, [Question(e.prompt, (), text) for e, text in pairs], settings, tmp_path / "a.sqlite")

    return Asking(SETTINGS, answers)


def test_the_teacher_reads_what_was_masked(asking, tiny):
    texts = ["my kettle leaks", "I am ada@example.org", "call +44 20 8366 1177"]
    said = ["leak", "Hello ada@example.org", "noise"]
    before = [answered(text, label) for text, label in zip(texts, said, strict=True)]
    read = asking.teacher([(one.example, one.answer.text) for one in before], SETTINGS, "")
    before = [replace(one, answer=answer) for one, answer in zip(before, read, strict=True)]
    masked = mask(before, KINDS, None)
    plain, mail, phone = read_again(before, masked, asking)
    assert plain is before[0]
    assert (mail.answer.text, phone.answer.text) == ("Hello [EMAIL-1]", "noise")
    assert phone.example.prompt.messages[0].text == "call [PHONE-1]"
    for one in (mail, phone):
        assert one.answer.token_ids == tuple(tiny.renderer.response(one.answer.text))
        assert one.answer.soft_labels.top_ids_TK.shape == (len(one.answer.token_ids), 4)
    # The same answer after another prompt: the distributions are those after the masked one.
    assert not np.allclose(phone.answer.soft_labels.top_logprobs_TK, before[2].answer.soft_labels.top_logprobs_TK)


def test_what_came_with_an_example_is_masked_and_alone_makes_none_private():
    sent = {"metadata": {"user": "ada@example.org"}, "others": ({"user": "bob@example.org"},)}
    asked, plain = mask([answered("write to ada@example.org", **sent), answered("it leaks", **sent)], KINDS, None)
    assert asked.one.example.metadata == {"user": "[EMAIL-1]"} and asked.kinds == ("email",)
    assert asked.one.example.others == ({"user": "[EMAIL-2]"},)
    assert plain.one.example.metadata == {"user": "[EMAIL-1]"} and plain.kinds == ()
    assert plain.one.answer.token_ids == (1, 2)


def test_what_is_shown_is_covered_where_the_plan_asks_for_privacy():
    row = {"a": "ada@example.org", "b": [None, "bob@example.org, ada@example.org"], "c": 7}
    assert cover(Curation(privacy="drop"))(row) == {"a": "[EMAIL-1]", "b": [None, "[EMAIL-2], [EMAIL-1]"], "c": 7}
    assert cover(Curation())(row) is row


def test_without_distributions_nobody_is_asked():
    before = [answered("I am ada@example.org", "hello", origin="given")]
    (one,) = read_again(before, mask(before, KINDS, None), Asking(SETTINGS))
    assert one.example.prompt.messages[0].text == "I am [EMAIL-1]"
    assert (one.answer.text, one.answer.soft_labels) == ("hello", None)
