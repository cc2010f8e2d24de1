"""The guides' rules, one by one, on the numbers they name."""

import json
from dataclasses import replace

import pytest

from limbeck.advice import Counts, Outcome, advise
from limbeck.recipe import Recipe

SIZES = {"micro": 1_000_000_000, "lite": 20_000_000_000, "pro": 90_000_000_000}


def recipe(kind="distillation", training=None, student=None, **more):
    teacher = {"teacher": {"model": "test.teacher"}} if kind == "distillation" else {}
    learner = student or {"model": "test.student"}
    values = {"kind": kind, "name": "a", "source": {"prompts": "a.jsonl"}, **teacher, "student": learner}
    return Recipe.build({**values, "training": training or {}, **more})


def counts(training=6400, student="micro", **more):
    usual = {"rows": training, "prompts": training, "labelled": 0, "systems": 1, "golden": 10, "held_out": 50}
    return Counts(training=training, student_parameters=SIZES[student], teacher_parameters=10**12, **{**usual, **more})


def by_rule(found, rule):
    (one,) = [advice for advice in found if rule in advice.rules]
    return one


@pytest.mark.row(37)
@pytest.mark.parametrize(("student", "steps"), [("micro", 10), ("lite", 40), ("pro", 20)])
def test_warm_up_is_the_samples_divided_by_what_the_students_class_asks(student, steps):
    found = by_rule(advise(recipe(training={"warmup_steps": steps}), counts(6400, student)), "T6")
    assert (found.value, found.stance) == (steps, "fine")
    by_name = by_rule(advise(recipe(student={"model": f"amazon.nova-{student}-v1:0"}), counts(6400)), "T6")
    assert by_name.value == steps


@pytest.mark.row(37)
@pytest.mark.parametrize(
    ("training", "rule", "value"), [(999, "T3", 10), (1000, "T4", 2), (5000, "T4", 2), (5001, "T5", 1)]
)
def test_epochs_go_by_the_amount_of_data(training, rule, value):
    found = by_rule(advise(recipe(), counts(training)), rule)
    assert (found.value, found.about) == (value, "training.epochs")
    assert "T9" in found.rules
    assert by_rule(advise(recipe(training={"epochs": value}), counts(training)), rule).stance == "fine"


@pytest.mark.row(37)
def test_epochs_that_small_students_were_measured_to_want_are_fine():
    small = replace(counts(2000), student_parameters=50_000_000)
    stances = [by_rule(advise(recipe(training={"epochs": count}), small), "T4").stance for count in (2, 3, 6, 7)]
    assert stances == ["fine", "fine", "fine", "consider"]
    assert by_rule(advise(recipe(training={"epochs": 3}), counts(2000)), "T4").stance == "consider"


def test_rows_given_twice_double_the_epochs_where_copies_are_learned():
    twice = counts(800, rows=1600, prompts=800)
    folded = by_rule(advise(recipe(training={"epochs": 5}), twice), "T3")
    learned = by_rule(advise(recipe(training={"epochs": 5, "copies": "learned"}), twice), "T3")
    assert (folded.stance, learned.stance) == ("consider", "fine")
    assert "every row twice" in folded.text and "10 effective epochs (5 of 2.0 copies)" in learned.text


@pytest.mark.parametrize("warmup", [8, 9, 100])
def test_a_warm_up_that_reaches_the_total_steps_is_told(warmup):
    found = by_rule(advise(recipe(training={"warmup_steps": warmup, "epochs": 2}), counts(128)), "T7")
    assert found.stance == "mind"
    assert f"{warmup} warm-up steps of 8 in all" in found.text
    assert found.value < 8
    assert not [
        one for one in advise(recipe(training={"warmup_steps": 7, "epochs": 2}), counts(128)) if "T7" in one.rules
    ]


def test_nothing_is_said_of_all_steps_where_documents_are_cut_into_many_sequences():
    kind = "continued-pre-training"
    told = advise(recipe(kind, training={"warmup_steps": 12}), counts(4))
    assert not [one for one in told if "T7" in one.rules]
    assert by_rule(told, "T6").text.startswith("12 steps; 0 are advised")
    assert "10% of all steps; 10 are advised" in by_rule(advise(recipe(kind), counts()), "T6").text


def test_prompts_that_the_teacher_is_to_write_are_reckoned_with():
    plan = recipe(training={"warmup_steps": 20}, synthesis={"augment": {"to": 5000}})
    found = advise(plan, counts(103, validation=40))
    assert "20 of 465 steps" in by_rule(found, "T6").text
    assert "4,960 samples" in by_rule(found, "T4").text
    assert "prompts are few" in by_rule(advise(recipe(), counts(103)), "T15").text
    assert "few" not in by_rule(found, "T15").text


def test_golden_pairs_that_are_learned_are_reckoned_with():
    source = {"prompts": "a.jsonl", "golden": "g.jsonl"}
    plan = {"training": {"warmup_steps": 8, "epochs": 2}}
    assert by_rule(advise(recipe(**plan, source=source), counts(128)), "T6").text.startswith("8 of 10 steps")
    assert "138 samples" in by_rule(advise(recipe(**plan, source=source), counts(128)), "T3").text
    shown = source | {"learn_golden": False}
    assert "8 warm-up steps of 8 in all" in by_rule(advise(recipe(**plan, source=shown), counts(128)), "T7").text


def test_prompts_without_a_response_are_no_samples_where_responses_are_learned():
    told = {"synthesis": {"use_responses": True}, "training": {"objective": {"cross_entropy": 1}}}
    assert "300 samples" in by_rule(advise(recipe(**told), counts(4000, labelled=300)), "T3").text
    assert "4,000 samples" in by_rule(advise(recipe(), counts(4000, labelled=300)), "T4").text


def test_a_smaller_student_is_advised_a_larger_rate_and_told_what_was_measured_here():
    rates = {size: by_rule(advise(recipe(), counts(student=size)), "T8") for size in SIZES}
    assert rates["micro"].value > rates["lite"].value == rates["pro"].value == 1e-5
    assert not rates["lite"].measured
    small = replace(counts(2000), student_parameters=50_000_000)
    cut = by_rule(advise(recipe(student={"shrink": {"layers": 6}}, training={"learning_rate": 2e-3}), small), "T8")
    assert cut.stance == "fine" and cut.value == 5e-5
    assert "0.0014 for a student cut from a larger model of 50 M weights" in cut.measured
    assert by_rule(advise(recipe(training={"learning_rate": 1e-7}), small), "T8").stance == "consider"


def test_what_bedrock_would_refuse_is_told_and_what_its_first_documentation_did():
    far = by_rule(advise(recipe(training={"epochs": 30, "learning_rate": 0.01}), counts(student="lite")), "T2")
    assert "epochCount 30 (it takes 1 to 5)" in far.text and "learningRate 0.01" in far.text
    most = by_rule(advise(recipe(training={"warmup_steps": 21, "epochs": 2, "learning_rate": 1e-5}), counts()), "T2")
    assert "first documentation ended at 20" in most.text


@pytest.mark.parametrize(
    ("objective", "shrink", "told"),
    [
        ({"reverse_kl": 1}, True, True),
        ({"jensen_shannon": 2}, True, True),
        ({"reverse_kl": 1}, False, False),
        ({"reverse_kl": 1, "forward_kl": 0.1}, True, False),
        ({"forward_kl": 1}, True, False),
    ],
)
def test_an_objective_that_does_not_begin_from_a_cut_student_is_told(objective, shrink, told):
    student = {"shrink": {"layers": 2}} if shrink else {"model": "test.student"}
    found = [
        one for one in advise(recipe(training={"objective": objective}, student=student), counts()) if "M1" in one.rules
    ]
    assert [one.stance for one in found] == (["mind"] if told else [])
    if told:
        assert found[0].value["forward_kl"] == 0.5 and set(found[0].value) == {"forward_kl", *objective}


@pytest.mark.row(37)
def test_prompts_without_answers_want_ten_golden_pairs_and_those_with_them_a_policy():
    assert by_rule(advise(recipe(), counts(golden=0)), "T10").stance == "consider"
    assert by_rule(advise(recipe(), counts(golden=10)), "T10").stance == "fine"
    assert "improve" in by_rule(advise(recipe(), counts(labelled=50)), "T11").text
    assert "larger model can clean them" in by_rule(advise(recipe("fine-tuning"), counts(labelled=6400)), "T14").text


@pytest.mark.parametrize(
    ("rule", "said", "more", "stance"),
    [
        ("T12", "in 40 prompts", {"systems": 1, "without_system": 40}, "consider"),
        (
            "T13",
            "100 of 6,500 rows repeat a prompt, 3 of them",
            {"rows": 6500, "prompts": 6400, "contradictions": 3},
            "mind",
        ),
        ("T15", "45% of the held-out rows' words", {"unseen_words": 0.45}, "mind"),
        ("T15", "nothing is held out", {"held_out": 0}, "mind"),
        ("T15", "200 prompts are few", {"training": 200}, "consider"),
        ("T16", "a larger teacher is advised", {"teacher_parameters": 7}, "consider"),
    ],
)
def test_what_is_amiss_in_the_data_is_told(rule, said, more, stance):
    sound = by_rule(advise(recipe(), counts()), rule)
    assert sound.stance == "fine" and said not in sound.text
    found = by_rule(advise(recipe(), replace(counts(), **more)), rule)
    assert found.stance == stance and said in found.text


def test_the_kind_is_doubted_where_half_the_rows_have_no_answer_to_learn():
    assert by_rule(advise(recipe("fine-tuning"), counts(labelled=100)), "T17").stance == "consider"
    assert by_rule(advise(recipe("fine-tuning"), counts(labelled=6400)), "T17").stance == "fine"


def test_answers_taken_from_logs_must_be_the_teachers():
    reused = recipe(synthesis={"use_responses": True}, training={"objective": {"cross_entropy": 1}})
    assert "modelId is the teacher's" in by_rule(advise(reused, counts()), "T18").text
    assert not [one for one in advise(recipe(), counts()) if "T18" in one.rules]


@pytest.mark.parametrize(
    ("before", "teacher", "stance", "said"),
    [
        (0.2, 0.9, "fine", "20.0% before"),
        (0.88, 0.9, "consider", "use it as it is"),
        (0.85, 0.95, "consider", "nothing was gained"),
        (0.1, 0.3, "consider", "fine-tune on labels, or choose another teacher"),
    ],
)
def test_the_figures_say_whether_the_kind_was_right(before, teacher, stance, said):
    scores = {"teacher": teacher, "student before": before, "student after": 0.85}
    outcome = Outcome("exact_match", scores, {"student before": 0.1, "student after": 0.11}, 0.05)
    found = [one for one in advise(recipe(), counts(), outcome) if "T17" in one.rules][-1]
    assert (found.stance, said in found.text) == (stance, True)


def test_the_figures_say_what_the_labels_are_worth_and_that_the_student_is_as_fast_as_before():
    def after(teacher, seconds):
        scores = {"teacher": teacher, "student before": 0.1, "student after": 0.5}
        outcome = Outcome("exact_match", scores, {"student before": 0.1, "student after": seconds}, 0.05)
        return advise(recipe(), counts(), outcome)[len(advise(recipe(), counts())) :]

    assert [by_rule(after(share, 0.1), "T11").stance for share in (0.95, 0.7, 0.3)] == ["fine", "consider", "mind"]
    assert "became shorter" in by_rule(after(0.9, 0.05), "T19").text
    assert "became" not in by_rule(after(0.9, 0.11), "T19").text


@pytest.mark.row(37)
@pytest.mark.parametrize("kind", ["distillation", "fine-tuning"])
def test_every_advice_gives_its_reason_and_its_source_and_all_rules_are_covered(kind):
    rules = set()
    for labelled in (0, 50):
        for training in (800, 3000, 9000):
            for more in ({}, {"warmup_steps": 10**6}):
                plan = recipe(kind, training=more)
                found = advise(plan, counts(training, labelled=labelled))
                assert found == advise(plan, counts(training, labelled=labelled))
                assert all(one.reason and one.source and one.text for one in found)
                rules |= {rule for one in found for rule in one.rules}
    own = {"distillation": {"T14", "T18"}, "fine-tuning": {"T10", "T11", "T16", "T18", "T19"}}[kind]
    assert rules == {f"T{number}" for number in range(1, 21)} - own


def test_advice_is_one_line_and_plain_json():
    for one in advise(recipe(), counts()):
        assert "\n" not in str(one) and json.loads(json.dumps(vars(one)))
