"""Traffic becomes a student, and the student takes the traffic over without a request being lost."""

import threading

import pytest
from tests.factory import message
from tests.homes import STUDENT, TEACHER, tiny_home
from tests.journey.customer import Customer, ended

OURS, OTHERS = {"project": "desk", "stage": "prod"}, {"project": "lab", "stage": "prod"}
PROMPTS = [message(i)[0] for i in range(130)]
ASKED_BY_INVOKE = 10
OF_THE_LAB = PROMPTS[120:]
OF_ANOTHER_MODEL = "somebody asked the small model this"


@pytest.fixture(scope="module")
def user(tmp_path_factory, taught_folder):
    made = Customer(tiny_home(tmp_path_factory.mktemp("home"), taught_folder))
    made.s3.create_bucket(Bucket="desk")
    yield made
    made.leave()


@pytest.fixture(scope="module")
def answers(user):
    """What the teacher said to the desk's traffic, all of it logged."""
    config = {"s3Config": {"bucketName": "desk", "keyPrefix": "traffic"}, "textDataDeliveryEnabled": True}
    user.bedrock.put_model_invocation_logging_configuration(loggingConfig=config)
    said = {}
    for place, prompt in enumerate(PROMPTS):
        metadata = OTHERS if prompt in OF_THE_LAB else OURS
        if place < ASKED_BY_INVOKE:
            turns = [{"role": "user", "content": [{"text": prompt}]}]
            body = {"messages": turns, "inferenceConfig": {"maxTokens": 6, "temperature": 0}}
            answer = user.invoke(TEACHER, body, metadata)
            said[prompt] = answer["output"]["message"]["content"][0]["text"]
        else:
            said[prompt] = user.say(TEACHER, prompt, tokens=6, requestMetadata=metadata)
    user.say(STUDENT, OF_ANOTHER_MODEL, requestMetadata=OURS)

    def count():
        return sum(len(user.logged(key)) for key in user.keys("traffic/AWSLogs/") if key.endswith(".gz"))

    ended(lambda: {"status": "InProgress" if count() < len(PROMPTS) + 1 else "written"}, "written", seconds=30)
    return said


def learned(user, name, use_responses, filters):
    """A job from the log: what it says at its end, and its synthetic data by prompt."""
    logs = {
        "usePromptResponse": use_responses,
        "invocationLogSource": {"s3Uri": "s3://desk/traffic/AWSLogs"},
        "requestMetadataFilters": filters,
    }
    job = user.finished(user.distill(name, TEACHER, STUDENT, {"invocationLogsConfig": logs}))
    place = f"{user.output(job)}/synthetic_data"
    rows = [*user.rows(f"{place}/kept.jsonl"), *user.rows(f"{place}/dropped.jsonl")]
    return job, {row["messages"][-1]["text"]: row for row in rows}


@pytest.fixture(scope="module")
def asked_anew(user, answers):
    return learned(user, "anew", False, {"equals": {"project": "desk"}})


@pytest.fixture(scope="module")
def reused(user, answers):
    ours = [{"equals": {"stage": "prod"}}, {"notEquals": {"project": "lab"}}]
    return learned(user, "reused", True, {"andAll": ours})


@pytest.mark.row(23, 25)
def test_prompts_of_any_model_are_answered_anew_by_the_teacher(asked_anew):
    _, rows = asked_anew
    assert set(rows) <= {*PROMPTS, OF_ANOTHER_MODEL} - set(OF_THE_LAB) and len(rows) > 90
    assert {(row["origin"], row["teacher"]) for row in rows.values()} == {("teacher", TEACHER)}


@pytest.mark.row(24, 25)
def test_responses_of_the_teacher_are_learned_as_they_were_given(answers, reused):
    _, rows = reused
    assert set(rows) <= set(PROMPTS) - set(OF_THE_LAB) and len(rows) > 90
    assert {row["origin"] for row in rows.values()} == {"given"}
    assert all(row["response"] == answers[prompt].strip() for prompt, row in rows.items())


@pytest.mark.row(24, 18, 46)
def test_too_few_records_fail_with_their_number(user, answers):
    logs = {
        "invocationLogSource": {"s3Uri": "s3://desk/traffic/AWSLogs"},
        "requestMetadataFilters": {"equals": {"project": "lab"}},
    }
    arn = user.distill("few", TEACHER, STUDENT, {"invocationLogsConfig": logs})
    failed = ended(lambda: user.bedrock.get_model_customization_job(jobIdentifier=arn), "Failed")
    assert "(10 taken, " in failed["failureMessage"] and "at least 100 taken" in failed["failureMessage"]


@pytest.mark.row(49)
def test_a_new_student_takes_over_and_no_request_is_lost(user, asked_anew, reused):
    old, new = asked_anew[0]["outputModelArn"], reused[0]["outputModelArn"]
    arn = user.deployed("front", old)
    first, later = (user.say(model, PROMPTS[0]) for model in (old, new))
    said, failed, over = [], [], threading.Event()

    def keep_asking():
        while not over.is_set():
            try:
                said.append(user.say(arn, PROMPTS[0]))
            except Exception as error:
                failed.append(error)

    thread = threading.Thread(target=keep_asking)
    thread.start()
    try:
        user.bedrock.update_custom_model_deployment(customModelDeploymentIdentifier="front", modelArn=new)

        def get():
            found = user.bedrock.get_custom_model_deployment(customModelDeploymentIdentifier=arn)
            return {**found, "status": found["updateDetails"]["updateStatus"]}

        assert ended(get, "UpdateCompleted", seconds=120)["modelArn"] == new
        count = len(said) + 20
        ended(lambda: {"status": "InProgress" if len(said) + len(failed) < count else "asked"}, "asked", seconds=60)
    finally:
        over.set()
        thread.join()
    assert not failed
    assert set(said) <= {first, later} and (said[0], said[-1]) == (first, later)
