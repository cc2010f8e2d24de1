from collections import Counter

import pytest

from limbeck.intake import split_of
from limbeck.records import Message, Prompt


def prompt(text: str, system: str | None = None) -> Prompt:
    made = Prompt((Message("user", text),))
    return made.with_system(system) if system else made


def test_shares_come_out_as_asked():
    counts = Counter(split_of(prompt(f"prompt {i}"), 0.1, 0.05) for i in range(5000))
    assert counts["held-out"] / 5000 == pytest.approx(0.1, abs=0.02)
    assert counts["validation"] / 5000 == pytest.approx(0.05, abs=0.015)


def test_the_split_is_the_same_for_ever():
    found = [split_of(prompt(f"prompt {i}"), 0.3, 0.3) for i in range(8)]
    assert found == [
        "held-out", "held-out", "train", "held-out", "train", "train", "validation", "validation",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "twin", ["WHERE IS MY PARCEL?", "where is my parcel", " Where  is my parcel ?!", "Where is my parcel…"]
)
def test_spellings_of_one_prompt_fall_on_the_same_side_under_any_system_prompt(twin):
    for share in (0.1, 0.5, 0.9):
        first = split_of(prompt("Where is my parcel?"), share, 0.05)
        assert split_of(prompt(twin, system="Be short."), share, 0.05) == first


def test_changing_the_held_out_share_moves_prompts_only_in_or_out_of_it():
    for i in range(500):
        small, large = (split_of(prompt(f"{i}"), share, 0.1) for share in (0.1, 0.2))
        assert small == large or (small != "held-out" and large == "held-out")
