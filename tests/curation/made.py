"""Answered examples for the tests of curation."""

from limbeck.records import Answer, AnsweredExample, Example, Message, Prompt


def example(text: str, split="train", **more) -> Example:
    return Example(Prompt((Message("user", text),)), more.pop("label", None), split, "p.jsonl", 1, **more)


def answered(text: str, answer="fine", reason="stop", split="train", **more) -> AnsweredExample:
    origin = more.pop("origin", "teacher")
    return AnsweredExample(example(text, split, **more), Answer(answer, (1, 2), reason, 3), origin, "t")
