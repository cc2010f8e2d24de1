import pytest

from limbeck.records import GenerationSettings, Message, Prompt, Question, digest, normalize


def prompt(*texts: str) -> Prompt:
    return Prompt(tuple(Message("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(texts)))


def test_a_digest_depends_on_content_not_on_order_of_keys():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})


def test_equal_prompts_have_equal_ids_and_roles_matter():
    assert prompt("a", "b", "c").id == prompt("a", "b", "c").id
    assert prompt("a", "b", "c").id != prompt("a", "b\x01c").id
    assert Prompt((Message("user", "a"),)).id != Prompt((Message("assistant", "a"),)).id


def test_normalization_folds_spelling_and_leaves_words():
    assert prompt("Café, now!").normalized_id == prompt("cafe\u0301 NOW").normalized_id
    assert prompt("τον Μαΐου").normalized_id == prompt("τον Μαΐου".upper()).normalized_id
    assert prompt("a b").normalized_id != prompt("ab").normalized_id
    assert prompt("?!").normalized_id != prompt("...").normalized_id


@pytest.mark.parametrize("apart", [
    "5, -5", "1.2, 1/2, 12", "12%, 12", "C, C++, C#", "What is 7 + 5?, What is 7 - 5?, What is 7 * 5?, What is 7 / 5?",
    "$5, €5", "दिन, दान", "मेरी, मेरा", "ไก่, ไก", "10:30, 1030", "3 < 4, 3 > 4",
    "Good 👍, Good 👎, Good", "Where is 🇩🇪?, Where is 🇫🇷?", "a 👩‍👧 trip, a 👨‍👧 trip", "it is ✔️, it is ✖️",
])  # fmt: skip
def test_what_makes_another_number_or_word_of_one_is_no_punctuation(apart):
    said = [normalize(text) for text in apart.split(", ")]
    assert len(set(said)) == len(said)


@pytest.mark.parametrize(("text", "plain"), [
    ("**Hello**, *World* -- it's - well - \"fine\"!", "hello world it s well fine"), ("I ❤️ it!😊", "i ❤ it 😊"), ("Acme® 👍🏽", "acme 👍"),
    ("Costs 5. 7 of them, (see #3)", "costs 5 7 of them see 3"), ("a/b, and/or <b>x</b> = y", "a b and or b x b y"),
    ("मेरी किताब दीजिए।", "मेरी किताब दीजिए"), ("step-by-step: 1) do_it", "step by step 1 do it"), ("[EMAIL-1] has covid-19", "email 1 has covid 19"), (" 你好。", "你好"),
])  # fmt: skip
def test_punctuation_is_dropped(text, plain):
    assert normalize(text) == plain


def test_demonstrations_stand_between_the_system_prompt_and_the_question():
    question = Question(prompt("q").with_system("s"), (("a", "b"),))
    assert [(m.role, m.text) for m in question.conversation.messages] == [
        ("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "q"),
    ]  # fmt: skip


def test_everything_that_can_change_an_answer_changes_its_key():
    base = Question(prompt("q"))
    settings = GenerationSettings(8)
    keys = {
        base.key("m", settings),
        base.key("n", settings),
        base.key("m", GenerationSettings(9)),
        base.key("m", GenerationSettings(8, temperature=0.5)),
        base.key("m", GenerationSettings(8, seed=1)),
        base.key("m", GenerationSettings(8, top_k_captured=4)),
        Question(prompt("r")).key("m", settings),
        Question(prompt("q"), (("a", "b"),)).key("m", settings),
        Question(prompt("q"), completion="x").key("m", settings),
    }
    assert len(keys) == 9
    assert Question(prompt("q")).key("m", GenerationSettings(8)) in keys
