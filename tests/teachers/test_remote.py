"""A teacher over the network, on a server that does its worst: every answer once, nothing paid twice, no cap exceeded."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.conftest import make_tokenizer
from tests.factory import message
from tests.teachers.hostile import BAD_REPLIES, FAULTS, Hostile, respond

from limbeck.errors import AccessDenied, BudgetReached, InvalidInput, InvalidRecipe, Stopped, TeacherFailed
from limbeck.models.token_bytes import TokenBytes
from limbeck.progress import StopSignal
from limbeck.recipe import Budget, Prices, Recipe, Teacher
from limbeck.records import GenerationSettings, Message, Prompt, Question
from limbeck.teachers import ask
from limbeck.teachers.budget import JOURNAL, Purse
from limbeck.teachers.labels import Labels
from limbeck.teachers.openai import OpenAIEndpoint
from limbeck.teachers.patience import Patience
from limbeck.teachers.post import shown
from limbeck.teachers.remote import RemoteTeacher

SETTINGS = GenerationSettings(12)
PRICES = Prices(input=0.001, output=0.004)


def question(text: str, **more) -> Question:
    return Question(Prompt((Message("user", text),)), **more)


QUESTIONS = [question(f"{message(i)[0]} answer-{i}") for i in range(12)]


@pytest.fixture
def server():
    made = Hostile()
    yield made
    made.close()


def teacher_at(server, folder=None, budget=None, patience=None, concurrency=4, prices=PRICES, **more):
    recipe = Teacher(model="wise", endpoint=server.url, timeout=60, **more)
    purse = Purse(budget or Budget(), prices, folder)
    return RemoteTeacher(OpenAIEndpoint(recipe), purse, concurrency, patience, server.loop)


def answered(server, tmp_path, **more):
    return [a.text for a in ask(teacher_at(server, **more), QUESTIONS, SETTINGS, tmp_path / "a.sqlite")]


RIGHT = [f"answer-{i}" for i in range(12)]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_after_any_fault_the_job_finishes_with_every_answer(server, tmp_path, fault):
    server.faults.extend([fault, None, fault])
    assert answered(server, tmp_path) == RIGHT
    assert set(server.delivered.values()) == {1}


def test_the_first_question_goes_alone_and_then_as_many_as_are_wanted(server, tmp_path):
    answered(server, tmp_path, concurrency=3)
    assert server.at_once[:2] == [1, 1] and max(server.at_once) == 3
    assert server.at_once.count(3) >= 3


@given(st.lists(st.sampled_from([None, None, *FAULTS]), max_size=25), st.integers(1, 6), st.integers(700, 9000))
@hypothesis_settings(max_examples=40)
def test_whatever_goes_wrong_it_finishes_or_stops_and_goes_on_and_never_pays_twice(faults, concurrency, cap):
    """Runs until all is answered, raising the cap when it is reached, as a user does who is told to."""
    server = Hostile(faults=faults)
    with tempfile.TemporaryDirectory() as folder:
        home, kept = Path(folder), {}
        for _ in range(60):
            teacher = teacher_at(server, home, Budget(tokens=cap, usd=cap / 100_000), concurrency=concurrency)
            had = dict(server.delivered)
            try:
                kept = ask(teacher, QUESTIONS, SETTINGS, home / "a.sqlite")
                break
            except BudgetReached as reached:
                assert "raise teacher.budget" in str(reached)
                assert server.billed <= cap
                cap += 3000
            except TeacherFailed as failed:
                assert "is kept" in str(failed) or "for a long while" in str(failed)
            assert all(server.delivered[text] >= count for text, count in had.items())
        server.close()
        assert [answer.text for answer in kept] == RIGHT
        assert server.billed <= teacher.purse.spent.tokens <= cap
        assert set(server.delivered.values()) == {1}
        again = Purse(Budget(), PRICES, home)
        assert again.spent.tokens == teacher.purse.spent.tokens
        assert again.spent.usd == pytest.approx(teacher.purse.spent.usd)


def test_answers_that_come_as_text_alone_are_kept_and_fewer_than_are_asked_alone_end_no_job(server, tmp_path):
    captured, store = GenerationSettings(12, top_k_captured=5), tmp_path / "a.sqlite"
    server.faults.extend([None, (400, ())])
    with pytest.raises(InvalidInput, match="status 400"):
        ask(teacher_at(server), QUESTIONS, captured, store)
    with pytest.raises(InvalidInput, match=r"come without distributions.*cross_entropy: 1"):
        ask(teacher_at(server), QUESTIONS, captured, store)
    assert len(server.seen) == 2 + 4
    assert [answer.text for answer in ask(teacher_at(server), QUESTIONS[:8], captured, store)] == RIGHT[:8]
    assert set(server.delivered.values()) == {1}


def test_an_answer_that_the_service_filtered_says_so_and_is_not_asked_again(server, tmp_path):
    server.faults.append("filtered")
    for _ in range(2):
        first, second = ask(teacher_at(server), QUESTIONS[:2], SETTINGS, tmp_path / "a.sqlite")
        assert (first.text, first.finish_reason, second.finish_reason) == ("I", "filtered", "stop")
    assert len(server.seen) == 2


def test_a_cap_stops_before_it_is_exceeded_and_the_job_goes_on_when_it_is_raised(server, tmp_path):
    with pytest.raises(BudgetReached, match=r"teacher\.budget\.tokens is 800: .* raise teacher\.budget\.tokens"):
        answered(server, tmp_path, folder=tmp_path, budget=Budget(tokens=800))
    first = len(server.seen)
    assert 0 < first < 12 and server.billed <= 800
    assert answered(server, tmp_path, folder=tmp_path, budget=Budget(tokens=10_000)) == RIGHT
    assert len(server.seen) == 12


def test_a_cap_on_money_needs_prices_and_is_kept(server, tmp_path):
    with pytest.raises(InvalidInput, match=r"needs teacher\.prices"):
        teacher_at(server, budget=Budget(usd=1), prices=None)
    with pytest.raises(BudgetReached, match=r"teacher\.budget\.usd is 0\.0009"):
        answered(server, tmp_path, folder=tmp_path, budget=Budget(usd=0.0009))
    assert 0 < len(server.seen) * PRICES.cost(30, 9) <= 0.0009


def test_a_request_beyond_its_own_cap_is_never_sent(server, tmp_path):
    with pytest.raises(InvalidInput, match=r"teacher\.budget\.request_tokens is 100"):
        answered(server, tmp_path, budget=Budget(request_tokens=100))
    assert not server.seen


def test_what_was_under_way_in_a_killed_run_counts_at_its_worst(tmp_path):
    (tmp_path / JOURNAL).write_text(
        '{"request": 1, "reserved": {"tokens": 600, "usd": 0.1}}\n{"request": 1, "used": {"tokens": 40, "usd": 0.01}}\n'
        '{"request": 2, "reserved": {"tokens": 700, "usd": 0.2}}\n{"request": 2, "us'
    )
    purse = Purse(Budget(), None, tmp_path)
    assert (purse.spent.tokens, purse.requests) == (740, 2)
    assert purse.spent.usd == pytest.approx(0.21)


def test_several_teachers_of_a_job_share_its_budget(server, tmp_path):
    one, other = (teacher_at(server, tmp_path, Budget(tokens=800)) for _ in range(2))
    assert [a.text for a in ask(one, QUESTIONS[:4], SETTINGS, tmp_path / "a.sqlite")] == RIGHT[:4]
    assert other.purse.spent == one.purse.spent and one.purse.spent.tokens == 4 * 39
    with pytest.raises(BudgetReached):
        ask(other, QUESTIONS[4:], SETTINGS, tmp_path / "a.sqlite")
    assert one.purse.spent.tokens == other.purse.spent.tokens == server.billed <= 800


def test_retry_after_is_honored_by_all_requests(server, tmp_path):
    server.faults.extend([None, (429, (("Retry-After", "120"),))])
    assert answered(server, tmp_path) == RIGHT
    times = [time for time, *_ in server.seen]
    assert sum(time < times[1] + 120 for time in times) <= 1 + 4  # those sent before it was heard


def test_a_date_is_understood_as_retry_after(server, tmp_path):
    dated = (("Date", "Wed, 21 Oct 2026 07:28:00 GMT"), ("Retry-After", "Wed, 21 Oct 2026 07:29:30 GMT"))
    server.faults.append((503, dated))
    assert answered(server, tmp_path, concurrency=1) == RIGHT
    assert server.seen[1][0] - server.seen[0][0] >= 90


def test_a_service_that_asks_for_hours_is_not_waited_for(server, tmp_path):
    server.faults.append((429, (("Retry-After", "86400"),)))
    with pytest.raises(TeacherFailed, match="left alone for 86,400 seconds"):
        answered(server, tmp_path)


def test_a_service_that_is_down_is_left_alone_for_longer_and_longer_and_then_given_up(server, tmp_path):
    server.faults.extend([None, *[(500, ())] * 200])
    with pytest.raises(TeacherFailed, match="has not answered for a long while"):
        answered(server, tmp_path, patience=Patience(attempts=100))
    assert len(server.seen) < 25
    assert server.seen[-1][0] - server.seen[0][0] > 15 + 30 + 60 + 120
    server.faults.clear()
    assert answered(server, tmp_path) == RIGHT


@pytest.mark.parametrize("fault", BAD_REPLIES)
def test_a_service_whose_answers_cannot_be_used_is_not_paid_for_ever(server, tmp_path, fault):
    server.faults.extend([fault] * 100)
    with pytest.raises(TeacherFailed, match=r"\(3 attempts\)"):
        answered(server, tmp_path)
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, AccessDenied), (403, AccessDenied), (404, TeacherFailed), (400, InvalidInput), (307, TeacherFailed)],
)
def test_what_will_not_pass_ends_the_job_after_one_request(server, tmp_path, status, kind):
    server.faults.append((status, (("Location", "http://127.0.0.1:9/"),)))
    with pytest.raises(kind, match=f"status {status}: .*not now"):
        answered(server, tmp_path)
    assert len(server.seen) == 1


def test_one_question_that_is_refused_loses_no_answer_that_was_under_way(server, tmp_path):
    server.faults.extend([None, None, (400, ())])
    with pytest.raises(InvalidInput):
        answered(server, tmp_path)
    delivered = dict(server.delivered)
    assert answered(server, tmp_path) == RIGHT
    assert all(server.delivered[text] == 1 for text in delivered)


def test_what_a_service_cannot_take_is_named_by_its_place_and_not_by_its_words(server, tmp_path):
    private = [question("call me on 555", place="prompts.jsonl line 41")]
    told = []
    for fault, kind in ((400, ()), InvalidInput), ("no text", TeacherFailed):
        server.faults.extend([fault] * 3)
        with pytest.raises(kind, match=r"prompts\.jsonl line 41") as refused:
            ask(teacher_at(server), private, SETTINGS, tmp_path / "a.sqlite")
        server.faults.clear()
        told.append(str(refused.value))
    with pytest.raises(InvalidInput, match=r"^prompts\.jsonl line 41: a request may take"):
        ask(teacher_at(server, budget=Budget(request_tokens=100)), private, SETTINGS, tmp_path / "a.sqlite")
    assert not any("555" in text for text in told)


def test_the_key_comes_from_the_environment_and_is_in_no_message_and_no_file(server, tmp_path, monkeypatch):
    with pytest.raises(InvalidInput, match="WISE_KEY is not set"):
        teacher_at(server, key="WISE_KEY")
    monkeypatch.setenv("WISE_KEY", "sk-very-secret")
    server.script = lambda text: "sk-very-secret"
    server.faults.extend(["html"])
    heads = []
    serve = server._answer

    async def telling(line, headers, body, writer):
        heads.append(headers)
        await serve(line, headers, body, writer)

    server._answer = telling
    ask(teacher_at(server, tmp_path, key="WISE_KEY"), QUESTIONS[:1], SETTINGS, tmp_path / "a.sqlite")
    assert {head["authorization"] for head in heads} == {"Bearer sk-very-secret"}
    assert "sk-very-secret" not in (tmp_path / JOURNAL).read_text()
    assert shown(b"your key sk-very-secret is wrong", "sk-very-secret") == "your key … is wrong"
    teacher = {"model": "wise", "endpoint": server.url, "key": "sk-very-secret"}
    with pytest.raises(InvalidRecipe, match=r"teacher\.key: expected the name of an environment variable") as refused:
        Recipe.build({"kind": "distillation", "name": "x", "source": {"prompts": "x"}, "teacher": teacher})
    assert "sk-very-secret" not in str(refused.value)


def test_a_stop_is_heard_and_what_was_under_way_is_stored(server, tmp_path):
    stop = StopSignal()

    def script(text):
        if len(server.seen) == 5:
            stop.set()
        return text.split()[-1]

    server.script = script
    with pytest.raises(Stopped):
        ask(teacher_at(server), QUESTIONS, SETTINGS, tmp_path / "a.sqlite", stop=stop)
    server.script = lambda text: text.split()[-1]
    assert answered(server, tmp_path) == RIGHT
    assert set(server.delivered.values()) == {1}


def test_a_limit_known_by_its_newer_name_is_said_by_it(server, tmp_path):
    serve = server._answer

    async def strict(line, headers, body, writer):
        if "max_tokens" in body:
            said = {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}}
            await respond(writer, json.dumps(said).encode(), 400)
        else:
            await serve(line, headers, body, writer)

    server._answer = strict
    assert answered(server, tmp_path) == RIGHT


def test_options_are_sent_and_null_takes_a_field_out(server, tmp_path):
    answered(server, tmp_path, options={"reasoning_effort": "low", "temperature": None})
    body = server.seen[0][2]
    assert body["reasoning_effort"] == "low" and "temperature" not in body
    assert OpenAIEndpoint(Teacher(model="wise", endpoint=server.url)).fingerprint != (
        OpenAIEndpoint(Teacher(model="wise", endpoint=server.url, options={"reasoning_effort": "low"})).fingerprint
    )


def test_distributions_read_in_other_tokens_or_more_of_them_are_other_answers(server):
    few, many = (Labels(TokenBytes(make_tokenizer(words)), frozenset({2})) for words in (300, 420))

    def stored_as(labels, settings, **more):
        endpoint = OpenAIEndpoint(Teacher(model="wise", endpoint=server.url, **more), labels)
        return RemoteTeacher(endpoint, Purse(Budget(), PRICES, None)).stored_as(settings)

    captured = GenerationSettings(12, top_k_captured=50)
    told = [stored_as(few, captured), stored_as(many, captured), stored_as(few, captured, top_logprobs=50)]
    assert len({*told, stored_as(None, captured)}) == 4
    assert stored_as(few, captured) == told[0]
    assert stored_as(few, SETTINGS) == stored_as(many, SETTINGS) == stored_as(None, SETTINGS)


def test_how_hard_it_is_asked_makes_no_other_teacher(server):
    one, other = (OpenAIEndpoint(Teacher(model="wise", endpoint=server.url, concurrency=n)) for n in (1, 9))
    assert one.fingerprint == other.fingerprint
