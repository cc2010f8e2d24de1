"""Bedrock's runtime as boto3 meets it, over scripted replicas."""

import json
import threading
import time
from contextlib import closing

import pytest
from botocore.exceptions import ClientError, EventStreamError
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from tests.api.stage import CONTEXT, IMPORTED, MODEL, make_front, said

from limbeck.api.runtime import Runtime
from limbeck.errors import ModelFailed, ModelTimedOut, NotReady
from limbeck.records import Hosted
from limbeck.serving.chat import MAX_TOKENS

WEATHER = {
    "toolSpec": {
        "name": "weather",
        "description": "The weather in a city.",
        "inputSchema": {"json": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
    }
}
CALL = [
    "Let me",
    " see.\n",
    "<tool",
    "_call>\n",
    '{"name": "weather", ',
    '"arguments": {"city"',
    ': "Ha',
    ' Noi"}',
    "}\n</tool_call>",
]


@pytest.fixture
def client(stage):
    return stage.bedrock()


def converse(client, *messages, **more):
    return client.converse(modelId=MODEL, messages=list(messages) or [said("leak?")], **more)


def stream(client, *messages, **more):
    found = client.converse_stream(modelId=MODEL, messages=list(messages) or [said("leak?")], **more)
    return [next(iter(event.items())) for event in found["stream"]]


def deltas(events):
    return [event["delta"]["text"] for name, event in events if name == "contentBlockDelta"]


def code(caught):
    return caught.value.response["Error"]["Code"]


def message(caught):
    return caught.value.response["Error"]["Message"]


@pytest.mark.row(2)
def test_converse_answers_with_its_usage_and_latency_measured(stage, client):
    found = converse(client, system=[{"text": "Name it."}])
    assert found["output"]["message"] == {"role": "assistant", "content": [{"text": "There is a leak."}]}
    assert found["stopReason"] == "end_turn"
    prompt = len(stage.pool.asked[0].token_ids)
    assert found["usage"] == {"inputTokens": prompt, "outputTokens": 5, "totalTokens": prompt + 5}
    assert found["metrics"]["latencyMs"] >= 1
    assert found["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.row(3)
def test_the_stream_says_what_converse_says_in_order_and_as_it_is_written(stage, client):
    whole = converse(client)
    events = stream(client)
    names = [name for name, _ in events]
    count = len(stage.pool.script)
    assert names == ["messageStart", *["contentBlockDelta"] * count, "contentBlockStop", "messageStop", "metadata"]
    assert "".join(deltas(events)) == whole["output"]["message"]["content"][0]["text"]
    told = dict(events)
    assert told["messageStart"] == {"role": "assistant"}
    assert told["messageStop"] == {"stopReason": "end_turn"}
    assert told["metadata"]["usage"] == whole["usage"]
    assert told["metadata"]["metrics"]["latencyMs"] >= 1


@pytest.mark.row(3)
def test_the_first_delta_comes_before_the_answer_is_finished(stage, client):
    stage.pool.gate = threading.Event()
    events = iter(client.converse_stream(modelId=MODEL, messages=[said("?")])["stream"])
    assert "messageStart" in next(events)
    assert next(events)["contentBlockDelta"]["delta"]["text"] == "There"
    assert stage.pool.ended < stage.pool.begun
    stage.pool.gate.set()
    assert "metadata" in list(events)[-1]


def test_what_is_left_out_is_as_documented_and_what_is_given_arrives(stage, client):
    converse(client)
    converse(
        client,
        inferenceConfig={"temperature": 0, "topP": 0.5, "maxTokens": 7, "stopSequences": ["a", "b"]},
        additionalModelRequestFields={"inferenceConfig": {"topK": 3}, "seed": 11},
    )
    converse(client, additionalModelRequestFields={"top_k": 4})
    left_out, given_, third = stage.pool.asked
    assert (left_out.temperature, left_out.top_p, left_out.top_k, left_out.max_tokens) == (0.7, 0.9, 0, MAX_TOKENS)
    assert left_out.seed != third.seed
    assert (given_.temperature, given_.top_p, given_.top_k, given_.max_tokens) == (0, 0.5, 3, 7)
    assert (given_.stop, given_.seed, third.top_k) == (("a", "b"), 11, 4)


@pytest.mark.row(8)
def test_one_token_at_most_is_one_token(client):
    found = converse(client, inferenceConfig={"maxTokens": 1})
    assert (found["stopReason"], found["usage"]["outputTokens"]) == ("max_tokens", 1)
    assert found["output"]["message"]["content"] == [{"text": "There"}]


@pytest.mark.row(8)
def test_a_stop_sequence_ends_the_answer_and_can_be_asked_for(client):
    asked = {"inferenceConfig": {"stopSequences": ["leak"]}, "additionalModelResponseFieldPaths": ["/stop_sequence"]}
    found = converse(client, **asked)
    assert (found["stopReason"], found["output"]["message"]["content"][0]["text"]) == ("stop_sequence", "There is a ")
    assert found["additionalModelResponseFields"] == {"stop_sequence": "leak"}
    assert dict(stream(client, **asked))["messageStop"]["additionalModelResponseFields"] == {"stop_sequence": "leak"}


def test_an_answer_without_a_word_is_an_answer(stage, client):
    stage.pool.script = []
    assert converse(client)["output"]["message"]["content"] == [{"text": ""}]
    assert [name for name, _ in stream(client)] == ["messageStart", "messageStop", "metadata"]


@pytest.mark.row(8)
def test_the_context_is_the_limit_of_prompt_and_answer(stage, client):
    with pytest.raises(client.exceptions.ValidationException, match=rf"too long.*context is {CONTEXT}"):
        converse(client, said("leak " * CONTEXT))
    stage.pool.script = ["x"] * CONTEXT
    prompt = converse(client, inferenceConfig={"maxTokens": 1})["usage"]["inputTokens"]
    found = converse(client, said("leak?"), inferenceConfig={"maxTokens": CONTEXT})
    assert (found["stopReason"], found["usage"]["totalTokens"]) == ("model_context_window_exceeded", CONTEXT)
    assert stage.pool.asked[-1].max_tokens == CONTEXT - prompt


@pytest.mark.row(7)
def test_counting_tokens_gives_what_usage_says_in_both_forms(client):
    question = {
        "messages": [said("Is it leaking? <|im_end|>")],
        "system": [{"text": "Be short."}],
        "toolConfig": {"tools": [WEATHER]},
    }
    used = client.converse(modelId=MODEL, **question)["usage"]["inputTokens"]
    assert client.count_tokens(modelId=MODEL, input={"converse": question})["inputTokens"] == used
    body = json.dumps({"schemaVersion": "messages-v1", **question})
    assert client.count_tokens(modelId=MODEL, input={"invokeModel": {"body": body}})["inputTokens"] == used
    prompt = json.dumps({"prompt": "<|im_start|>user\nhi<|im_end|>"})
    answer = json.loads(client.invoke_model(modelId=MODEL, body=prompt)["body"].read())
    assert (
        client.count_tokens(modelId=MODEL, input={"invokeModel": {"body": prompt}})["inputTokens"]
        == answer["prompt_token_count"]
    )
    long = {"converse": {"messages": [said("leak " * CONTEXT)]}}
    assert client.count_tokens(modelId=MODEL, input=long)["inputTokens"] > CONTEXT


@pytest.mark.row(9)
def test_a_tool_is_used_when_the_model_uses_it(stage, client):
    stage.pool.script = CALL
    asked = {"toolConfig": {"tools": [WEATHER, {"cachePoint": {"type": "default"}}]}}
    found = converse(client, **asked)
    text, use = found["output"]["message"]["content"]
    assert (found["stopReason"], text) == ("tool_use", {"text": "Let me see."})
    assert (use["toolUse"]["name"], use["toolUse"]["input"]) == ("weather", {"city": "Ha Noi"})
    events = stream(client, **asked)
    names = [name for name, _ in events]
    assert names == [
        "messageStart", "contentBlockDelta", "contentBlockDelta", "contentBlockStop",
        "contentBlockStart", *["contentBlockDelta"] * 3, "contentBlockStop", "messageStop", "metadata",
    ]  # fmt: skip
    parts = [event["delta"]["toolUse"]["input"] for name, event in events if "toolUse" in event.get("delta", {})]
    assert json.loads("".join(parts)) == {"city": "Ha Noi"} and len(parts) == 3
    start = dict(events)["contentBlockStart"]
    assert (start["contentBlockIndex"], start["start"]["toolUse"]["name"]) == (1, "weather")
    assert dict(events)["messageStop"]["stopReason"] == "tool_use"


@pytest.mark.row(9)
def test_a_tool_result_goes_back_and_the_answer_is_text_again(stage, client):
    use = {"toolUse": {"toolUseId": "tooluse_1", "name": "weather", "input": {"city": "Huế"}}}
    result = {"toolResult": {"toolUseId": "tooluse_1", "content": [{"json": {"sky": "clear"}}, {"text": "warm"}]}}
    turns = [said("Weather?"), {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    found = converse(client, *turns, toolConfig={"tools": [WEATHER]})
    assert found["stopReason"] == "end_turn"
    prompt = stage.tokenizer.decode(stage.pool.asked[0].token_ids)
    for part in (
        '"name": "weather"',
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Huế"}}\n</tool_call>',
        '<tool_response>\n{"sky": "clear"}\nwarm\n</tool_response>',
    ):
        assert part in prompt


@pytest.mark.parametrize("choice", [{"any": {}}, {"tool": {"name": "weather"}}])
@pytest.mark.row(9)
def test_a_tool_that_must_be_called_is_called_by_grammar(stage, client, choice):
    stage.pool.script = ['{"name":', ' "weather", "arguments"', ': {"city": "', 'Huế"', "}}"]
    config = {"tools": [WEATHER], "toolChoice": choice}
    found = converse(client, toolConfig=config)
    assert [one["toolUse"]["input"] for one in found["output"]["message"]["content"]] == [{"city": "Huế"}]
    schema = stage.pool.asked[0].json_schema
    assert schema["properties"]["name"] == {"const": "weather"}
    assert schema["$defs"]["weather"] == WEATHER["toolSpec"]["inputSchema"]["json"]
    parts = [event["delta"]["toolUse"]["input"] for _, event in stream(client, toolConfig=config) if "delta" in event]
    assert "".join(parts) == '{"city": "Huế"}'


def test_a_call_that_is_none_is_shown_and_said_to_be_malformed(stage, client):
    stage.pool.script = ["<tool_call>", '{"name": "rocket", "arguments": {}}', "</tool_call>"]
    found = converse(client, toolConfig={"tools": [WEATHER]})
    assert found["stopReason"] == "malformed_tool_use"
    assert found["output"]["message"]["content"] == [{"text": "".join(stage.pool.script)}]


def test_an_answer_is_held_to_a_schema(stage, client):
    schema = {"type": "object", "properties": {"leak": {"type": "boolean"}}}
    structure = {"jsonSchema": {"schema": json.dumps(schema), "name": "leak"}}
    converse(client, outputConfig={"textFormat": {"type": "json_schema", "structure": structure}})
    assert stage.pool.asked[0].json_schema == schema


@pytest.mark.parametrize("levels", [98, 300])
def test_a_schema_is_taken_as_deep_as_it_can_be_walked(stage, client, levels):
    schema = {"type": "object"}
    for _ in range(levels // 2):
        schema = {"anyOf": [schema]}
    structure = {"jsonSchema": {"schema": json.dumps(schema), "name": "leak"}}
    tool = {"toolSpec": {"name": "weather", "inputSchema": {"json": schema}}}
    for asked in (
        {"outputConfig": {"textFormat": {"type": "json_schema", "structure": structure}}},
        {"toolConfig": {"tools": [tool], "toolChoice": {"any": {}}}},
    ):
        if levels < 100:
            assert converse(client, **asked)["output"]
            continue
        with pytest.raises(client.exceptions.ValidationException, match="more than 100 levels of objects and lists"):
            converse(client, **asked)


def test_every_fault_of_a_conversation_is_told_with_its_place(stage, client):
    turns = [
        {"role": "assistant", "content": [{"text": "hello"}]},
        {"role": "assistant", "content": [{"text": " "}]},
        {"role": "user", "content": []},
    ]
    with pytest.raises(client.exceptions.ValidationException) as caught:
        converse(client, *turns, promptVariables={"a": {"text": "b"}}, additionalModelRequestFields={"magic": 1})
    for part in (
        "6 validation errors detected", "must start with a user message", "messages.2.member does not",
        "messages.2.member.content.1.member is blank", "messages.3.member is empty", "'promptVariables'",
        "extraneous key [additionalModelRequestFields.magic]",
    ):  # fmt: skip
        assert part in message(caught)
    assert not stage.pool.asked


@pytest.mark.parametrize(
    ("more", "said_"),
    [
        ({"guardrailConfig": {"guardrailIdentifier": "abc", "guardrailVersion": "1"}}, "guardrailConfig"),
        ({"toolConfig": {"tools": [WEATHER], "toolChoice": {"tool": {"name": "rocket"}}}}, "rocket"),
        ({"inferenceConfig": {"temperature": 2}}, "inferenceConfig.temperature"),
        ({"requestMetadata": {f"k{n}": "v" for n in range(17)}}, "requestMetadata"),
        ({"requestMetadata": {"k": "semi;colon"}}, "requestMetadata"),
        (
            {"outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": "{"}}}}},
            "not JSON",
        ),
        ({"messages": []}, "end with a user"),
    ],
)
def test_what_cannot_be_done_is_refused(client, more, said_):
    with pytest.raises(client.exceptions.ValidationException, match=said_):
        client.converse(**{"modelId": MODEL, "messages": [said("?")], **more})


@pytest.mark.parametrize("kind", ["image", "document", "video"])
def test_a_model_of_text_says_so_and_where_the_other_thing_stood(client, kind):
    source = {"source": {"bytes": b"x"}}
    block = {
        "image": {"format": "png", **source},
        "document": {"format": "pdf", "name": "d", **source},
        "video": {"format": "mp4", **source},
    }[kind]
    turn = {"role": "user", "content": [{"text": "See?"}, {kind: block}]}
    with pytest.raises(client.exceptions.ValidationException) as caught:
        converse(client, turn)
    assert message(caught) == f"messages.1.member.content.2.member is {kind}: this model takes text only"


@pytest.mark.row(11)
def test_a_model_nobody_knows_is_a_validation_error_in_bedrocks_words(stage, client):
    for ask in (client.converse, client.converse_stream):
        with pytest.raises(client.exceptions.ValidationException, match=r"The provided model identifier is invalid\."):
            ask(modelId="nobody.knows-v1:0", messages=[said("?")])
    invocation = stage.logged()
    assert (invocation.error, invocation.operation) == ("ValidationException", "ConverseStream")


@pytest.mark.parametrize(
    ("error", "name", "status"),
    [
        (NotReady("loading"), "ModelNotReadyException", 429),
        (ModelFailed("gone"), "ModelErrorException", 424),
        (ModelTimedOut("slow"), "ModelTimeoutException", 408),
        (RuntimeError("secret"), "InternalServerException", 500),
    ],
)
@pytest.mark.row(11)
def test_an_error_before_the_first_token_has_its_own_status(stage, client, error, name, status):
    stage.pool.refusal = error
    for ask in (client.converse, client.converse_stream):
        with pytest.raises(ClientError) as caught:
            ask(modelId=MODEL, messages=[said("?")])
        assert (code(caught), caught.value.response["ResponseMetadata"]["HTTPStatusCode"]) == (name, status)
        assert "secret" not in message(caught)
    assert stage.logged().error == name


@pytest.mark.row(11)
def test_an_error_in_the_middle_of_a_stream_ends_it_with_an_exception(stage, client):
    for error, name in (
        (ModelFailed("gone"), "modelStreamErrorException"),
        (ModelTimedOut("slow"), "modelStreamErrorException"),
        (RuntimeError("secret"), "internalServerException"),
    ):
        stage.pool.script = ["There", " is", error]
        events = []
        found = client.converse_stream(modelId=MODEL, messages=[said("?")])["stream"]
        with closing(found), pytest.raises(EventStreamError) as caught:
            for event in found:
                events += event
        assert (code(caught), events) == (name, ["messageStart", "contentBlockDelta", "contentBlockDelta"])
        assert "secret" not in str(caught.value)
    stage.pool.script = ["There", ModelTimedOut("slow")]
    asked = {"modelId": MODEL, "body": json.dumps({"prompt": "?"})}
    found = client.invoke_model_with_response_stream(**asked)["body"]
    with closing(found), pytest.raises(EventStreamError) as caught:
        list(found)
    assert code(caught) == "modelTimeoutException"
    invocation = stage.logged()
    assert invocation.error == "ModelTimeoutException"
    assert invocation.output_body == [
        {"generation": "There", "prompt_token_count": None, "generation_token_count": None, "stop_reason": None}
    ]


def test_a_client_that_leaves_ends_the_generation(stage, client):
    stage.pool.gate = threading.Event()
    found = client.converse_stream(modelId=MODEL, messages=[said("?")])["stream"]
    next(iter(found))
    found.close()
    deadline = time.monotonic() + 5
    while stage.pool.ended < stage.pool.begun:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert stage.logged().error == "ClientDisconnected"


def test_every_request_is_in_the_log_as_it_came_and_went(stage, client):
    found = converse(client, requestMetadata={"team": "desk"})
    invocation = stage.logged()
    assert (invocation.operation, invocation.model_id, invocation.caller) == ("Converse", MODEL, "ada")
    assert (invocation.metadata, invocation.request_id) == ({"team": "desk"}, "request-1")
    assert invocation.input_body == {"messages": [said("leak?")], "requestMetadata": {"team": "desk"}}
    assert invocation.output_body["output"] == found["output"]
    assert (invocation.input_tokens, invocation.output_tokens) == (found["usage"]["inputTokens"], 5)
    events = stream(client)
    assert stage.logged().output_body == [dict([event]) for event in events]
    operation, seconds, first = stage.latencies[-1]
    assert operation == "ConverseStream" and 0 < first <= seconds


def test_invoke_model_tells_its_counts_in_headers_and_echoes_what_it_was_given(stage, client):
    body = json.dumps({"messages": [said("?")]})
    found = client.invoke_model(modelId=MODEL, body=body, performanceConfigLatency="standard", serviceTier="flex")
    headers = found["ResponseMetadata"]["HTTPHeaders"]
    usage = json.loads(found["body"].read())["usage"]
    assert headers["x-amzn-bedrock-input-token-count"] == str(usage["inputTokens"])
    assert headers["x-amzn-bedrock-output-token-count"] == "5"
    assert int(headers["x-amzn-bedrock-invocation-latency"]) >= 1
    assert (found["contentType"], found["performanceConfigLatency"], found["serviceTier"]) == (
        "application/json",
        "standard",
        "flex",
    )
    streamed = client.invoke_model_with_response_stream(modelId=MODEL, body=body, serviceTier="flex")
    assert (streamed["contentType"], streamed["serviceTier"]) == ("application/json", "flex")
    list(streamed["body"])
    assert converse(client, serviceTier={"type": "flex"}, performanceConfig={"latency": "optimized"})[
        "serviceTier"
    ] == {"type": "flex"}


@pytest.mark.row(16)
def test_request_metadata_of_invoke_model_is_held_to_the_same_rules(stage, client):
    body = json.dumps({"prompt": "?"})
    client.invoke_model(modelId=MODEL, body=body, requestMetadata=json.dumps({"team": "x"}))
    assert stage.logged().metadata == {"team": "x"}
    for wrong in ({f"k{n}": "v" for n in range(17)}, {}, {"k": 1}, {"k": "é"}, ["k"]):
        with pytest.raises(client.exceptions.ValidationException, match="requestMetadata"):
            client.invoke_model(modelId=MODEL, body=body, requestMetadata=json.dumps(wrong))
    with pytest.raises(client.exceptions.ValidationException, match="not JSON"):
        client.invoke_model(modelId=MODEL, body=body, requestMetadata="{")
    with pytest.raises(client.exceptions.ValidationException, match="guardrail"):
        client.invoke_model(modelId=MODEL, body=body, guardrailIdentifier="abc", guardrailVersion="1")


def test_imported_models_converse_too(client):
    found = client.converse(modelId=IMPORTED, messages=[said("?")])
    assert found["output"]["message"]["content"] == [{"text": "There is a leak."}]


def test_a_folder_that_is_replaced_where_it_lies_is_opened_anew(tmp_path, settings):
    hosted = Hosted("arn", str(make_front(tmp_path)))
    with closing(Runtime(settings, lambda _: hosted, None, None)) as runtime:
        first = runtime.model(hosted)
        assert runtime.model(hosted) is first
        (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}, says another")
        second = runtime.model(hosted)
    assert "another" in second.tokenizer.chat_template


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), max_size=6))
@examples(max_examples=15, deadline=None)
def test_whatever_a_model_says_comes_whole_streamed_or_not(served, script):
    served.pool.reset()
    served.pool.script = script
    client = served.bedrock()
    whole = converse(client)["output"]["message"]["content"][0]["text"]
    assert whole == "".join(deltas(stream(client))) == "".join(script)
