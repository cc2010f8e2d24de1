"""What a request says of labels, and of prompts to be made, reaches the job's recipe."""

import pytest
from tests.homes import ENTRY, STUDENT, TEACHER, tiny_home

from limbeck.control.customization import JOB, _recipe, _resumed
from limbeck.control.desk import Desk, open_desk
from limbeck.errors import InvalidInput
from limbeck.settings import Settings


@pytest.fixture
def desk(tmp_path, tiny_folder):
    settings = Settings(tiny_home(tmp_path / "home", tiny_folder), threads=1)
    return Desk(settings, None, None, None)  # the catalog is all that is looked at


@pytest.fixture
def asked():
    return {
        "jobName": "desk",
        "customModelName": "desk",
        "baseModelIdentifier": STUDENT,
        "customizationType": "DISTILLATION",
        "customizationConfig": {
            "distillationConfig": {"teacherModelConfig": {"teacherModelIdentifier": TEACHER}},
        },
        "trainingDataConfig": {"s3Uri": "s3://desk/pairs.jsonl"},
        "hyperParameters": {"labels": "improve"},
    }


@pytest.mark.row(21)
def test_the_label_policy_of_a_request_is_that_of_its_recipe(asked, desk):
    assert _recipe(asked, desk).synthesis.labels == "improve"
    assert _recipe({**asked, "hyperParameters": {}}, desk).synthesis.labels == "keep"
    logs = {"invocationLogsConfig": {"invocationLogSource": {"s3Uri": "s3://desk/logs"}, "usePromptResponse": True}}
    with pytest.raises(InvalidInput, match="the teacher is not asked, so it can neither mend answers"):
        _recipe({**asked, "trainingDataConfig": logs}, desk)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({}, "FINE_TUNING, since none is said"),
        ({"customizationType": "FINE_TUNING"}, "FINE_TUNING"),
        ({"customizationType": "CONTINUED_PRE_TRAINING"}, "CONTINUED_PRE_TRAINING"),
    ],
)
def test_a_teacher_is_not_left_aside_where_the_request_asks_for_no_distillation(asked, desk, kind, said):
    del asked["customizationType"], asked["hyperParameters"]
    with pytest.raises(InvalidInput, match=f"distillationConfig: customizationType is {said}, which has none"):
        _recipe(asked | kind, desk)
    rest = {key: value for key, value in asked.items() if key != "customizationConfig"}
    assert _recipe(rest | kind, desk).teacher is None


def test_what_cannot_be_learned_is_told_by_the_members_of_the_request(asked, desk):
    config = asked["customizationConfig"]["distillationConfig"]["teacherModelConfig"]
    config["maxResponseLengthForInference"] = 0
    with pytest.raises(InvalidInput, match=r'maxResponseLengthForInference: found "0"'):
        _recipe(asked, desk)
    config["maxResponseLengthForInference"] = 8
    logs = {"invocationLogsConfig": {"invocationLogSource": {"s3Uri": "s3://desk/logs"}, "usePromptResponse": True}}
    with pytest.raises(InvalidInput) as caught:
        _recipe({**asked, "trainingDataConfig": logs, "hyperParameters": {"objective": "forward_kl"}}, desk)
    said = str(caught.value)
    assert said.startswith("trainingDataConfig.invocationLogsConfig.usePromptResponse: ")
    assert "hyperParameters.objective forward_kl; use cross_entropy" in said
    with pytest.raises(InvalidInput, match=r"; drop hyperParameters\.labels$"):
        _recipe({**asked, "trainingDataConfig": logs}, desk)


@pytest.mark.row(22)
def test_a_request_says_how_many_prompts_are_learned_from(asked, desk):
    assert _recipe({**asked, "hyperParameters": {"augmentTo": "1000"}}, desk).synthesis.augment.to == 1000
    assert _recipe(asked, desk).synthesis.augment is None
    logs = {"invocationLogsConfig": {"invocationLogSource": {"s3Uri": "s3://desk/logs"}, "usePromptResponse": True}}
    with pytest.raises(InvalidInput, match=r"hyperParameters.augmentTo: only a distillation whose teacher answers"):
        _recipe({**asked, "trainingDataConfig": logs, "hyperParameters": {"augmentTo": "1000"}}, desk)


def test_a_student_is_taught_as_its_like_learned_best_but_where_the_request_says_how(asked, desk):
    cut = ENTRY.format(id="test.cut-v1:0", name="cut", path=f"{{of: '{TEACHER}', layers: [0, 1]}}")
    catalog = desk.settings.home / "catalog.yaml"
    catalog.write_text(catalog.read_text() + cut)
    plan = _recipe(asked, desk).training
    assert (plan.learning_rate, plan.epochs, plan.warmup) == (3e-4, 3, 0.1)
    recipe = _recipe({**asked, "baseModelIdentifier": "test.cut-v1:0"}, desk)
    assert recipe.student.shrink.layers == (0, 1)
    assert (recipe.training.learning_rate, recipe.training.epochs, recipe.training.warmup) == (1.4e-3, 5, 0.2)
    given = {"epochCount": "2", "learningRate": "0.001", "learningRateWarmupSteps": "5"}
    plan = _recipe({**asked, "baseModelIdentifier": "test.cut-v1:0", "hyperParameters": given}, desk).training
    assert (plan.learning_rate, plan.epochs, plan.warmup_steps) == (1e-3, 2, 5)


@pytest.mark.parametrize(
    ("name", "kept"), [("a.csv", ".csv"), ("a.PARQUET", ".parquet"), ("a.txt", ".txt"), ("a", ".jsonl")]
)
def test_data_are_called_and_read_as_what_their_name_says(asked, desk, name, kept):
    data = {"s3Uri": f"s3://desk/{name}"}
    recipe = _recipe({**asked, "trainingDataConfig": data, "validationDataConfig": {"validators": [data]}}, desk)
    assert recipe.source.prompts.stem == recipe.source.validation[0].stem == "a"
    assert recipe.source.prompts.suffix == kept


def test_a_job_goes_on_where_the_last_that_had_begun_stood(asked, desk):
    desk = open_desk(desk.settings)

    def stopped(name, resumes=None):
        request = {
            **asked,
            "hyperParameters": {**asked["hyperParameters"], **({"resumeFrom": resumes} if resumes else {})},
        }
        resumed = _resumed(request, desk)
        facts = {"model": name} if resumed is None else {"model": name, "resumes": resumed}
        desk.order(JOB, name, "Stopped", request, "CreateModelCustomizationJob", base=STUDENT, facts=facts)
        return resumed

    stopped("first")
    (desk.settings.jobs / "first").mkdir(parents=True)
    stopped("second", "first")
    assert stopped("third", "second") == "first"
    (desk.settings.jobs / "third").mkdir()
    assert stopped("fourth", "third") == "third"
    desk.ledger.engine.dispose()


def test_a_job_does_not_begin_anew_where_it_was_to_go_on(asked, desk):
    desk = open_desk(desk.settings)
    for trained in ("NotStarted", "Stopped"):
        facts = {"model": trained, "statusDetails": {"trainingDetails": {"status": trained}}}
        desk.order(JOB, trained, "Stopped", asked, "CreateModelCustomizationJob", base=STUDENT, facts=facts)
    again = {**asked, "hyperParameters": {**asked["hyperParameters"], "resumeFrom": "NotStarted"}}
    assert _resumed(again, desk) == "NotStarted", "it was stopped while it waited"
    again["hyperParameters"]["resumeFrom"] = "Stopped"
    with pytest.raises(InvalidInput, match="what job Stopped left has been removed; without resumeFrom the job begins"):
        _resumed(again, desk)
    (desk.settings.jobs / "Stopped").mkdir(parents=True)
    assert _resumed(again, desk) == "Stopped"
    desk.ledger.engine.dispose()
