"""Native bodies through InvokeModel: each form answers in its own shape, streamed or not."""

import json

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from tests.api.stage import IMPORTED, MODEL, said
from tests.api.test_runtime import CALL, WEATHER, message

from limbeck.errors import InvalidInput
from limbeck.wire.bodies import understand
from limbeck.wire.bodies.converse import Converse
from limbeck.wire.operations import Service, read

COUNTS = {"inputTokenCount", "outputTokenCount", "invocationLatency", "firstByteLatency"}


@pytest.fixture
def client(stage):
    return stage.bedrock()


def invoke(client, body, model=MODEL):
    return json.loads(client.invoke_model(modelId=model, body=json.dumps(body))["body"].read())


def chunks(client, body, model=MODEL):
    found = client.invoke_model_with_response_stream(modelId=model, body=json.dumps(body))
    return [json.loads(event["chunk"]["bytes"]) for event in found["body"]]


def refusal(client, body, model=MODEL):
    with pytest.raises(client.exceptions.ValidationException) as caught:
        invoke(client, body, model)
    return message(caught)


@pytest.mark.parametrize("version", [{"schemaVersion": "messages-v1"}, {}])
@pytest.mark.row(4)
def test_novas_form_answers_as_nova(stage, client, version):
    body = {
        **version,
        "messages": [said("leak?")],
        "system": [{"text": "Be short."}],
        "inferenceConfig": {"topK": 5, "maxTokens": 3},
    }
    found = invoke(client, body)
    assert found == {
        "output": {"message": {"role": "assistant", "content": [{"text": "There is a"}]}},
        "stopReason": "max_tokens",
        "usage": found["usage"],
    }
    assert found["usage"]["outputTokens"] == 3
    assert (stage.pool.asked[0].top_k, stage.pool.asked[0].temperature) == (5, 0.7)


def test_novas_older_names_are_understood(stage, client):
    invoke(client, {"messages": [said("?")], "inferenceConfig": {"max_new_tokens": 2, "top_p": 0.4, "top_k": 6}})
    asked = stage.pool.asked[0]
    assert (asked.max_tokens, asked.top_p, asked.top_k) == (2, 0.4, 6)


@pytest.mark.row(5)
def test_novas_stream_is_converses_events_with_metrics_at_the_end(client):
    found = chunks(client, {"messages": [said("?")]})
    names = [next(iter(one)) for one in found]
    assert names == ["messageStart", *["contentBlockDelta"] * 5, "contentBlockStop", "messageStop", "metadata"]
    assert (
        "".join(one["contentBlockDelta"]["delta"]["text"] for one in found if "contentBlockDelta" in one)
        == "There is a leak."
    )
    assert [set(one) - set(names) for one in found] == [set()] * 8 + [{"amazon-bedrock-invocationMetrics"}]
    metrics, usage = found[-1]["amazon-bedrock-invocationMetrics"], found[-1]["metadata"]["usage"]
    assert set(metrics) == COUNTS
    assert (metrics["inputTokenCount"], metrics["outputTokenCount"]) == (usage["inputTokens"], usage["outputTokens"])
    assert 1 <= metrics["firstByteLatency"] <= metrics["invocationLatency"]


def test_nova_uses_tools_too(stage, client):
    stage.pool.script = CALL
    found = invoke(client, {"messages": [said("?")], "toolConfig": {"tools": [WEATHER]}})
    assert found["output"]["message"]["content"][1]["toolUse"]["input"] == {"city": "Ha Noi"}


@pytest.mark.row(6)
def test_llamas_form_answers_as_llama(stage, client):
    found = invoke(client, {"prompt": "<|im_start|>user\nleak?<|im_end|>", "max_gen_len": 2})
    prompt = stage.pool.asked[0].token_ids
    assert found == {
        "generation": "There is",
        "prompt_token_count": len(prompt),
        "generation_token_count": 2,
        "stop_reason": "length",
    }
    tokenizer = stage.tokenizer
    assert prompt[0] == tokenizer.all_special_ids[0]  # the prompt's control tokens are control tokens
    assert tokenizer.decode(prompt) == "<|im_start|>user\nleak?<|im_end|>"
    invoke(client, {"prompt": "?"})
    asked = stage.pool.asked[1]
    assert (asked.max_tokens, asked.temperature, asked.top_p) == (512, 0.5, 0.9)


@pytest.mark.parametrize("model", [MODEL, IMPORTED])
@pytest.mark.row(5)
def test_llamas_stream_has_its_counts_and_metrics_at_the_end(client, model):
    found = chunks(client, {"prompt": "?", "max_gen_len": 100}, model)
    assert "".join(one["generation"] for one in found) == "There is a leak."
    assert {one["stop_reason"] for one in found[:-1]} == {None}
    last = found[-1]
    assert (last["stop_reason"], last["generation_token_count"]) == ("stop", 5)
    assert set(last["amazon-bedrock-invocationMetrics"]) == COUNTS


@pytest.mark.row(6)
def test_an_imported_models_three_forms_each_return_their_own_shape(stage, client):
    completion = invoke(client, {"prompt": "?", "max_gen_len": 9, "return_logprobs": True}, IMPORTED)
    assert (completion["generation"], completion["stop_reason"]) == ("There is a leak.", "stop")
    assert completion["logprobs"] == [{str(place): -0.25} for place in range(5)]
    stopped = invoke(client, {"prompt": "?", "max_gen_len": 9, "stop": " leak"}, IMPORTED)
    assert stopped == invoke(client, {"prompt": "?", "max_gen_len": 9, "stop": [" leak"]}, IMPORTED)
    text = invoke(client, {"prompt": "?", "max_tokens": 2, "logprobs": 2}, IMPORTED)
    assert (text["object"], text["model"]) == ("text_completion", IMPORTED)
    choice = text["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("There is", "length")
    assert choice["logprobs"] == {
        "tokens": ["There", " is"],
        "token_logprobs": [-0.25, -0.25],
        "top_logprobs": [{"There": -0.25, "x": -2.0}, {" is": -0.25, "x": -2.0}],
        "text_offset": [0, 5],
    }
    assert text["usage"]["completion_tokens"] == 2
    chat = invoke(client, {"messages": [{"role": "user", "content": "?"}], "max_tokens": 9}, IMPORTED)
    assert (chat["object"], chat["choices"][0]["message"]) == (
        "chat.completion",
        {"role": "assistant", "content": "There is a leak."},
    )
    streamed = chunks(client, {"messages": [{"role": "user", "content": "?"}], "max_tokens": 9}, IMPORTED)
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in streamed) == "There is a leak."
    assert "amazon-bedrock-invocationMetrics" in streamed[-1]


def test_an_imported_models_answer_is_held_to_a_format(stage, client):
    schema = {"type": "object", "properties": {"leak": {"type": "boolean"}}}
    wrapped = {"name": "leak", "schema": schema}
    for more, expected in (
        ({"response_format": {"type": "json_schema", "json_schema": schema}}, (schema, None)),
        ({"response_format": {"type": "json_schema", "json_schema": wrapped}}, (schema, None)),
        ({"response_format": {"type": "json_object"}}, ({"type": "object"}, None)),
        ({"structured_outputs": {"json": schema}}, (schema, None)),
        ({"structured_outputs": {"choice": ["leak", 'a "b"']}}, (None, 'root ::= "leak" | "a \\"b\\""')),
        ({"structured_outputs": {"grammar": 'root ::= "x"'}}, (None, 'root ::= "x"')),
    ):
        invoke(client, {"messages": [{"role": "user", "content": "?"}], "max_tokens": 9, **more}, IMPORTED)
        assert (stage.pool.asked[-1].json_schema, stage.pool.asked[-1].grammar) == expected
    said_ = refusal(client, {"prompt": "?", "max_tokens": 9, "structured_outputs": {"regex": "a+"}}, IMPORTED)
    assert "structured_outputs.regex: Extra inputs are not permitted" in said_


@pytest.mark.parametrize(
    ("model", "forms"),
    [
        (MODEL, ['"messages" and "inferenceConfig" (Nova)', '"prompt" and "max_gen_len" (Llama)']),
        (IMPORTED, ["(BedrockCompletion)", "(OpenAICompletion)", "(OpenAIChatCompletion)"]),
    ],
)
def test_a_body_of_no_form_is_told_which_there_are(client, model, forms):
    for body in ({"inputText": "?"}, {}):
        told = refusal(client, body, model)
        assert all(form in told for form in forms)


def test_every_fault_of_a_body_is_told_at_once(client):
    told = refusal(
        client,
        {
            "messages": [{"role": "bot", "content": []}],
            "anthropic_version": "x",
            "schemaVersion": "messages-v2",
            "inferenceConfig": {"temperature": 3, "beams": 2},
        },
    )
    for part in (
        "5 validation errors",
        "[anthropic_version]",
        "messages-v2",
        "[inferenceConfig.beams]",
        "inferenceConfig.temperature",
        "messages.1.member.role",
    ):
        assert part in told
    told = refusal(client, {"prompt": "?", "max_gen_len": 0, "temperature": 2, "images": ["x"]})
    for part in ("3 validation errors", "max_gen_len", "temperature", "images"):
        assert part in told
    told = refusal(client, {"messages": [{"role": "bot"}], "max_tokens": 0, "n": 2}, IMPORTED)
    for part in ("messages.0.role", "max_tokens", ": n: "):
        assert part in told


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff", b'{"prompt": "\\ud800"}', b'{"prompt": "\xed\xa0\x80"}'])
def test_a_body_that_is_no_json_object_is_refused(stage, client, body):
    with pytest.raises(client.exceptions.ValidationException, match="the request's body is"):
        client.invoke_model(modelId=MODEL, body=body)
    assert stage.logged().input_body is None


CONVERSE = Service("bedrock-runtime").operations["bedrock-runtime", "Converse"]
KEYS = [
    "messages",
    "prompt",
    "max_gen_len",
    "max_tokens",
    "inferenceConfig",
    "topK",
    "system",
    "text",
    "role",
    "user",
    "assistant",
    "content",
    "toolUse",
    "toolUseId",
    "name",
    "input",
    "toolConfig",
    "tools",
    "toolSpec",
    "inputSchema",
    "json",
    "toolChoice",
    "any",
    "tool",
    "stop",
    "response_format",
    "json_schema",
    "structured_outputs",
    "choice",
    "tool_calls",
    "function",
    "arguments",
    "type",
    "id",
    "logprobs",
    "additionalModelRequestFields",
    "top_k",
    "outputConfig",
    "textFormat",
    "structure",
    "jsonSchema",
    "schema",
    "toolResult",
    "status",
    "image",
]
leaves = (
    st.none() | st.booleans() | st.integers(-2, 99) | st.floats() | st.sampled_from([*KEYS, "", "json_schema", "{}"])
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=14,
)


@given(st.dictionaries(st.sampled_from(KEYS), values, max_size=5))
@examples(max_examples=300, deadline=None)
def test_no_json_whatever_is_anything_but_understood_or_refused(body):
    for imported in (False, True):
        try:
            understand(body, MODEL, imported, CONVERSE)
        except InvalidInput as refused:
            assert str(refused)
    try:
        Converse(read(CONVERSE, {"modelId": MODEL}, body=json.dumps(body).encode()))
    except InvalidInput as refused:
        assert "detected: " in str(refused)
