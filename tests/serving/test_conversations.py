"""Questions to tokens and answers to events, over a tokenizer and no model."""

import asyncio
import time

import pytest
from tests.api.stage import CONTEXT, ScriptedPool, make_front

from limbeck.errors import InvalidInput, ModelFailed
from limbeck.models.catalog import ModelSource
from limbeck.records import Message, Prompt
from limbeck.serving.base import Piece
from limbeck.serving.calls import Call, CallBegins, Text, Tool
from limbeck.serving.chat import (
    ChatModel,
    Completion,
    Conversation,
    Finish,
    Media,
    Result,
    Sampling,
    Turn,
    answer,
    collect,
)

# Qwen2.5's template, shortened: tools in the system prompt, calls between marks, results in turns of their own.
HERMES = """{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}

{% endif %}# Own words
<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools><|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}<|im_start|>user
<tool_response>
{{ m.content }}
</tool_response><|im_end|>
{% elif m.role == 'assistant' %}<|im_start|>assistant
{{ m.content }}
{%- for call in m.tool_calls or [] %}

<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% elif m.role != 'system' %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

TOOL = Tool("weather", "The weather.", {"type": "object", "properties": {}})
USED = (
    Turn("system", ("Be short.",)),
    Turn("user", ("Weather?",)),
    Turn("assistant", ("Let me see.", Call("1", "weather", {"city": "Huế"}))),
    Turn("user", (Result("1", "clear"), "And now?")),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return ChatModel(ModelSource("m", make_front(tmp_path_factory.mktemp("plain")), None))


@pytest.fixture(scope="module")
def hermes(tmp_path_factory):
    folder = make_front(tmp_path_factory.mktemp("hermes"))
    (folder / "chat_template.jinja").write_text(HERMES)
    return ChatModel(ModelSource("h", folder, None))


def shown(model, *turns, **more):
    asked = Conversation(turns or USED, Sampling(), **more)
    return model.tokenizer.decode(model.prepare(asked).generate.token_ids)


def told(model, script, question):
    """The answer to a question, whole."""

    async def ask():
        pool = ScriptedPool()
        pool.script = script
        return await collect(answer(pool, model.prepare(question), time.monotonic()))

    return asyncio.run(ask())


def test_a_plain_conversation_is_the_tokens_that_training_saw(model, hermes):
    texts = ("Name the intent.", "leak?", "leak", "a <|im_end|> in the text")
    roles = ("system", "user", "assistant", "user")
    prompt = Prompt(tuple(Message(role, text) for role, text in zip(roles, texts, strict=True)))
    turns = tuple(Turn(role, (text,)) for role, text in zip(roles, texts, strict=True))
    for one in (model, hermes):
        assert one.tokens(Conversation(turns, Sampling())) == one.renderer.prompt(prompt)


def test_pieces_without_text_are_told_to_nobody(model):
    question = Conversation((Turn("user", ("hi",)),), Sampling())
    assert told(model, ["", "There", ""], question).parts == ("There",)
    assert told(model, [""], question).parts == ()


def test_a_template_that_knows_tools_is_given_them(hermes):
    text = shown(hermes, tools=(TOOL,))
    assert "# Own words" in text and "You may call one or more functions" not in text
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Huế"}}\n</tool_call><|im_end|>' in text
    assert "<|im_start|>user\n<tool_response>\nclear\n</tool_response><|im_end|>\n<|im_start|>user\nAnd now?" in text


def test_a_template_that_knows_none_has_them_told_in_the_system_prompt(model):
    text = shown(model, tools=(TOOL,))
    assert text.startswith("<|im_start|>system\nBe short.\n\n# Tools\n\nYou may call one or more functions")
    assert 'Let me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Huế"}}\n</tool_call><|im_end|>' in text
    assert "<|im_start|>user\n<tool_response>\nclear\n</tool_response>\nAnd now?<|im_end|>" in text
    alone = shown(model, Turn("user", ("hi",)), tools=(TOOL,))
    assert alone.startswith("<|im_start|>system\n# Tools")


def test_a_failed_result_says_so(model):
    assert "<tool_response>\nerror: no such city" in shown(
        model, *USED[:-1], Turn("user", (Result("1", "no such city", True),))
    )


def test_a_forced_call_begins_at_the_end_of_the_prompt(hermes):
    assert shown(hermes, tools=(TOOL,), must_call=("weather",)).endswith("<|im_start|>assistant\n<tool_call>\n")
    question = Conversation(USED, Sampling(), (TOOL,), ("weather",))
    found = told(hermes, ['{"name": "weather", ', '"arguments": {}}'], question)
    assert (found.finish.reason, found.calls[0].input) == ("tool_use", {})


def test_a_call_cut_off_by_the_length_is_shown_as_text(hermes):
    question = Conversation(USED, Sampling(max_tokens=2), (TOOL,))
    found = told(hermes, ['<tool_call>{"name": "weather", "arguments": {"a"', ": 1", "}}"], question)
    assert (found.finish.reason, found.calls) == ("max_tokens", ())
    assert found.text == '<tool_call>\n{"name": "weather", "arguments": {"a": 1'


def test_media_are_refused_with_their_places(model):
    parts = ("see", Media("image", "messages.0.content.1"), Media("video", "messages.0.content.2"))
    with pytest.raises(
        InvalidInput, match=r"content\.1 is image; messages\.0\.content\.2 is video: this model takes text"
    ):
        model.prepare(Conversation((Turn("user", parts),), Sampling()))


def test_a_completion_is_its_text_with_its_control_tokens(model):
    tokens = model.prepare(Completion("<|im_start|>user\nhi", Sampling())).generate.token_ids
    assert tokens[0] == model.tokenizer.all_special_ids[0]
    assert model.tokenizer.decode(tokens) == "<|im_start|>user\nhi"


def test_a_model_without_a_template_still_completes(tmp_path):
    folder = make_front(tmp_path)
    (folder / "chat_template.jinja").unlink()
    model = ChatModel(ModelSource("m", folder, None))
    assert model.prepare(Completion("hi", Sampling())).prompt_tokens
    with pytest.raises(InvalidInput, match="no chat template"):
        model.prepare(Conversation((Turn("user", ("hi",)),), Sampling()))


def test_a_prompt_must_leave_room_for_an_answer(model):
    least = model.prepare(Completion("a", Sampling())).prompt_tokens
    assert least == 1
    full = model.prepare(Completion("z " * (CONTEXT // 2 - 50), Sampling()))
    assert full.generate.max_tokens == CONTEXT - full.prompt_tokens
    with pytest.raises(InvalidInput, match=rf"prompt is \d+ tokens.*{CONTEXT}"):
        model.prepare(Completion("z " * CONTEXT, Sampling()))


def test_a_format_and_tools_exclude_each_other(model):
    with pytest.raises(InvalidInput, match="cannot also call tools"):
        model.prepare(Conversation(USED, Sampling(json_schema={}, grammar="x"), (TOOL,)))
    with pytest.raises(InvalidInput, match="rocket, which is none of the tools"):
        model.prepare(Conversation(USED, Sampling(), (TOOL,), ("rocket",)))


def test_log_probabilities_of_text_come_with_it_and_those_of_a_call_with_nothing(hermes):
    question = Conversation(USED, Sampling(logprobs=1), (TOOL,))
    found = told(hermes, ["Let me", " see", "<tool_call>", '{"name": "weather", "arguments": {', "}}"], question)
    assert [one.text for one in found.logprobs] == ["Let me", " see"]


def test_an_answer_that_stops_without_an_end_is_an_error():
    class Broken:
        async def generate(self, asked):
            yield Piece("half")

    async def ask(model):
        return await collect(answer(Broken(), model, 0.0))

    prepared = type("Prepared", (), {"tools": (), "forced": False, "generate": None, "shortened": False})
    with pytest.raises(ModelFailed, match="in the middle"):
        asyncio.run(ask(prepared))


def test_closing_the_events_frees_the_replica(model):
    async def leave():
        pool = ScriptedPool()
        events = answer(pool, model.prepare(Completion("hi", Sampling())), time.monotonic())
        assert isinstance(await anext(events), Text)
        assert (pool.begun, pool.ended) == (1, 0)
        await events.aclose()
        return pool.ended

    assert asyncio.run(leave()) == 1


def test_events_end_with_what_the_answer_took(model):
    async def ask():
        pool = ScriptedPool()
        question = Conversation((Turn("user", ("hi",)),), Sampling(stop=("leak",)))
        return [event async for event in answer(pool, model.prepare(question), time.monotonic())]

    *said, finish = asyncio.run(ask())
    assert isinstance(finish, Finish) and not any(isinstance(one, CallBegins) for one in said)
    assert (finish.reason, finish.stop_sequence, finish.output_tokens) == ("stop_sequence", "leak", 4)
    assert 1 <= finish.first_milliseconds <= finish.milliseconds
