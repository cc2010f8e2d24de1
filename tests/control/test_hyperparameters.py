import pytest

from limbeck.control.hyperparameters import checked, chosen
from limbeck.errors import InvalidInput
from limbeck.recipe import Training


@pytest.mark.row(36)
def test_what_is_left_out_gets_bedrocks_defaults():
    assert checked("FINE_TUNING", {}) == {
        "epochCount": "2",
        "learningRate": "0.00001",
        "learningRateWarmupSteps": "10",
        "batchSize": "32",
    }
    assert checked("DISTILLATION", {}) == {}


@pytest.mark.parametrize("text", ["1.00E-05", "0.00001", "1e-6", "1e-4"])
@pytest.mark.row(36)
def test_numbers_are_read_in_every_notation(text):
    assert checked("FINE_TUNING", {"learningRate": text})["learningRate"] == text


@pytest.mark.parametrize("text", ["1_0e-6", " 1e-5", "１e-5", "inf", "1e", "", "0x1", "1e-5 ", "9" * 400])
def test_what_only_python_reads_is_no_number(text):
    with pytest.raises(InvalidInput, match="learningRate: found"):
        checked("FINE_TUNING", {"learningRate": text})


@pytest.mark.row(36)
def test_the_warm_up_of_both_documentations_is_taken():
    for steps in ("0", "20", "21", "100"):
        assert checked("FINE_TUNING", {"learningRateWarmupSteps": steps})["learningRateWarmupSteps"] == steps
    with pytest.raises(InvalidInput, match=r'learningRateWarmupSteps: found "101"; expected a whole number from 0'):
        checked("FINE_TUNING", {"learningRateWarmupSteps": "101"})


def test_a_distillation_tells_what_was_chosen_in_words_it_would_take_itself():
    told = chosen(Training(epochs=3, learning_rate=2e-3, batch_size=32))
    assert told == {"epochCount": "3", "learningRate": "0.002", "batchSize": "32"}
    assert checked("DISTILLATION", told) == told


@pytest.mark.row(36)
def test_every_fault_is_told_at_once_with_name_value_and_range():
    wrong = {"epochCount": "6", "learningRate": "nan", "learningRateWarmupSteps": "1.5", "batchSize": "", "epochs": "1"}
    with pytest.raises(InvalidInput) as caught:
        checked("FINE_TUNING", wrong)
    said = str(caught.value)
    for part in (
        'hyperParameters.epochCount: found "6"; expected a whole number from 1 to 5',
        'learningRate: found "nan"; expected a number from 1e-06 to 0.0001',
        'learningRateWarmupSteps: found "1.5"; expected a whole number from 0 to 100',
        'batchSize: found ""',
        "epochs: unknown hyperparameter; expected one of epochCount,",
    ):
        assert part in said


@pytest.mark.row(66)
def test_a_distillation_takes_an_objective_and_higher_rates():
    given = {"objective": "cross_entropy", "learningRate": "0.002"}
    assert checked("DISTILLATION", given) == given
    with pytest.raises(InvalidInput, match=r'objective: found "x"; expected forward_kl or cross_entropy'):
        checked("DISTILLATION", {"objective": "x"})
    with pytest.raises(InvalidInput, match="objective: unknown"):
        checked("FINE_TUNING", {"objective": "forward_kl"})


@pytest.mark.row(21)
def test_a_distillation_says_what_becomes_of_labels():
    assert checked("DISTILLATION", {"labels": "auto"}) == {"labels": "auto"}
    with pytest.raises(InvalidInput, match=r'labels: found "drop"; expected keep, improve, ignore or auto'):
        checked("DISTILLATION", {"labels": "drop"})
    with pytest.raises(InvalidInput, match="labels: unknown"):
        checked("FINE_TUNING", {"labels": "keep"})


@pytest.mark.row(22)
def test_a_distillation_says_how_many_prompts_it_learns_from():
    assert checked("DISTILLATION", {"augmentTo": "15000"}) == {"augmentTo": "15000"}
    for wrong in ("0", "15001", "many"):
        with pytest.raises(InvalidInput, match=f'augmentTo: found "{wrong}"; expected a whole number from 1 to 15000'):
            checked("DISTILLATION", {"augmentTo": wrong})
    with pytest.raises(InvalidInput, match="augmentTo: unknown"):
        checked("FINE_TUNING", {"augmentTo": "200"})
