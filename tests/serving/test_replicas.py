"""The same contract for every kind of replica: llama.cpp, transformers, scripted."""

from contextlib import aclosing
from dataclasses import replace

import pytest
from tests.serving.conftest import EMBEDDED, answered

from limbeck.errors import InvalidInput
from limbeck.serving.base import Done, Generate
from limbeck.serving.reference import ReferenceReplica
from limbeck.serving.scripted import ScriptedReplica

pytestmark = pytest.mark.real

CONTEXT = 512
FRANCE = "What is the capital of France?"
STAR = "Repeat exactly: 😀"


def script(tokens) -> str:
    return "\n🌟 shines" if bytes(tokens).decode() == STAR else "The capital of France is Paris."


@pytest.fixture(scope="module", params=["llama", "reference", "scripted"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def replica(kind, run, request, home):
    if kind == "llama":
        yield request.getfixturevalue("llama")
        return
    if kind == "reference":
        request.getfixturevalue("tokens_of")  # converts the weights
        made = run(
            ReferenceReplica.start(EMBEDDED, home=home, context_tokens=CONTEXT, threads=1, stall_seconds=30.0)
        )
    else:
        made = ScriptedReplica(script, CONTEXT)
    yield made
    run(made.close())


@pytest.fixture(scope="module")
def ask(kind, run, replica, tokens_of):
    """Ask the replica a question, and check what holds for every answer."""

    def asking(text, **settings):
        tokens = tuple(text.encode()) if kind == "scripted" else tokens_of(text)
        asked = Generate(tokens, settings.pop("max_tokens", 12), **settings)
        said, done, pieces = run(answered(replica, asked))
        assert not any(isinstance(piece, Done) or piece.text == "" for piece in pieces)
        assert done.prompt_tokens == len(tokens)
        assert 0 < done.response_tokens <= asked.max_tokens or done.reason == "end"
        return said, done, pieces

    return asking


def test_an_answer_comes_in_pieces_and_ends_with_the_turn(ask, kind):
    text, done, pieces = ask(FRANCE, max_tokens=40)
    assert text.startswith("The capital of France is Paris")
    assert len(pieces) > 3
    assert (done.reason, done.stop_sequence) == ("end", None)
    if kind == "scripted":
        assert done.response_tokens == len(text)
    else:
        assert 5 < done.response_tokens < 40


def test_an_answer_ends_at_its_length(ask):
    text, done, _ = ask(FRANCE, max_tokens=5)
    assert (done.reason, done.response_tokens) == ("length", 5)
    assert "The capital of France is Paris".startswith(text) and text


@pytest.mark.parametrize(
    ("stop", "shown"),
    [
        (("pital of",), "The ca"),  # spans pieces
        ((" France", "never"), "The capital of"),  # a piece of its own
        (("#", "capital", "The ca"), ""),  # the first to be complete ends it, from where it begins
    ],
)
def test_a_stop_sequence_ends_the_answer_and_is_no_part_of_it(ask, stop, shown):
    text, done, _ = ask(FRANCE, stop=stop, max_tokens=40)
    assert (text, done.reason) == (shown, "stop_sequence")
    assert done.stop_sequence in stop


def test_what_only_looked_like_a_stop_sequence_is_shown(ask):
    whole, _, _ = ask(FRANCE, max_tokens=5)
    text, done, _ = ask(FRANCE, max_tokens=5, stop=(whole[-2:] + "#", "capital city"))
    assert (text, done.reason) == (whole, "length")


def test_the_same_question_twice_has_the_same_answer(ask):
    assert ask(FRANCE)[0] == ask(FRANCE)[0]


def test_a_draw_is_repeated_by_its_seed(ask, kind):
    def drawn(seed):
        return ask("Tell me a story.", temperature=1.5, top_p=0.95, seed=seed, max_tokens=8)[0]

    first = drawn(3)
    assert drawn(3) == first
    assert (len({first, drawn(4), drawn(5)}) > 1) == (kind != "scripted")


def test_a_tiny_nucleus_is_greedy(ask):
    assert ask(FRANCE, temperature=1.0, top_p=1e-6)[0] == ask(FRANCE)[0]


def test_a_character_is_never_split(ask):
    text, _, pieces = ask(STAR, max_tokens=12)
    assert any(ord(character) > 0xFFFF for character in text)
    assert not any("\ufffd" in piece.text for piece in pieces)


def test_a_character_that_is_cut_off_by_the_length_is_not_shown(ask):
    lengths = {count: ask(STAR, max_tokens=count)[0] for count in range(1, 9)}
    assert not any("\ufffd" in text for text in lengths.values())
    assert len(set(lengths.values())) < len(lengths)  # in the middle of the character nothing is added


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_log_probabilities_belong_to_the_text_and_are_the_models_own(ask, temperature):
    text, _, pieces = ask(FRANCE, logprobs=3, temperature=temperature, seed=1)
    tokens = [token for piece in pieces for token in piece.logprobs]
    assert "".join(token.text for token in tokens) == text
    for token in tokens:
        assert token.logprob <= 0
        assert [row[2] for row in token.top] == sorted((row[2] for row in token.top), reverse=True)
        if temperature == 0:
            assert (token.token_id, token.logprob) == (token.top[0][0], token.top[0][2])
    greedy = [token for piece in ask(FRANCE, logprobs=3)[2] for token in piece.logprobs]
    # Before the draw, at the first token, temperature changes nothing.
    assert tokens[0].top == pytest.approx(greedy[0].top) if kind_is_certain(tokens) else tokens[0].top[0][2] < 0
    assert not any(piece.logprobs for piece in ask(FRANCE)[2])


def kind_is_certain(tokens) -> bool:
    return all(token.logprob == 0 for token in tokens)


def test_tokens_of_a_stop_sequence_have_no_log_probabilities(ask):
    text, _, pieces = ask(FRANCE, stop=("pital of",), logprobs=1)
    said = "".join(token.text for piece in pieces for token in piece.logprobs)
    assert text == "The ca" and said.startswith(text) and "of" not in said


def test_a_prompt_over_the_context_is_refused_with_both_numbers(run, replica):
    with pytest.raises(InvalidInput, match=r"a prompt of 512 tokens; .* reads at most 511"):
        run(answered(replica, Generate((5,) * CONTEXT, 4)))


def test_the_context_bounds_an_answer(run, replica, kind, tokens_of):
    if kind == "scripted":
        tokens = tuple(b"x" * (CONTEXT - 4))
    else:
        own = tokens_of("Count: " + "one two three four five six seven eight nine ten " * 50)
        tokens = (*own[: CONTEXT - 14], *own[-10:])[-(CONTEXT - 4) :]
    _, done, _ = run(answered(replica, Generate(tokens, 100)))
    assert done.reason == "length" and 0 < done.response_tokens <= 4


def test_an_answer_nobody_listens_to_is_given_up_and_the_next_is_whole(run, replica, ask, kind, tokens_of):
    whole = ask(FRANCE)[0]
    tokens = tuple(FRANCE.encode()) if kind == "scripted" else tokens_of(FRANCE)

    async def leave():
        async with aclosing(replica.generate(Generate(tokens, 400))) as said:
            await anext(said)

    for _ in range(3):
        run(leave())
    assert ask(FRANCE)[0] == whole


def test_only_llama_follows_schemas_and_grammars(ask, kind):
    wanted = [{"grammar": 'root ::= "yes" | "no"'}, {"json_schema": {"type": "integer"}}]
    if kind == "llama":
        assert ask("Is water wet?", **wanted[0])[0] in {"yes", "no"}
        assert int(ask("How old are you?", **wanted[1])[0])
        return
    for one in wanted:
        with pytest.raises(InvalidInput, match=r"only models hosted by llama\.cpp"):
            ask(FRANCE, **one)


def test_hosted_by_llama_and_by_transformers_it_is_the_same_model(run, llama, kind, replica, tokens_of):
    if kind != "reference":
        pytest.skip("compared once")
    for question in (FRANCE, "Name three colors.", "What is 2 plus 2?"):
        asked = Generate(tokens_of(question), 1, logprobs=5)
        one, other = (run(answered(each, asked))[2][0].logprobs[0] for each in (replica, llama))
        assert one.token_id == other.token_id
        # llama.cpp multiplies 4-bit weights with 8-bit activations, the reference both in 32 bits.
        assert one.logprob == pytest.approx(other.logprob, abs=0.15)
        assert replace(one, top=()).text == other.text
