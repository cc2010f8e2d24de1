"""What was masked has the teacher's distributions over the masked words; what was not is as it was."""

from dataclasses import replace

import numpy as np
import pytest
from tests.curation.made import answered

from limbeck.curation.asking import Asking
from limbeck.curation.masking import mask, read_again
from limbeck.curation.privacy import KINDS
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


def test_without_distributions_nobody_is_asked():
    before = [answered("I am ada@example.org", "hello", origin="given")]
    (one,) = read_again(before, mask(before, KINDS, None), Asking(SETTINGS))
    assert one.example.prompt.messages[0].text == "I am [EMAIL-1]"
    assert (one.answer.text, one.answer.soft_labels) == ("hello", None)
