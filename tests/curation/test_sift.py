import json

import pytest

from limbeck import curation
from limbeck.errors import InvalidInput
from limbeck.records import Answer, AnsweredExample, Example, Message, Prompt
from limbeck.storage.workspace import Workspace


def example(text: str, split="train") -> Example:
    return Example(Prompt((Message("user", text),)), None, split, "p.jsonl", 1)


def answered(text: str, answer="fine", reason="stop") -> AnsweredExample:
    return AnsweredExample(example(text), Answer(answer, (1, 2), reason, 3), "teacher", "t")


@pytest.fixture
def work(tmp_path):
    work = Workspace(tmp_path / "job")
    work.step("1-intake", {}, lambda folder: (folder / "x").write_text("x"))
    return work


def test_each_rule_drops_its_own_and_all_stay_in_view(work):
    rows = [answered("a"), answered("b", "  "), answered("c", reason="length"), answered("Where, then?")]
    kept = curation.sift(rows, [example("where then", "held-out")], work)
    assert [one.example.prompt.messages[0].text for one in kept] == ["a"]

    def read(name):
        return [json.loads(line) for line in (work.folder / "3-curation" / name).read_text().splitlines()]

    assert [row["verdict"] for row in read("dropped.jsonl")] == ["empty", "truncated", "held-out"]
    assert [row["response"] for row in read("kept.jsonl")] == ["fine"]


def test_nothing_left_to_train_on_says_why(work):
    with pytest.raises(
        InvalidInput, match=r"no answer is left to train on \(1 truncated\).*raise synthesis\.max_response_tokens"
    ):
        curation.sift([answered("a", reason="length")], [], work)
