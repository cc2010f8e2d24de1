"""What only the teacher sees is taken out of the prompt, and nothing of it decides where a row goes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.factory import write_rows

from limbeck.errors import InvalidInput
from limbeck.intake import collect, read_rows
from limbeck.intake.droppable import with_context, without
from limbeck.intake.rows import Row
from limbeck.recipe import Recipe
from limbeck.records import Message, Prompt
from limbeck.storage.workspace import Workspace

MARKS = ("<context>", "</context>")


def prompt(*texts, system=None):
    turns = [Message(("user", "assistant")[at % 2], text) for at, text in enumerate(texts)]
    return Prompt(((Message("system", system),) if system else ()) + tuple(turns))


@pytest.mark.parametrize(
    "text, left",
    [
        ("no mark at all", "no mark at all"),
        ("<context>page 2</context> why?", "why?"),
        ("why?\n\n<context>page 2</context>\n", "why?"),
        ("Given <context>page 2</context> why?", "Given why?"),
        ("Read:\n<context>page 2\n\npage 3</context>\nwhy?", "Read:\n\nwhy?"),
        ("<context>a</context><context>b</context>why <context>c</context>so?", "why so?"),
        ("a stray </context> stays", "a stray </context> stays"),
    ],
)
def test_what_stands_between_the_marks_goes(text, left):
    assert without(prompt(text), MARKS) == prompt(left)


def test_answers_stay_and_a_system_prompt_of_which_nothing_is_left_goes():
    whole = prompt("hi<context>x</context>", "<context>said</context>", "bye", system="<context>Long rules.</context>")
    assert without(whole, MARKS) == prompt("hi", "<context>said</context>", "bye")


@pytest.mark.parametrize("text", ["<context>page 2", "<context>all</context>", "a <context>b</context> <context>c"])
def test_a_part_without_an_end_and_a_turn_without_words_are_refused(text):
    with pytest.raises(InvalidInput):
        without(prompt(text), MARKS)


@given(st.lists(st.text("ab \n<>/", max_size=8), min_size=1, max_size=5), st.text("cd \n", max_size=8))
def test_nothing_between_marks_is_left_whatever_stands_around(parts, inside):
    text = f"{MARKS[0]}{inside}SECRET{MARKS[1]}".join([*parts, "why?"])
    left = without(prompt(text), MARKS).messages[0].text
    assert "SECRET" not in left and left.endswith("why?")
    assert "".join(left.split()) == "".join("".join([*parts, "why?"]).split())


def test_a_turn_may_have_any_number_of_such_parts():
    assert without(prompt("<context>page</context>so " * 5000), MARKS) == prompt(" ".join(["so"] * 5000))


def test_a_rows_own_context_stands_before_the_last_turn():
    assert with_context(prompt("hi", "hello", "why?"), "page 2") == prompt("hi", "hello", "page 2\n\nwhy?")


def rows_of(tmp_path, *rows, marks=MARKS):
    return list(read_rows(write_rows(tmp_path / "rows.jsonl", rows), marks))


def test_rows_carry_their_context_in_either_way(tmp_path):
    pair = {"prompt": "why?", "completion": "so", "context": "page 2"}
    chat = {"messages": [{"role": "user", "content": "why?"}], "context": "page 2"}
    marked = {"prompt": "<context>page 2</context>why?"}
    both = {"prompt": "<context>a</context>why?", "context": "page 2"}
    found = rows_of(tmp_path, pair, chat, marked, both, {"prompt": "why?"})
    assert [row.prompt for row in found] == [prompt("why?")] * 5
    assert [row.whole and row.whole.messages[0].text for row in found] == [
        "page 2\n\nwhy?",
        "page 2\n\nwhy?",
        "<context>page 2</context>why?",
        "page 2\n\n<context>a</context>why?",
        None,
    ]
    assert found[0].label == "so"
    (unmarked,) = rows_of(tmp_path, marked, marks=None)
    assert (unmarked.prompt, unmarked.whole) == (prompt("<context>page 2</context>why?"), None)


def test_faulty_contexts_are_told_with_their_line(tmp_path):
    bedrock = {"schemaVersion": "bedrock-conversation-2024", "messages": [], "context": "x"}
    found = rows_of(tmp_path, {"prompt": "a", "context": 3}, {"prompt": "<context>a"}, {"prompt": "a"}, bedrock)
    told = [str(row[0]) if isinstance(row, list) else row for row in found]
    assert told[0] == "rows.jsonl line 1: context: found 3; expected text"
    assert "line 2: messages: found <context> without </context>" in told[1]
    assert isinstance(told[2], Row) and "an unknown key" in told[3]


@pytest.fixture
def recipe(tmp_path):
    held_out = [{"prompt": f"question {i}?", "completion": "x", "context": f"page {i}"} for i in range(3)]
    rows = [{"prompt": f"<context>page {i % 7}</context> Question {i}!"} for i in range(20)]
    rows += [{"prompt": "Question 9!", "context": "another page"}, {"prompt": "question 12?", "completion": "y"}]
    golden = [{"prompt": "Question 5!", "completion": "five"}, {"prompt": "question 1", "completion": "held out"}]
    return Recipe.build(
        {
            "kind": "distillation",
            "name": "j",
            "teacher": {"model": "t"},
            "source": {
                "prompts": str(write_rows(tmp_path / "rows.jsonl", rows)),
                "held_out": str(write_rows(tmp_path / "test.jsonl", held_out)),
                "golden": str(write_rows(tmp_path / "golden.jsonl", golden)),
                "system": "Be brief.",
                "minimum": 10,
                "validation_share": 0.5,
                "droppable": MARKS,
            },
        }
    )


def test_folding_split_and_guard_see_what_the_student_sees(tmp_path, recipe):
    work = Workspace(tmp_path / "job")
    examples = collect(recipe, work)
    learned = {e.prompt.turns[0].text: e for e in examples if e.split != "held-out"}
    assert not {f"Question {i}!" for i in range(3)} & set(learned)
    assert learned["Question 9!"].copies == 2
    assert learned["Question 9!"].whole.turns[0].text == "<context>page 2</context> Question 9!"
    assert all(e.prompt.system == "Be brief." == e.whole.system for e in learned.values() if e.whole)
    assert learned["Question 12!"].prompt.normalized_id == learned["question 12?"].prompt.normalized_id
    assert learned["Question 12!"].split == learned["question 12?"].split
    report = (work.folder / "1-intake" / "report.csv").read_text()
    assert report.count("the same as a held-out prompt") == 4
    assert "with another droppable part; that of line 10 is kept" in report
    assert collect(recipe, work) == examples


def test_golden_pairs_are_learned_with_their_own_answers(tmp_path, recipe):
    examples = collect(recipe, Workspace(tmp_path / "job"))
    golden = next(e for e in examples if e.prompt.turns[0].text == "Question 5!")
    assert (golden.label, golden.split, golden.file, golden.copies) == ("five", "train", "golden.jsonl", 2)
    assert not [e for e in examples if e.label == "held out"]
    rows = [json.loads(line) for line in (tmp_path / "job/1-intake/examples.jsonl").read_text().splitlines()]
    assert {"whole", "messages"} <= set(rows[0])
    shown_only = recipe.model_copy(update={"source": recipe.source.model_copy(update={"learn_golden": False})})
    examples = collect(shown_only, Workspace(tmp_path / "other"))
    assert not [e for e in examples if e.file == "golden.jsonl" or e.label == "five"]
