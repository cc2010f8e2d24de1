"""What is named here is taken and given by every operation of AWS that has such a name."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from limbeck.arns import MODEL_ID, MODEL_ID_CHARACTERS, Arns
from limbeck.wire.operations import Service, read, write

SERVICE = Service("bedrock", "bedrock-runtime")
ARNS = Arns("us-east-1", "000000000000")
IDS = st.from_regex(MODEL_ID, fullmatch=True).filter(lambda one: len(one) <= MODEL_ID_CHARACTERS)
ROLE = "arn:aws:iam::000000000000:role/Limbeck"
NOW = datetime.now(UTC)
TURNS = [{"role": "user", "content": [{"text": "hi"}]}]


def told(name, **values):
    return json.loads(write(SERVICE.operations["bedrock", name], values).body)


def take(name, labels=(), service="bedrock", **values):
    read(SERVICE.operations[service, name], dict(labels), body=json.dumps(values).encode())


@given(IDS)
@example("qwen2.5-0.5b-instruct")
@example(f"{'a' * 60}.{'b' * 63}:0")
def test_a_base_model_and_what_is_made_of_it_are_named_in_every_list_and_request(model_id):
    base, made = ARNS.foundation_model(model_id), ARNS.custom_model(model_id, "desk", "f" * 64)
    job = ARNS.resource("model-customization-job", "abcdefghijkl", model_id)
    names = {"baseModelArn": base, "baseModelName": ARNS.name_of(model_id), "creationTime": NOW}
    for name, key, item in (
        ("ListFoundationModels", "modelSummaries", {"modelArn": base, "modelId": model_id}),
        ("ListCustomModels", "modelSummaries", {"modelArn": made, "modelName": "desk", **names}),
        (
            "ListModelCustomizationJobs",
            "modelCustomizationJobSummaries",
            {
                "customModelArn": made,
                "jobArn": job,
                "baseModelArn": base,
                "jobName": "desk",
                "status": "Completed",
                "creationTime": NOW,
            },
        ),
    ):
        assert len(told(name, **{key: [item]})[key]) == 1, name
    places = {"trainingDataConfig": {"s3Uri": "s3://desk/x"}, "outputDataConfig": {"s3Uri": "s3://desk/out/"}}
    kept = {"jobArn": job, "jobName": "desk", "outputModelName": "desk", "outputModelArn": made, "roleArn": ROLE}
    told(
        "GetModelCustomizationJob",
        **{**kept, **places, "baseModelArn": base, "creationTime": NOW, "validationDataConfig": {"validators": []}},
    )
    for identifier in (model_id, made):
        asked = {"jobName": "desk", "customModelName": "desk", "roleArn": ROLE, **places}
        take("CreateModelCustomizationJob", baseModelIdentifier=identifier, **asked)
        take("Converse", {"modelId": identifier}, "bedrock-runtime", messages=TURNS)
        take("CreateProvisionedModelThroughput", modelUnits=1, provisionedModelName="desk", modelId=identifier)


@given(st.text() | st.from_regex(r"[a-z./-]{1,90}", fullmatch=True))
@example("a")
@example("")
@example("x" * 80)
@example("a.b.c.d")
def test_a_folder_of_any_name_has_an_id_like_a_base_models(base):
    made = Arns.id_of(base)
    assert MODEL_ID.fullmatch(made)
    assert made == base or len(made) <= 63


@pytest.mark.parametrize(
    ("identifier", "arn"),
    [
        (None, None),
        ("alias/desk", None),
        ("arn:aws:kms:us-east-1:000000000000:alias/desk", None),
        (f"arn:aws:kms:eu-west-1:111111111111:key/{'k' * 36}", f"arn:aws:kms:eu-west-1:111111111111:key/{'k' * 36}"),
        ("k" * 36, f"arn:aws:kms:us-east-1:000000000000:key/{'k' * 36}"),
    ],
)
def test_a_key_is_told_by_its_arn_whatever_named_it(identifier, arn):
    assert ARNS.kms_key(identifier) == arn
