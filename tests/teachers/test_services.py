"""Anthropic's and Amazon's own SDKs: what they are told, what their answers and refusals become."""

import builtins
import threading
from contextlib import suppress

import pytest
from tests.api.stage import MODEL

from limbeck.errors import AccessDenied, InvalidInput, ModelFailed, NotReady, TeacherFailed
from limbeck.recipe import Teacher
from limbeck.records import GenerationSettings, Message, Prompt, Question
from limbeck.teachers.finding import remote_teacher

SETTINGS = GenerationSettings(20)
QUESTIONS = [
    Question(Prompt((Message("system", "Be brief."), Message("user", f"say word-{i} please")))) for i in range(3)
]


def answers(teacher, questions=QUESTIONS):
    teacher._patience = teacher._patience.__class__(first_wait=0.001, bad_replies=2)
    found = dict(pair for group in teacher.answers(questions, SETTINGS) for pair in group)
    return [found[index] for index in range(len(questions))]


@pytest.fixture
def claude(anthropic_service):
    with anthropic_service as teacher:
        yield teacher, teacher.server


def test_claude_is_asked_as_its_api_wants_and_counted_as_it_says(claude):
    teacher, server = claude
    found = answers(teacher)
    assert [answer.text for answer in found] == ["word-0", "word-1", "word-2"]
    assert (found[0].prompt_tokens, found[0].response_tokens, found[0].finish_reason) == (12, 6, "stop")
    path, headers, body = server.seen[0]
    assert path == "/v1/messages" and "sk-ant-secret" in str(headers)
    assert body == {
        "model": "claude",
        "max_tokens": 20,
        "system": "Be brief.",
        "temperature": 0.0,
        "messages": [{"role": "user", "content": "say word-0 please"}],
    }
    assert teacher.purse.spent.tokens == 3 * 18


def test_what_passes_at_anthropic_is_tried_again_and_by_us_alone(claude):
    teacher, server = claude
    server.faults = [(529, {}, {"error": {}}), (429, {"retry-after": "0"}, {}), (500, {}, b"<html>"), (200, {}, b"{")]
    assert [answer.text for answer in answers(teacher)] == ["word-0", "word-1", "word-2"]
    assert len(server.seen) == 3 + 4


@pytest.mark.parametrize(
    "spoiled",
    [
        {"content": None},
        {"stop_reason": "dance"},
        {"usage": {}},
        {"model": "other"},
        {"content": [{"type": "text", "text": "\ud800"}]},
    ],
)
def test_an_answer_of_anthropics_that_cannot_be_used_is_not_paid_for_ever(claude, spoiled):
    teacher, server = claude
    good = server.message
    server.message = lambda body: {**good(body), **spoiled}
    with pytest.raises(TeacherFailed, match="2 attempts"):
        answers(teacher)
    assert len(server.seen) == 2


def test_another_model_of_anthropics_is_told_with_the_way_out(claude):
    teacher, server = claude
    good = server.message
    server.message = lambda body: {**good(body), "model": "other"}
    with pytest.raises(TeacherFailed, match=r'"other" answered; expected "claude"; .* teacher\.answers_as'):
        answers(teacher)


def test_a_key_that_anthropic_refuses_ends_the_job_and_is_not_shown(claude):
    teacher, server = claude
    server.faults = [(401, {}, {"error": {"message": "invalid sk-ant-secret"}})]
    with pytest.raises(AccessDenied, match="status 401") as refused:
        answers(teacher)
    assert "sk-ant-secret" not in str(refused.value)


def test_bedrock_is_asked_through_converse_and_its_failures_are_told_apart(bedrock_service):
    with bedrock_service as teacher:
        stage = teacher.stage
        assert [answer.text for answer in answers(teacher)] == ["There is a leak."] * 3
        stage.pool.refusal = NotReady("on its way")
        with pytest.raises(TeacherFailed, match="on its way"):
            answers(teacher)
        stage.pool.refusal = ModelFailed("it broke off")
        with pytest.raises(TeacherFailed, match="it broke off"):
            answers(teacher)
        stage.pool.refusal = InvalidInput("too long")
        with pytest.raises(InvalidInput, match="too long"):
            answers(teacher)


def test_a_null_option_takes_a_field_out_of_what_bedrock_is_asked(bedrock_service, settings):
    with bedrock_service as teacher:
        options = {"temperature": None, "maxTokens": 9, "top_k": 5, "thinking": None}
        recipe = Teacher(model=MODEL, via="bedrock", endpoint=teacher.stage.url, region="us-east-1", options=options)
        body = remote_teacher(recipe, None, settings).endpoint._body(QUESTIONS[0], SETTINGS)
        assert body["inferenceConfig"] == {"maxTokens": 9} and body["additionalModelRequestFields"] == {"top_k": 5}
        plain = teacher.endpoint._body(QUESTIONS[0], SETTINGS)
        assert plain["inferenceConfig"] == {"maxTokens": 20, "temperature": 0.0}


def test_bedrock_takes_no_address_and_no_proxy_from_the_environment(bedrock_service, settings, monkeypatch):
    with bedrock_service as teacher:
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        asked = {"model": MODEL, "via": "bedrock", "region": "us-east-1"}
        own = remote_teacher(Teacher(**asked, endpoint=teacher.stage.url), None, settings)
        assert [answer.text for answer in answers(own)] == ["There is a leak."] * 3
        amazons = remote_teacher(Teacher(**asked), None, settings)
        assert amazons.endpoint._client.meta.endpoint_url == "https://bedrock-runtime.us-east-1.amazonaws.com"


def test_each_service_is_refused_with_its_own_way_out(claude, bedrock_service):
    teacher, server = claude
    for status, kind, way_out in (
        (403, AccessDenied, "teacher.key names"),
        (404, TeacherFailed, "before /v1/messages"),
    ):
        server.faults = [(status, {}, {})]
        with pytest.raises(kind, match=way_out):
            answers(teacher)
    with bedrock_service as teacher:
        teacher.stage.pool.refusal = AccessDenied("not you")
        with pytest.raises(AccessDenied, match=r"not you.*AWS_ACCESS_KEY_ID and its like") as refused:
            answers(teacher)
        assert "teacher.key" not in str(refused.value)


@pytest.mark.parametrize(
    "spoiled", [{"output": {"message": {"content": [{"text": "\ud800"}]}}}, {"output": {"message": {"content": ["a"]}}}]
)
def test_an_answer_of_bedrocks_that_cannot_be_used_is_not_paid_for_ever(bedrock_service, spoiled):
    with bedrock_service as teacher:
        converse = teacher.endpoint._client.converse
        teacher.endpoint._client.converse = lambda **asked: {**converse(**asked), **spoiled}
        with pytest.raises(TeacherFailed, match="lacks or spoils something"):
            answers(teacher)


def test_a_request_to_bedrock_that_takes_long_does_not_hold_the_process_that_wants_to_end(bedrock_service):
    with bedrock_service as teacher:
        begun, over = threading.Event(), threading.Event()

        def slow(**asked):
            begun.set()
            over.wait(60)

        teacher.endpoint._client.converse = slow

        def asked():
            with suppress(TeacherFailed):
                answers(teacher)

        asking = threading.Thread(target=asked, daemon=True)
        asking.start()
        assert begun.wait(20)
        waiting = [one for one in threading.enumerate() if one.name == "bedrock"]
        assert waiting and all(one.daemon for one in waiting)
        over.set()
        asking.join(60)


def test_bedrock_without_a_model_of_that_name_says_so(bedrock_service, settings):
    with bedrock_service as teacher:
        other = Teacher(model="no.such-model-v1:0", via="bedrock", endpoint=teacher.stage.url, region="us-east-1")
        with pytest.raises(InvalidInput, match="model identifier is invalid"):
            answers(remote_teacher(other, None, settings))


@pytest.mark.parametrize(("via", "package"), [("anthropic", "anthropic"), ("bedrock", "boto3")])
def test_an_sdk_that_is_not_installed_is_named_with_its_extra(settings, monkeypatch, via, package):
    there = builtins.__import__

    def gone(name, *rest):
        if name == package:
            raise ImportError(name)
        return there(name, *rest)

    monkeypatch.setattr(builtins, "__import__", gone)
    with pytest.raises(InvalidInput, match=rf"pip install 'limbeck\[{via}\]'"):
        remote_teacher(Teacher(model=MODEL, via=via), None, settings)
