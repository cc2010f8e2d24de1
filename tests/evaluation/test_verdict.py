"""The verdict says no where it should, and why."""

import pytest

from limbeck.evaluation.verdict import decide


def scores(**shares):
    return {
        part.replace("_", " "): [1.0] * round(200 * share) + [0.0] * (200 - round(200 * share))
        for part, share in shares.items()
    }


LATENCY = {"teacher": 0.4, "student before": 0.1, "student after": 0.1, "baseline": 0.001}


def verdict(tolerance=0.05, latency=LATENCY, **shares):
    return decide(scores(**shares), latency, "exact_match", tolerance, 0)


def test_a_student_as_good_as_its_teacher_and_faster_ships():
    ship, words = verdict(teacher=0.90, student_before=0.0, student_after=0.88, baseline=0.7)
    assert ship
    assert words.startswith("ship: 88.0% exact match against the teacher's 90.0% (-2.0 points")
    assert "4.0 times as fast" in words


def test_a_student_too_far_below_its_teacher_does_not():
    ship, words = verdict(teacher=0.9, student_before=0.0, student_after=0.8)
    assert not ship
    assert "more than the 5.0% allowed" in words
    assert words.startswith("do not ship: ")


def test_a_slower_student_does_not():
    ship, words = verdict(latency={**LATENCY, "student after": 0.8}, teacher=0.9, student_before=0.0, student_after=0.9)
    assert not ship and "slower than its teacher (2.0 times the time)" in words


@pytest.mark.parametrize("seconds", [0.37, 0.43])
def test_one_as_fast_as_its_teacher_within_the_noise_of_a_machine_does(seconds):
    timed = {**LATENCY, "student after": seconds}
    ship, words = verdict(latency=timed, teacher=0.9, student_before=0.0, student_after=0.9)
    assert ship and "about as fast a request" in words


def test_four_rows_more_of_two_hundred_are_not_clearly_better():
    few = {"teacher": 0.52, "student_before": 0.5, "student_after": 0.52}
    ship, words = verdict(**few)
    assert not ship and "not clearly better than before (50.0%, 95% interval +0.5 to" in words
    assert verdict(**{**few, "student_after": 0.53})[0]


def test_a_student_that_learned_nothing_does_not():
    ship, words = verdict(teacher=0.9, student_before=0.9, student_after=0.9)
    assert not ship and "not clearly better than before" in words


def test_a_clearly_better_classical_baseline_stops_it():
    ship, words = verdict(teacher=0.7, student_before=0.0, student_after=0.7, baseline=0.9)
    assert not ship and "clearly better and far cheaper" in words


def test_a_baseline_within_the_noise_is_told_not_hidden():
    ship, words = verdict(teacher=0.8, student_before=0.0, student_after=0.8, baseline=0.79)
    assert ship and "Note: TF-IDF with logistic regression reaches 79.0%, within the noise" in words


def test_where_nothing_is_right_nothing_speaks_for_the_student_and_no_baseline_is_all_you_need():
    ship, words = verdict(teacher=0.0, student_before=0.0, student_after=0.0, baseline=0.0)
    against, _, reasons = words.partition(" For it: ")
    assert not ship and "no answer of either is a right one; 5-evaluation/answers.jsonl shows them" in against
    assert reasons == "4.0 times as fast a request."
    assert verdict(student_before=0.0, student_after=0.0)[1].startswith("do not ship: 0.0% exact match; it is not")


def test_a_student_that_can_what_its_teacher_cannot_ships():
    assert verdict(teacher=0.0, student_before=0.0, student_after=0.5)[0]


def test_without_a_teacher_the_student_is_held_against_itself():
    assert verdict(student_before=0.1, student_after=0.8)[0]
    assert not verdict(student_before=0.8, student_after=0.8)[0]


def test_on_a_handful_of_rows_nothing_ships():
    for rows, enough in ((1, False), (5, False), (6, True)):
        perfect = {"student before": [0.0] * rows, "student after": [1.0] * rows}
        ship, words = decide(perfect, LATENCY, "exact_match", 0.05, 0)
        assert ship == enough and (f"{rows} held-out rows tell nothing from chance" in words) != enough
