"""The OpenAI endpoint as the openai package meets it, over scripted replicas."""

import json
import urllib.request

import openai
import pytest
from tests.api.stage import MODEL
from tests.api.test_runtime import CALL

from limbeck.errors import AccessDenied, ModelFailed, NotReady
from limbeck.wire.bodies.openai import ChatCompletion

ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "leak?"}]}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
def client(stage):
    with stage.openai() as made:
        yield made


def test_the_models_are_listed(client):
    assert [one.id for one in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "limbeck"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


def test_a_chat_is_answered_with_its_usage(stage, client):
    found = client.chat.completions.create(**ASKED)
    choice = found.choices[0]
    assert (choice.message.content, choice.finish_reason, found.model) == ("There is a leak.", "stop", MODEL)
    prompt = len(stage.pool.asked[0].token_ids)
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens) == (
        prompt,
        5,
        prompt + 5,
    )
    bedrock = stage.bedrock().count_tokens(
        modelId=MODEL, input={"converse": {"messages": [{"role": "user", "content": [{"text": "leak?"}]}]}}
    )
    assert bedrock["inputTokens"] == prompt
    invocation = stage.logged()
    assert (invocation.operation, invocation.input_body["messages"]) == ("InvokeModel", ASKED["messages"])


def test_a_streamed_chat_says_the_same_with_usage_when_asked(stage, client):
    found = list(client.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True}))
    assert found[0].choices[0].delta.role == "assistant"
    texts = [one.choices[0].delta.content for one in found if one.choices and one.choices[0].delta.content]
    assert (len(texts), "".join(texts)) == (5, "There is a leak.")
    assert found[-2].choices[0].finish_reason == "stop"
    assert (found[-1].choices, found[-1].usage.completion_tokens) == ([], 5)
    assert len({one.id for one in found}) == 1
    without = list(client.chat.completions.create(**ASKED, stream=True))
    assert without[-1].choices[0].finish_reason == "stop" and all(one.usage is None for one in without)
    assert stage.logged().operation == "InvokeModelWithResponseStream"


def test_what_is_asked_for_arrives(stage, client):
    client.chat.completions.create(**ASKED, temperature=0, top_p=0.5, seed=7, stop=["a", "b"], max_completion_tokens=3)
    asked = stage.pool.asked[0]
    assert (asked.temperature, asked.top_p, asked.seed, asked.stop, asked.max_tokens) == (0, 0.5, 7, ("a", "b"), 3)
    client.chat.completions.create(
        **ASKED, stop="leak", max_tokens=4, user="ada", presence_penalty=0, metadata={"team": "x"}
    )
    assert (stage.pool.asked[1].stop, stage.pool.asked[1].max_tokens, stage.pool.asked[1].temperature) == (
        ("leak",),
        4,
        1.0,
    )
    assert stage.logged().metadata == {"team": "x"}


def test_ends_are_told_in_openais_words(client):
    assert client.chat.completions.create(**ASKED, max_tokens=1).choices[0].finish_reason == "length"
    assert client.chat.completions.create(**ASKED, stop="leak").choices[0].finish_reason == "stop"


def test_a_tool_is_called_streamed_or_not(stage, client):
    stage.pool.script = CALL
    found = client.chat.completions.create(**ASKED, tools=[TOOL])
    choice = found.choices[0]
    call = choice.message.tool_calls[0]
    assert (choice.finish_reason, choice.message.content, call.function.name) == (
        "tool_calls",
        "Let me see.",
        "weather",
    )
    assert json.loads(call.function.arguments) == {"city": "Ha Noi"}
    parts = [
        one.choices[0].delta.tool_calls for one in client.chat.completions.create(**ASKED, tools=[TOOL], stream=True)
    ]
    begun, *rest = [one[0] for one in parts if one]
    assert (begun.index, begun.function.name, begun.function.arguments) == (0, "weather", "")
    assert json.loads("".join(one.function.arguments for one in rest)) == {"city": "Ha Noi"} and len(rest) > 1
    turns = [
        *ASKED["messages"],
        choice.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "clear"},
    ]
    stage.pool.script = ["Clear."]
    assert (
        client.chat.completions.create(model=MODEL, messages=turns, tools=[TOOL]).choices[0].message.content == "Clear."
    )


def test_results_of_tools_called_beside_each_other_are_one_turn():
    called = [{"id": f"c{i}", "type": "function", "function": {"name": "weather", "arguments": "{}"}} for i in range(2)]
    results = [{"role": "tool", "tool_call_id": one["id"], "content": one["id"]} for one in called]
    messages = [*ASKED["messages"], {"role": "assistant", "tool_calls": called}, *results]
    turns = ChatCompletion({"model": MODEL, "messages": messages, "tools": [TOOL]}).question.turns
    assert [turn.role for turn in turns] == ["user", "assistant", "user"]
    assert len(turns[-1].parts) == 2


def test_tool_choice_is_kept(stage, client):
    stage.pool.script = ['{"name": "weather", "arguments": {}}']
    for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
        found = client.chat.completions.create(**ASKED, tools=[TOOL], tool_choice=choice)
        assert found.choices[0].message.tool_calls[0].function.arguments == "{}"
        assert stage.pool.asked[-1].json_schema is not None
    found = client.chat.completions.create(**ASKED, tools=[TOOL], tool_choice="none")
    assert found.choices[0].message.content == stage.pool.script[0]
    assert len(stage.pool.asked[-1].token_ids) < 100


def test_a_list_of_one_prompt_is_that_prompt(stage, client):
    client.completions.create(model=MODEL, prompt=["a leak"])
    client.completions.create(model=MODEL, prompt="a leak")
    one, other = (asked.token_ids for asked in stage.pool.asked)
    assert one == other


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"tool_choice": "required"}, "tool_choice: required, and no tools are given"),
        ({"metadata": {f"k{at}": "v" for at in range(17)}}, "metadata: .*at most 16"),
    ],
)
def test_what_cannot_be_heeded_is_refused_with_its_place(client, more, said):
    with pytest.raises(openai.BadRequestError, match=said):
        client.chat.completions.create(**ASKED, **more)


def test_an_answer_is_held_to_a_format(stage, client):
    schema = {"type": "object", "properties": {"leak": {"type": "boolean"}}}
    shaped = {"type": "json_schema", "json_schema": {"name": "leak", "schema": schema, "strict": True}}
    client.chat.completions.create(**ASKED, response_format=shaped)
    client.chat.completions.create(**ASKED, response_format={"type": "json_object"})
    assert [one.json_schema for one in stage.pool.asked] == [schema, {"type": "object"}]


def test_log_probabilities_come_with_their_tokens(stage, client):
    found = client.chat.completions.create(**ASKED, logprobs=True, top_logprobs=2)
    content = found.choices[0].logprobs.content
    assert "".join(one.token for one in content) == found.choices[0].message.content
    assert (content[0].logprob, [one.token for one in content[0].top_logprobs]) == (-0.25, ["There", "x"])
    assert bytes(content[0].bytes) == b"There"
    plain = client.chat.completions.create(**ASKED, logprobs=True).choices[0].logprobs.content
    assert plain[0].top_logprobs == []
    streamed = client.chat.completions.create(**ASKED, logprobs=True, stream=True)
    told = [token.token for one in streamed if one.choices[0].logprobs for token in one.choices[0].logprobs.content]
    assert told == stage.pool.script


def test_a_text_is_gone_on_with_streamed_or_not(stage, client):
    found = client.completions.create(model=MODEL, prompt="<|im_start|>there", max_tokens=3)
    assert (found.choices[0].text, found.choices[0].finish_reason) == ("There is a", "length")
    parts = list(
        client.completions.create(model=MODEL, prompt="there", stream=True, stream_options={"include_usage": True})
    )
    assert "".join(one.choices[0].text for one in parts if one.choices) == "There is a leak."
    assert parts[-1].usage.completion_tokens == 5
    assert stage.pool.asked[1].max_tokens == 16


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"n": 2}, "n"),
        ({"temperature": 3}, "temperature"),
        ({"extra_body": {"magic": 1}}, "magic: Extra inputs are not permitted"),
        ({"frequency_penalty": 1}, "frequency_penalty: not taken here but as 0"),
        ({"logit_bias": {"7": 1}}, "logit_bias: not taken here; leave it out"),
        ({"messages": []}, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]},
            "messages.0.content.0 is image_url: this model takes text only",
        ),
        ({"tools": [TOOL], "response_format": {"type": "json_object"}}, "held to a format"),
        ({"response_format": {"type": "json_schema"}}, "json_schema: expected"),
    ],
)
def test_what_cannot_be_done_is_refused_in_openais_form(client, more, said):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{**ASKED, **more})
    assert said in caught.value.message
    assert (caught.value.type, caught.value.status_code) == ("invalid_request_error", 400)


def test_a_model_nobody_knows_is_not_found(client):
    for stream in (False, True):
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(**{**ASKED, "model": "nobody"}, stream=stream)
        assert caught.value.code == "model_not_found"


def test_errors_have_openais_statuses(stage, client):
    for error, kind in (
        (NotReady("loading"), openai.InternalServerError),
        (ModelFailed("gone"), openai.InternalServerError),
        (AccessDenied("who?"), openai.AuthenticationError),
    ):
        stage.pool.refusal = error
        with pytest.raises(kind, match=str(error)):
            client.chat.completions.create(**ASKED)
    assert stage.logged().error == "AccessDeniedException"


def test_an_error_in_the_middle_of_a_stream_is_raised(stage, client):
    stage.pool.script = ["There", ModelFailed("gone")]
    found = client.chat.completions.create(**ASKED, stream=True)
    with pytest.raises(openai.APIError, match="gone"):
        list(found)
    assert stage.logged().error == "ModelErrorException"


def test_nothing_is_at_other_addresses(stage):
    for path in ("/v1/chat/completions", "/v1/models/nobody"):
        with pytest.raises(urllib.request.HTTPError) as caught:
            urllib.request.urlopen(f"{stage.url}{path}", timeout=5)
        assert json.load(caught.value)["error"]["type"] == "invalid_request_error"
