"""What a request says of labels reaches the job's recipe."""

import pytest
from tests.homes import STUDENT, TEACHER, tiny_home

from limbeck.control.customization import _recipe
from limbeck.control.desk import Desk
from limbeck.errors import InvalidInput
from limbeck.settings import Settings


@pytest.mark.row(21)
def test_the_label_policy_of_a_request_is_that_of_its_recipe(tmp_path, tiny_folder):
    settings = Settings(tiny_home(tmp_path / "home", tiny_folder), threads=1)
    desk = Desk(settings, None, None, None)  # the catalog is all that is looked at
    asked = {
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
    assert _recipe(asked, desk).synthesis.labels == "improve"
    assert _recipe({**asked, "hyperParameters": {}}, desk).synthesis.labels == "keep"
    logs = {"invocationLogsConfig": {"invocationLogSource": {"s3Uri": "s3://desk/logs"}, "usePromptResponse": True}}
    with pytest.raises(InvalidInput, match="the teacher is not asked, so it can neither mend answers"):
        _recipe({**asked, "trainingDataConfig": logs}, desk)
