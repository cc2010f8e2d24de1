"""A mark is read from JSON and from prose, and where there is none it is said."""

import pytest

from limbeck.rubrics import BUILTIN, Rubric, named, question, read_mark

FIVE = BUILTIN["Correctness"]


@pytest.mark.parametrize(
    ("said", "mark"),
    [
        ('{"explanation": "as asked", "mark": "4"}', 0.75),
        ('{"mark": 5}', 1.0),
        ('{"mark": 4.0}', 0.75),
        ('{"mark": 4.5}', None),
        ('{"explanation": "cut off, mark: 4', None),
        ('{"mark": "9"}', None),
        ("The answer names 3 of 5 parts. Mark: 2", 0.25),
        ("It is right.\n\n**Rating:** 5/5", 1.0),
        ("Score of 1, since it is wrong", 0.0),
        ("It is fine.\n4", 0.75),
        ("5\nIt is right.", 1.0),
        ("It names 4 colors", None),
        ("Mark: 4.5", None),
        ("", None),
        ("[" * 100_000, None),
    ],
)
def test_the_mark_of_five(said, mark):
    assert read_mark(FIVE, said)[0] == mark


def test_words_are_marks_too_whatever_their_case():
    rubric = Rubric("?", (("poor", 0.0), ("very good", 2.0), ("good", 1.0)))
    assert read_mark(rubric, "Mark: Very good")[0] == 2.0
    assert read_mark(BUILTIN["Refusal"], "There is no harm in it. Mark: Yes.")[0] == 1.0


def test_a_name_is_a_built_in_rubric_and_anything_else_a_question_of_ones_own():
    assert named("Correctness") is FIVE and not named("Harmfulness").good
    own = named("Is {{prediction}} short, for {{prompt}}?")
    asked = question(own, "the request", None, "the answer")
    assert "Is the answer short, for the request?" in asked and "Reference" not in asked
