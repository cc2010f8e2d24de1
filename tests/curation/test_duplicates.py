"""Near-duplicates are those an exhaustive comparison finds; contamination is a run of words, not a template."""

import random

from limbeck.curation.balance import surplus
from limbeck.curation.duplicates import contaminated, near_duplicates
from limbeck.likeness import shingles, similarity
from limbeck.records import Message, Prompt


def prompt(text: str) -> Prompt:
    return Prompt((Message("user", text),))


def oracle(texts, threshold):
    sets, first, found = [shingles(text) for text in texts], [], {}
    for place, own in enumerate(sets):
        best = max(((similarity(own, sets[other]), -other) for other in first), default=(0.0, 0))
        if best[0] >= threshold:
            found[place] = (-best[1], best[0])
        else:
            first.append(place)
    return found


def test_near_duplicates_are_what_comparing_all_pairs_finds():
    dice = random.Random(0)
    words = [f"w{i}" for i in range(400)]
    texts = []
    for _ in range(150):
        text = dice.choices(words, k=dice.randint(6, 30))
        texts.append(" ".join(text))
        for _ in range(dice.randint(0, 2)):
            changed = list(text)
            changed[dice.randrange(len(changed))] = dice.choice(words)
            texts.append(" ".join(changed))
    dice.shuffle(texts)
    for threshold in (0.5, 0.7, 0.9):
        expected, found = oracle(texts, threshold), near_duplicates(texts, threshold)
        assert len(expected) > 5
        assert found == expected


def test_the_first_stays_and_case_and_punctuation_do_not_count():
    texts = ["My kettle does not boil!", "my kettle does not boil", "the fan is loud", "", ""]
    assert near_duplicates(texts, 0.9) == {1: (0, 1.0), 4: (3, 1.0)}


def test_contamination_is_a_run_of_words_of_a_held_out_prompt_but_not_of_its_template():
    held_out = [prompt(f"Name the intent of this message: my {thing} broke down") for thing in ("fan", "oven", "hob")]
    found = contaminated(
        [
            prompt("Name the intent of this message: the bill is wrong"),
            prompt("They said that my OVEN broke, down there"),
            prompt("my oven broke"),
        ],
        held_out,
        4,
    )
    assert found == {1: "my oven broke down"}


def test_no_label_keeps_more_than_its_share_and_as_many_stay_as_can():
    labels = ["a"] * 80 + ["b"] * 15 + ["c"] * 15
    dropped = surplus(labels, 0.5)
    kept = [label for place, label in enumerate(labels) if place not in dropped]
    assert (kept.count("a"), kept.count("b"), kept.count("c")) == (30, 15, 15)
    assert dropped == surplus(labels, 0.5) != surplus(labels, 0.5, seed=1)
    assert surplus(["a", "b"] * 5, 0.6) == {} == surplus([], 0.5)
    assert surplus(["a"] * 29 + ["b"] * 29 + ["c"] * 29 + ["d"] * 13, 0.29) == {}


def test_where_there_are_too_few_labels_for_the_share_they_are_made_equally_many():
    labels = ["a"] * 9 + ["b"] * 4
    dropped = surplus(labels, 0.3)
    assert sorted(label for place, label in enumerate(labels) if place not in dropped) == ["a"] * 4 + ["b"] * 4
