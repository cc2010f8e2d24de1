"""Rules on an answer's words: what each finds, and what it leaves in peace."""

import pytest
from tests.curation.made import answered

from limbeck.curation import text


def against(rule, answer: str, prompt: str = "a prompt") -> str | None:
    return rule(answered(prompt, answer))


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but I cannot assist with this request.",
        "As an AI language model, I do not have opinions.",
        "I cannot provide instructions for that.",
        "Unfortunately, I am unable to help with this.",
        "Sorry, I'm not able to look that up.",
        "I apologize, but I am not comfortable writing that.",
        "My apologies, but this is not possible.",
        "I'm sorry that you feel that way, but we really can't help.",
        "I'm sorry, unable to answer that.",
    ],
)
def test_a_refusal_is_known_by_how_it_begins(answer):
    assert against(text.refusal, answer).startswith("begins")


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry to hear that your kettle leaks. Please send us a photo of it.",
        "I'm sorry to hear that. You can't return it after 30 days.",
        "I'm afraid your order won't be shipped before Monday.",
        "I'm sorry for the wait! We are able to refund you now.",
        "leak",
        "The error says: I cannot provide instructions. It means that the disk is full.",
        "I can help with that: turn it off first.",
        "An AI language model predicts the next token.",
        "",
    ],
)
def test_an_answer_is_no_refusal_for_being_sorry_or_quoting_one(answer):
    assert against(text.refusal, answer) is None


def test_length_is_in_characters_without_the_spaces_around():
    rule = text.length(3, 5)
    assert [against(rule, said) is None for said in ("ab ", "abc", " abcde ", "abcdef")] == [False, True, True, False]
    assert against(text.length(2, None), "x" * 9999) is None


def test_repetition_is_what_is_said_again():
    rule = text.repetition(0.3)
    once = " ".join(f"word{i} and" for i in range(40))
    assert against(rule, once) is None
    assert against(rule, "turn it off and on again " * 20).endswith("is said again")
    assert against(rule, "the same answer over " * 3) is None  # under twenty words nothing is told
    assert against(rule, "機械が水を漏らしています。" * 30).endswith("is said again")


GERMAN = "Die Waschmaschine verliert Wasser, und die Küche steht unter Wasser."
ENGLISH = "The washing machine leaks, and the kitchen is full of water now."


def test_another_language_is_told_and_short_answers_are_not_judged():
    rule = text.other_language(("en",))
    assert against(rule, ENGLISH) is None
    assert against(rule, GERMAN) == "in de; expected en"
    assert against(rule, "Leck") is None
    assert against(rule, '{"a": 1, "b": [2, 3, 4, 5, 6, 7, 8]}') is None
    assert against(rule, "洗濯機から水が漏れています。").startswith("in ja")


def test_the_prompts_own_language_can_be_asked_for():
    rule = text.other_language(("prompt",))
    assert against(rule, GERMAN, prompt=GERMAN) is None
    assert against(rule, ENGLISH, prompt=GERMAN) == "in en; expected de"
    assert against(rule, ENGLISH, prompt="leak?") is None  # the prompt's language is not told
