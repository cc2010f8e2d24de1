"""Every teacher answers the same contract; no question is asked twice."""

import numpy as np
import pytest
from tests.factory import message

from limbeck.errors import InvalidInput, Stopped
from limbeck.evaluation.candidates import Candidate
from limbeck.evaluation.latency import WARM_UP
from limbeck.progress import StopSignal
from limbeck.recipe import Teacher
from limbeck.records import GenerationSettings, Message, Prompt, Question
from limbeck.storage.answers import AnswerStore
from limbeck.teachers import ask, local
from limbeck.teachers.finding import llama_teacher
from limbeck.teachers.llama import LlamaEndpoint
from limbeck.teachers.local import LocalTeacher
from limbeck.teachers.scripted import ScriptedTeacher

SETTINGS = GenerationSettings(6, top_k_captured=4)
PLAIN = GenerationSettings(6)


def question(text: str, **more) -> Question:
    return Question(Prompt((Message("user", text),)), **more)


QUESTIONS = [question(message(i)[0] + " please" * (i % 5)) for i in range(20)]


@pytest.fixture(params=["local", "scripted", "openai", "anthropic", "bedrock", "llama.cpp"])
def teacher(request):
    match request.param:
        case "local":
            yield LocalTeacher(request.getfixturevalue("tiny"))
        case "scripted":
            yield ScriptedTeacher(lambda text: text.split()[-2])
        case "llama.cpp":
            chosen = Teacher(model=str(request.getfixturevalue("tiny_gguf")), via="llama.cpp", concurrency=4)
            yield llama_teacher(chosen, request.getfixturevalue("settings"))
        case service:
            with request.getfixturevalue(f"{service}_service") as chosen:
                yield chosen


def gather(teacher, questions, settings=SETTINGS, skip=()):
    return dict(pair for group in teacher.answers(questions, settings, skip) for pair in group)


def test_every_question_is_answered_once_under_its_own_index(teacher):
    groups = [index for group in teacher.answers(QUESTIONS, PLAIN) for index, _ in group]
    assert sorted(groups) == list(range(20))


def test_what_is_skipped_is_not_answered(teacher):
    assert set(gather(teacher, QUESTIONS, PLAIN, skip={3, 4})) == set(range(20)) - {3, 4}


@pytest.mark.row(26)
def test_an_answer_keeps_to_the_token_limit_and_says_how_it_ended(teacher):
    for answer in gather(teacher, QUESTIONS, GenerationSettings(3)).values():
        assert len(answer.token_ids) <= 3
        assert answer.finish_reason in ("stop", "length")


def test_a_given_completion_is_read_not_made(teacher):
    found = gather(teacher, [question("leak?", completion="leak"), question("some noise here?")], PLAIN)
    assert found[0].text == "leak"


def test_stopping_is_heard(teacher):
    def check():
        raise Stopped("enough")

    with pytest.raises(Stopped):
        list(teacher.answers(QUESTIONS, PLAIN, (), check))


def test_distributions_that_are_asked_for_come_or_are_refused_with_the_way_out(teacher):
    if isinstance(teacher, ScriptedTeacher):
        pytest.skip("a script has none")
    if isinstance(teacher, LocalTeacher) or teacher.endpoint.reads:
        for answer in gather(teacher, QUESTIONS[:6]).values():
            soft = answer.soft_labels
            assert soft.top_ids_TK.shape == soft.top_logprobs_TK.shape == (len(answer.token_ids), 4)
            mass_T = np.exp(soft.top_logprobs_TK).sum(1) + np.exp(soft.tail_logprob_T)
            assert mass_T == pytest.approx(1, abs=1e-5)
    else:
        with pytest.raises(InvalidInput, match=r"no log-probabilities|no tokenizer.*cross_entropy: 1"):
            gather(teacher, QUESTIONS)


def test_llama_cpp_says_and_reads_what_the_weights_say(tiny, tiny_gguf, settings):
    """In the same tokens, with the same distributions; also where a character is several tokens, and over a label."""
    labels = [question("leak?", completion="it leaks"), question("café?", completion="é is ☕")]
    one = gather(LocalTeacher(tiny), [*QUESTIONS[:8], *labels], GenerationSettings(16, top_k_captured=4))
    chosen = Teacher(model=str(tiny_gguf), via="llama.cpp", concurrency=3)
    other = gather(llama_teacher(chosen, settings), [*QUESTIONS[:8], *labels], GenerationSettings(16, top_k_captured=4))
    assert any("\ufffd" in tiny.renderer.tokenizer.decode([t]) for a in one.values() for t in a.token_ids)
    for index, answer in one.items():
        assert other[index].token_ids == answer.token_ids and other[index].text == answer.text
        assert other[index].finish_reason == answer.finish_reason
        assert other[index].prompt_tokens == answer.prompt_tokens
        expected, found = answer.soft_labels, other[index].soft_labels
        assert found.top_logprobs_TK == pytest.approx(expected.top_logprobs_TK, abs=5e-3)
        assert found.tail_logprob_T == pytest.approx(expected.tail_logprob_T, abs=5e-3)


def test_llama_cpp_is_timed_one_question_after_another(tiny_gguf, settings, monkeypatch):
    under_way, seen, ask = [], [], LlamaEndpoint.ask

    async def watched(self, question, settings):
        under_way.append(question)
        seen.append(len(under_way))
        found = await ask(self, question, settings)
        under_way.remove(question)
        return found

    monkeypatch.setattr(LlamaEndpoint, "ask", watched)
    teacher = llama_teacher(Teacher(model=str(tiny_gguf), via="llama.cpp", concurrency=4), settings)
    answers = list(gather(teacher, QUESTIONS, PLAIN).values())
    assert max(seen) > 1
    seen.clear()
    timed = Candidate("teacher", teacher).latency(answers, QUESTIONS[:5], PLAIN, lambda: None)
    assert set(seen) == {1} and len(seen) == 5 + WARM_UP
    assert (timed.requests, timed.place, timed.at_once) == (5, "by llama.cpp", False) and timed.p50 > 0


@pytest.mark.parametrize("completion", [None, "leak? " * 300])
def test_what_is_too_long_for_a_local_teacher_is_named_by_its_place(tiny, completion):
    one = question("leak? " * (900 if completion is None else 1), completion=completion, place="prompts.jsonl line 41")
    with pytest.raises(InvalidInput, match=r"^prompts\.jsonl line 41: a prompt .* reads at most 51\d"):
        gather(LocalTeacher(tiny), [*QUESTIONS[:3], question("noise?", completion="noise"), one])


def test_demonstrations_reach_a_local_teacher(tiny):
    shown = Question(QUESTIONS[0].prompt, (("a kettle", "leak"),))
    found = gather(LocalTeacher(tiny), [QUESTIONS[0], shown])
    assert found[1].prompt_tokens > found[0].prompt_tokens


def test_skipping_whole_groups_changes_no_bit_of_the_others(tiny, monkeypatch):
    monkeypatch.setattr(local, "BATCH_ROWS", 6)
    teacher = LocalTeacher(tiny)
    groups = list(teacher.answers(QUESTIONS, SETTINGS))
    assert len(groups) > 2
    done = {index for index, _ in groups[0]}
    rest = gather(LocalTeacher(tiny), QUESTIONS, skip=done)
    whole = dict(pair for group in groups for pair in group)
    for index, answer in rest.items():
        assert answer.token_ids == whole[index].token_ids
        for name in ("top_ids_TK", "top_logprobs_TK", "tail_logprob_T"):
            assert np.array_equal(getattr(answer.soft_labels, name), getattr(whole[index].soft_labels, name))


def test_no_question_is_asked_twice_over_breaks_jobs_and_orders(tmp_path):
    teacher = ScriptedTeacher(lambda text: text.split()[-1])
    store = tmp_path / "answers.sqlite"
    stop = StopSignal()

    def script(text):
        if teacher.asked.total() == 7:
            stop.set()
        return "x"

    teacher._script = script
    with pytest.raises(Stopped):
        ask(teacher, QUESTIONS, SETTINGS, store, stop=stop)
    assert teacher.asked.total() == 7
    answers = ask(teacher, QUESTIONS, SETTINGS, store)
    assert len(answers) == 20
    ask(teacher, list(reversed(QUESTIONS)), SETTINGS, store)
    assert set(teacher.asked.values()) == {1}


def test_of_equal_questions_one_is_asked_and_all_are_answered(tmp_path):
    teacher = ScriptedTeacher(lambda text: text.split()[-1])
    answers = ask(teacher, [*QUESTIONS[:4], *QUESTIONS[:6]], SETTINGS, tmp_path / "a.sqlite")
    assert set(teacher.asked.values()) == {1} and len(teacher.asked) == 6
    alone = ask(teacher, QUESTIONS[:6], SETTINGS, tmp_path / "a.sqlite")
    assert [answer.text for answer in answers] == [answer.text for answer in (*alone[:4], *alone)]


def test_an_answer_that_arrived_is_kept_when_the_teacher_fails(tmp_path):
    def script(text):
        if "number 5" in text:
            raise ConnectionError
        return "x"

    teacher = ScriptedTeacher(script)
    with pytest.raises(ConnectionError):
        ask(teacher, QUESTIONS, SETTINGS, tmp_path / "a.sqlite")
    teacher._script = lambda text: "x"
    ask(teacher, QUESTIONS, SETTINGS, tmp_path / "a.sqlite")
    assert {asked for prompt, asked in teacher.asked.items() if prompt != QUESTIONS[5].prompt.id} == {1}


def test_other_settings_are_other_questions(tmp_path):
    teacher = ScriptedTeacher(lambda text: "x")
    ask(teacher, QUESTIONS[:2], SETTINGS, tmp_path / "a.sqlite")
    ask(teacher, QUESTIONS[:2], GenerationSettings(7), tmp_path / "a.sqlite")
    assert teacher.asked.total() == 4
    with AnswerStore(tmp_path / "a.sqlite") as store:
        assert (
            len(store.known([q.key("scripted", s) for q in QUESTIONS[:2] for s in (SETTINGS, GenerationSettings(7))]))
            == 4
        )
