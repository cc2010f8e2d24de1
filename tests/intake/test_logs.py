"""Invocation logs become rows: every form of body, every filter, damage told and passed over."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import InvalidInput
from limbeck.intake.logs import extract_logs, fits
from limbeck.storage.objects import Buckets

FOLDER = "logs/AWSLogs/000000000000/BedrockModelInvocationLogs/us-east-1/2026/01/02/03"


def record(model="m", metadata=None, request=None, response=None, operation="Converse", **more):
    request = request or {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
    response = response or {"output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}}}
    found = {
        "schemaType": "ModelInvocationLog",
        "schemaVersion": "1.0",
        "operation": operation,
        "modelId": model,
        "input": {"inputBodyJson": request},
        "output": {"outputBodyJson": response},
        **more,
    }
    return found | ({"requestMetadata": metadata} if metadata else {})


@pytest.fixture
def bucket(tmp_path):
    objects = Buckets(tmp_path / "buckets")
    objects.make_bucket("desk")

    def write(records, name="a.json.gz", raw=None):
        lines = "".join(json.dumps(one) + "\n" for one in records).encode()
        objects.put("desk", f"{FOLDER}/{name}", gzip.compress(lines) if raw is None else raw)

    def extract(filters=None, responses_of=None):
        path = tmp_path / "rows.jsonl"
        counts = extract_logs(objects, "s3://desk/logs/AWSLogs", path, filters, responses_of)
        return [json.loads(line) for line in path.read_text().splitlines()], counts, path.with_suffix(".csv")

    write.extract, write.objects = extract, objects
    return write


def said(row):
    return [(turn["role"], turn["content"]) for turn in row["messages"]]


FORMS = {
    "converse": (None, None),
    "a stream of events": (
        None,
        [
            {"messageStart": {"role": "assistant"}},
            {"contentBlockDelta": {"delta": {"text": "h"}, "contentBlockIndex": 0}},
            {"contentBlockDelta": {"delta": {"text": "i"}, "contentBlockIndex": 0}},
            {"messageStop": {"stopReason": "end_turn"}},
        ],
    ),
    "llama": ({"prompt": "hello", "max_gen_len": 5}, {"generation": "hi", "stop_reason": "stop"}),
    "a llama stream": ({"prompt": "hello"}, [{"generation": "h"}, {"generation": "i", "stop_reason": "stop"}]),
    "anthropic": (
        {"anthropic_version": "bedrock-2023-05-31", "messages": [{"role": "user", "content": "hello"}]},
        {"content": [{"type": "text", "text": "hi"}]},
    ),
    "openai": (
        {"messages": [{"role": "user", "content": "hello"}]},
        {"choices": [{"message": {"role": "assistant", "content": "hi"}}]},
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.row(23)
def test_every_form_of_body_gives_the_prompt_and_the_answer(bucket, form):
    request, response = FORMS[form]
    bucket([record(request=request, response=response)])
    rows, counts, _ = bucket.extract(responses_of="m")
    assert [said(row) for row in rows] == [[("user", "hello"), ("assistant", "hi")]]
    assert counts == {"taken": 1}
    rows, _, _ = bucket.extract()
    assert [said(row) for row in rows] == [[("user", "hello")]]


def test_system_prompts_and_turns_are_kept(bucket):
    turns = [("user", "a"), ("assistant", "b"), ("user", "c")]
    messages = [{"role": role, "content": [{"text": text}]} for role, text in turns]
    bucket([record(request={"system": [{"text": "be short"}], "messages": messages})])
    rows, _, _ = bucket.extract()
    assert said(rows[0]) == [("system", "be short"), *turns]


@pytest.mark.row(24)
def test_responses_are_taken_of_exactly_the_teacher_and_prompts_of_any_model(bucket):
    bucket([record(model="teacher"), record(model="teacher:0"), record(model="other")])
    assert len(bucket.extract(responses_of="teacher")[0]) == 1
    assert len(bucket.extract()[0]) == 3


@pytest.mark.row(25)
def test_large_bodies_lie_aside_and_markers_are_passed_over(bucket):
    aside = f"{FOLDER}/data/1_input.json.gz"
    body = {"messages": [{"role": "user", "content": [{"text": "long " * 30_000}]}]}
    bucket.objects.put("desk", aside, gzip.compress(json.dumps(body).encode()))
    bucket.objects.put(
        "desk", "logs/AWSLogs/000000000000/BedrockModelInvocationLogs/amazon-bedrock-logs-permission-check", b""
    )
    one = record()
    one["input"] = {"inputBodyS3Path": f"s3://desk/{aside}"}
    bucket([one])
    rows, counts, _ = bucket.extract()
    assert (len(said(rows[0])[0][1]), counts) == (150_000, {"taken": 1})


def test_what_is_damaged_or_no_prompt_is_told_with_its_file_and_line(bucket):
    image = {"messages": [{"role": "user", "content": [{"image": {}}]}]}
    bucket([record(errorCode="ThrottlingException"), record(request=image), {"schemaType": "Else"}, record()])
    bucket([], "b.json.gz", raw=gzip.compress(b"no json\n" + json.dumps(record()).encode())[:-20])
    bucket([], "c.json.gz", raw=b"not gzip at all")
    rows, counts, told = bucket.extract()
    assert len(rows) >= 1
    lines = told.read_text().splitlines()
    assert lines[1] == f"{FOLDER}/a.json.gz,1,the invocation failed"
    assert "content that is not text alone" in lines[2]
    assert "no record of an invocation" in lines[3]
    assert any("c.json.gz,1,the file is damaged" in line for line in lines)
    assert counts.total() == len(lines) - 1 + len(rows)


def test_a_place_without_logs_says_what_was_expected(bucket):
    with pytest.raises(InvalidInput, match=r"no invocation log; expected objects that end in \.json\.gz"):
        bucket.extract()


def test_not_equals_fits_a_record_that_lacks_the_key():
    assert fits({"notEquals": {"team": "x"}}, {})
    assert not fits({"equals": {"team": "x"}}, {})


words = st.sampled_from(["a", "b", "A", ""])
base = st.one_of(
    st.fixed_dictionaries({"equals": st.dictionaries(words, words, min_size=1, max_size=1)}),
    st.fixed_dictionaries({"notEquals": st.dictionaries(words, words, min_size=1, max_size=1)}),
)
lists = st.lists(base, min_size=1, max_size=16)
filters = st.one_of(base, lists.map(lambda some: {"andAll": some}), lists.map(lambda some: {"orAll": some}))


@given(filters, st.dictionaries(words, words, max_size=4))
@pytest.mark.row(25)
def test_filters_agree_with_their_plain_reading(asked, metadata):
    def one(form):
        ((kind, pair),) = form.items()
        ((key, value),) = pair.items()
        return metadata.get(key) == value if kind == "equals" else metadata.get(key) != value

    ((form, value),) = asked.items()
    expected = all(map(one, value)) if form == "andAll" else any(map(one, value)) if form == "orAll" else one(asked)
    assert fits(asked, metadata) == expected
