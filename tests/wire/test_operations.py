"""Requests and answers of the AWS wire, against botocore's models and botocore's own client code."""

import json
import random
from collections import Counter
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
import regex
from botocore.model import Shape
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import InvalidInput
from limbeck.wire.extensions import takes
from limbeck.wire.operations import Refused, Service, read, write, write_event
from limbeck.wire.shapes import Faults, reader

SERVICE = Service("bedrock", "bedrock-runtime")
JOB_ARN = "arn:aws:bedrock:us-east-1:123456789012:model-customization-job/amazon.nova-micro-v1:0/abcdefghijkl"
GOOD = {
    "jobName": "desk",
    "customModelName": "desk",
    "roleArn": "arn:aws:iam::123456789012:role/r",
    "baseModelIdentifier": "huggingface.smollm2-135m-instruct-v1:0",
    "trainingDataConfig": {"s3Uri": "s3://bucket/prompts.jsonl"},
    "outputDataConfig": {"s3Uri": "s3://bucket/out"},
    "hyperParameters": {"epochCount": "2"},
}


def operation(name, service="bedrock"):
    return SERVICE.operations[service, name]


def refusals(values, name="CreateModelCustomizationJob"):
    with pytest.raises(Refused) as caught:
        read(operation(name), {}, body=json.dumps(values).encode())
    return caught.value.faults


def test_a_request_comes_out_as_it_went_in():
    assert read(operation("CreateModelCustomizationJob"), {}, body=json.dumps(GOOD).encode()) == GOOD


def test_every_operation_is_found_at_its_own_address_with_its_labels_decoded():
    for found in SERVICE.operations.values():
        names = [part.strip("{}+") for part in found.segments if part.startswith("{")]
        path = "/" + "/".join(quote(JOB_ARN, safe="") if part.startswith("{") else part for part in found.segments)
        assert SERVICE.route(found.model.http["method"], path) == (found, dict.fromkeys(names, JOB_ARN))


def test_an_arn_with_bare_slashes_is_understood_too():
    found, labels = SERVICE.route("GET", f"/model-customization-jobs/{JOB_ARN}")
    assert (found.name, labels) == ("GetModelCustomizationJob", {"jobIdentifier": JOB_ARN})
    found, labels = SERVICE.route("POST", f"/model-customization-jobs/{JOB_ARN}/stop")
    assert (found.name, labels) == ("StopModelCustomizationJob", {"jobIdentifier": JOB_ARN})


def test_a_path_of_nothing_leads_nowhere_and_a_wrong_method_is_told_the_right_ones():
    assert SERVICE.route("GET", "/no/such/place/at/all") is None
    assert SERVICE.methods("/custom-models/desk") == ["GET", "DELETE"]


def test_all_faults_of_a_request_are_told_at_once_in_the_words_of_aws():
    faults = refusals(
        {
            **GOOD,
            "jobName": "bad name!",
            "customModelName": "x" * 64,
            "customizationType": "MAGIC",
            "roleArn": None,
            "jobTags": [{"key": "a", "value": 3}],
            "validationDataConfig": {"validators": [{"s3Uri": "s3://bucket/v"}] * 11},
        }
    )
    assert len(faults) == 6
    assert faults[0].startswith(
        "Value 'bad name!' at 'jobName' failed to satisfy constraint: Member must satisfy regular expression pattern: "
    )
    said = "\n".join(faults)
    for part in (
        "at 'customModelName' failed to satisfy constraint: Member must have length less than or equal to 63",
        "Value 'MAGIC' at 'customizationType' failed to satisfy constraint: Member must satisfy enum value set: [FINE_TUNING, ",
        "Value null at 'roleArn' failed to satisfy constraint: Member must not be null",
        "Value '3' at 'jobTags.1.member.value' failed to satisfy constraint: Member must be a string",
        "at 'validationDataConfig.validators' failed to satisfy constraint: Member must have length less than or equal to 10",
    ):
        assert part in said


def test_a_union_has_exactly_one_member():
    config = {
        "distillationConfig": {"teacherModelConfig": {"teacherModelIdentifier": "amazon.nova-pro"}},
        "rftConfig": {
            "graderConfig": {"lambdaGrader": {"lambdaArn": "arn:aws:lambda:us-east-1:123456789012:function:grade"}}
        },
    }
    assert "have exactly one of" in refusals({**GOOD, "customizationConfig": config})[0]
    assert "have exactly one of" in refusals({**GOOD, "customizationConfig": {}})[0]


@pytest.mark.parametrize("body", [b"{", b"[]", b"3", b'"text"', b"\xff\xfe", b"[" * 100_000, b'{"a": "\xed\xa0\x80"}'])
def test_a_body_that_is_no_json_object_is_refused(body):
    with pytest.raises(InvalidInput, match="request's body is"):
        read(operation("CreateModelCustomizationJob"), {}, body=body)


def test_patterns_that_run_away_in_pythons_engine_do_not_hold_the_server():
    assert "regular expression" in refusals({**GOOD, "jobName": "a" + "-" * 60 + "!"})[0]


def test_patterns_mean_what_they_mean_in_pythons_engine():
    """AWS writes them for Java's engine; the one that runs them here is Rust's."""
    models = {found.model.service_model for found in SERVICE.operations.values()}
    shapes = [model.shape_for(name) for model in models for name in model.shape_names]
    patterns = {shape.metadata["pattern"] for shape in shapes if "pattern" in shape.metadata}
    dice, told = random.Random(7), Counter()
    for pattern in sorted(patterns):
        fits = reader(Shape("Text", {"type": "string", "pattern": pattern}))
        for example in EXAMPLES:
            at, other = dice.randrange(len(example) + 1), dice.choice("aZ0-_.:/ \n\té\u2028")
            for text in (example, example[:at] + other + example[at:], example[:at] + example[at + 1 :]):
                faults = Faults()
                fits(text, (None, "text"), faults)
                told[not faults] += 1
                assert (not faults) == (regex.fullmatch(pattern, text, timeout=1, concurrent=False) is not None), (
                    pattern
                )
    assert len(patterns) > 100 and min(told.values()) > 300, told


EXAMPLES = (
    "",
    "a",
    "us-east-1",
    "2026-01-02",
    "Some words, and a line\nmore.",
    "customer-desk_3.model",
    "abcdefghijkl",
    "000000000000",
    "application/json",
    "s3://bucket/some/key.jsonl",
    "huggingface.smollm2-135m-instruct-v1:0",
    "arn:aws:iam::123456789012:role/service/r",
    "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-micro-v1:0",
    "arn:aws:bedrock:us-east-1:123456789012:custom-model/amazon.nova-micro-v1:0/abcdefghijkl",
    "arn:aws:bedrock:us-east-1:123456789012:custom-model-deployment/abcdefghijkl",
    "arn:aws:bedrock:us-east-1:123456789012:evaluation-job/abcdefghijkl",
    JOB_ARN,
)
"""Texts of which each pattern takes some, and misses others by a character."""


def test_a_number_beyond_any_float_is_refused():
    for number in (10**400, -(10**400), float("inf"), float("nan")):
        with pytest.raises(Refused, match="be a whole number"):
            read(operation("CreateProvisionedModelThroughput"), {}, body=json.dumps({"modelUnits": number}).encode())


def test_query_values_are_read_as_their_types():
    asked = read(
        operation("ListCustomModels"),
        {},
        [("maxResults", "5"), ("isOwned", "true"), ("creationTimeAfter", "2026-01-02T03:04:05.678Z")],
    )
    assert asked == {
        "maxResults": 5,
        "isOwned": True,
        "creationTimeAfter": datetime(2026, 1, 2, 3, 4, 5, 678000, UTC),
    }
    with pytest.raises(Refused, match="2 validation errors detected"):
        read(operation("ListCustomModels"), {}, [("maxResults", "5000"), ("isOwned", "perhaps")])


def test_a_list_of_nothing_is_answered_even_where_aws_describes_it_as_never_empty():
    answer = write(operation("ListEvaluationJobs"), {"jobSummaries": []})
    assert json.loads(answer.body) == {"jobSummaries": []}


def test_values_that_only_limbeck_takes_are_taken():
    deployment = "arn:aws:bedrock:us-east-1:000000000000:custom-model-deployment/abcdefghijkl"
    assert takes("ModelId", deployment) and takes("EvaluationTaskType", "General")
    assert not takes("ModelId", f"{deployment}!") and not takes("JobName", deployment)


def test_an_answer_that_does_not_fit_its_shape_is_a_fault_of_ours():
    with pytest.raises(ValueError, match=r"answer to GetCustomModel: .*modelArn.*creationTime"):
        write(operation("GetCustomModel"), {"modelName": "desk", "modelArn": "nothing like one"})
    with pytest.raises(ValueError, match="no member 'surprise'"):
        write(operation("DeleteCustomModel"), {"surprise": 1})


def test_an_item_of_a_list_that_does_not_fit_keeps_no_other_from_being_answered(caplog):
    good = {"jobArn": JOB_ARN, "jobName": "desk", "status": "Completed", "creationTime": datetime.now(UTC)}
    good["baseModelArn"] = "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-micro-v1:0"
    key = "modelCustomizationJobSummaries"
    answer = write(operation("ListModelCustomizationJobs"), {key: [good, {**good, "jobName": "no name!"}, good]})
    assert [one["jobName"] for one in json.loads(answer.body)[key]] == ["desk", "desk"]
    assert "ListModelCustomizationJobs leaves an item out: Value 'no name!' at 'item.jobName'" in caplog.text


def test_a_document_that_no_json_can_hold_is_a_fault_of_ours():
    use = {"toolUseId": "t", "name": "n", "input": {"degrees": float("nan")}}
    answer = {
        "output": {"message": {"role": "assistant", "content": [{"toolUse": use}]}},
        "stopReason": "tool_use",
        "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
        "metrics": {"latencyMs": 1},
    }
    with pytest.raises(ValueError, match=r"toolUse\.input' failed to satisfy constraint: Member must be JSON"):
        write(operation("Converse", "bedrock-runtime"), answer)
    use["input"] = {"degrees": [1e-7, 10**30, "é"]}
    assert json.loads(write(operation("Converse", "bedrock-runtime"), answer).body) == answer


def test_an_event_that_does_not_fit_its_shape_is_a_fault_of_ours():
    stream = operation("ConverseStream", "bedrock-runtime")
    delta = {"delta": {"text": "é"}, "contentBlockIndex": 0}
    assert json.loads(write_event(stream, "contentBlockDelta", delta)) == delta
    chunk = write_event(operation("InvokeModelWithResponseStream", "bedrock-runtime"), "chunk", {"bytes": b"{}"})
    assert json.loads(chunk) == {"bytes": "e30="}
    for name, values, said in (
        ("contentBlockDelta", {"delta": {"text": "x"}}, "contentBlockIndex"),
        ("contentBlockDelta", {**delta, "delta": {}}, "exactly one of"),
        ("messageStop", {"stopReason": "tired"}, "enum"),
        ("messageStop", {"stopReason": "end_turn", "surprise": 1}, "no member 'surprise'"),
        ("chunk", {}, "no event 'chunk'"),
    ):
        with pytest.raises(ValueError, match=said):
            write_event(stream, name, values)


def test_times_and_statuses_are_written_as_the_model_says():
    made = write(
        operation("CreateModelCustomizationJob"),
        {"jobArn": JOB_ARN},
    )
    assert (made.status, json.loads(made.body)) == (201, {"jobArn": JOB_ARN})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*GOOD, "customizationConfig", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from([*GOOD, "customizationConfig", "vpcConfig", "jobTags"]), JSON))
def test_no_json_whatever_is_anything_but_read_or_refused(values):
    for name in ("CreateModelCustomizationJob", "CreateEvaluationJob", "PutModelInvocationLoggingConfiguration"):
        try:
            read(operation(name), {}, body=json.dumps(values).encode())
        except InvalidInput as refused:
            assert "detected: Value" in str(refused)
