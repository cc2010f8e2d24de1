"""What was answered earlier in a conversation is read by the teacher and learned as softly as the last answer."""

import pytest
from tests.synthesis.sessions import SETTINGS, workspace

from limbeck import synthesis
from limbeck.intake import parse_row
from limbeck.recipe import Objective
from limbeck.records import Answer, AnsweredExample, Example, Message, Prompt
from limbeck.teachers.local import LocalTeacher
from limbeck.teachers.scripted import ScriptedTeacher
from limbeck.training import prepare
from limbeck.training.step import accumulate

ROW = b"""{"schemaVersion": "bedrock-conversation-2024", "system": [{"text": "Name the intent."}], "messages": [
{"role": "user", "content": [{"text": "my kettle leaks"}]}, {"role": "assistant", "content": [{"text": "leak"}]},
{"role": "user", "content": [{"text": "is it covered?"}]}, {"role": "assistant", "content": [{"text": "warranty"}]},
{"role": "user", "content": [{"text": "and the noise?"}]}]}""".replace(b"\n", b" ")


def session(teacher, folder, golden=()):
    framing = synthesis.Framing(synthesis.Golden(golden, 10, "first"))
    return synthesis.Session(teacher, SETTINGS, framing, folder / "a.sqlite", workspace(folder / "job"))


def answered(teacher, used):
    row = parse_row(ROW, "rows.jsonl", 1)
    example = Example(row.prompt, None, "train", "rows.jsonl", 1)
    (said,) = used.put([used.framing.question(example)], "answers")
    return [AnsweredExample(example, said, "teacher", teacher.id)]


@pytest.mark.row(67)
def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_any_answer_of_a_conversation(tiny, tmp_path):
    teacher = LocalTeacher(tiny)
    used = session(teacher, tmp_path)
    read = synthesis.read_earlier(answered(teacher, used), used)
    assert [one.text for one in read[0].earlier] == ["leak", "warranty"]
    (made,) = prepare(read, tiny.renderer, 512, tiny.renderer, True)
    texts = [*(tiny.renderer.response(text) for text in ("leak", "warranty")), read[0].answer.token_ids]
    assert made.tokens.response == tuple(token for tokens in texts for token in tokens)
    whole = accumulate(tiny.model, [made], Objective(forward_kl=1.0), 4096, backward=False)
    assert whole.tokens == len(made.tokens.response)
    assert abs(whole.mean) < 1e-5
    for name in ("leak", "warranty"):  # each was read after its own history, golden pairs or none
        alone = next(one for one in read[0].earlier if one.text == name)
        assert alone.soft_labels.top_ids_TK.shape == (len(alone.token_ids), 5)


def test_the_teacher_reads_each_after_what_was_said_before_and_under_its_golden_pairs(tmp_path):
    asked = []

    class Watching(ScriptedTeacher):
        def answers(self, questions, *rest):
            asked.extend(questions)
            return super().answers(questions, *rest)

    used = session(Watching(lambda text: "noise"), tmp_path, golden=[("another", "leak")])
    one = AnsweredExample(
        Example(parse_row(ROW, "r", 1).prompt, None, "train", "r", 1), Answer("noise", (5,), "stop", 1), "teacher", "t"
    )
    read = synthesis.read_earlier([one], used)
    assert [question.completion for question in asked] == ["leak", "warranty"]
    assert [question.prompt.messages[-1].text for question in asked] == ["my kettle leaks", "is it covered?"]
    assert all(question.prompt.system == "Name the intent." for question in asked)
    assert asked[1].prompt.answers == ["leak"]
    assert all(question.demonstrations == (("another", "leak"),) for question in asked)
    # A scripted teacher shows no distributions: only the last answer is learned, and that is said.
    assert read == [one]


def test_a_prompt_of_one_turn_asks_nothing(tmp_path):
    teacher = ScriptedTeacher(lambda text: "x")
    one = AnsweredExample(
        Example(Prompt((Message("user", "a"),)), None, "train", "r", 1), Answer("x", (5,), "stop", 1), "teacher", "t"
    )
    assert synthesis.read_earlier([one], session(teacher, tmp_path)) == [one]
    assert not teacher.asked
