"""The same contract for every kind of replica: llama.cpp, transformers, scripted."""

from contextlib import aclosing

import pytest
import torch
from tests.serving.conftest import CONTEXT, answered, tokens_of
from transformers import AutoModelForCausalLM, AutoTokenizer

from limbeck.errors import InvalidInput, ModelFailed
from limbeck.models.chat import Renderer
from limbeck.records import Message, Prompt
from limbeck.serving.base import Done, Generate
from limbeck.serving.reference import ReferenceReplica
from limbeck.serving.scripted import ScriptedReplica

pytestmark = pytest.mark.real

FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."
STAR = "Repeat exactly: 😀"
STORY = "Tell me a story."


def script(tokens) -> str:
    return "\n🌟🌟🌟" if bytes(tokens).decode(errors="replace") == STAR else PARIS


@pytest.fixture(scope="module")
def parrot(tiny_folder, tmp_path_factory):
    """The tiny model, made to say what the script says."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("parrot")
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_folder)
    renderer = Renderer(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(120):
        question = (FRANCE, STAR)[step % 2]
        prompt = renderer.prompt(Prompt((Message("user", question),)))
        ids = torch.tensor([prompt + renderer.response(script(question.encode()))])
        labels = ids.clone()
        labels[:, : len(prompt)] = -100
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["llama", "reference", "scripted"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def hosted(kind, run, request):
    """A replica, and what makes tokens of a question."""
    if kind == "llama":
        replica = request.getfixturevalue("llama")
        yield replica, lambda text: run(tokens_of(replica, text))
        return
    if kind == "reference":
        folder = request.getfixturevalue("parrot")
        renderer = Renderer(AutoTokenizer.from_pretrained(folder))
        replica = run(
            ReferenceReplica.start(str(folder), home=folder, context_tokens=CONTEXT, threads=1, stall_seconds=30.0)
        )
        yield replica, lambda text: tuple(renderer.prompt(Prompt((Message("user", text),))))
    else:
        replica = ScriptedReplica(script, CONTEXT)
        yield replica, lambda text: tuple(text.encode())
    run(replica.close())


@pytest.fixture(scope="module")
def ask(run, hosted):
    """Ask the replica a question, and check what holds for every answer."""
    replica, tokens = hosted

    def asking(text, max_tokens=40, **settings):
        asked = Generate(tokens(text), max_tokens, **settings)
        said, done, pieces = run(answered(replica, asked))
        assert not any(isinstance(piece, Done) or piece.text == "" for piece in pieces)
        assert done.prompt_tokens == len(asked.token_ids)
        assert 0 < done.response_tokens <= max_tokens
        return said, done, pieces

    return asking


def test_an_answer_comes_in_pieces_and_ends_with_the_turn(ask):
    text, done, pieces = ask(FRANCE)
    assert text == PARIS
    assert len(pieces) > 3
    assert (done.reason, done.stop_sequence) == ("end", None)
    assert len(ask(FRANCE, logprobs=1)[2]) == done.response_tokens  # ASCII: a piece for every token


def test_an_answer_ends_at_its_length(ask):
    text, done, _ = ask(FRANCE, max_tokens=5)
    assert (done.reason, done.response_tokens) == ("length", 5)
    assert PARIS.startswith(text) and 0 < len(text) < len(PARIS)


@pytest.mark.parametrize(
    ("stop", "shown"),
    [
        (("pital of",), "The ca"),  # spans pieces
        ((" France", "never"), "The capital of"),
        (("#", "capital", "The ca"), ""),  # the first to be complete ends it
        ((".",), PARIS[:-1]),
    ],
)
def test_a_stop_sequence_ends_the_answer_and_is_no_part_of_it(ask, stop, shown):
    text, done, _ = ask(FRANCE, stop=stop)
    assert (text, done.reason) == (shown, "stop_sequence")
    assert PARIS.startswith(shown + done.stop_sequence) and done.stop_sequence in stop


def test_what_only_looked_like_a_stop_sequence_is_shown(ask):
    short = ask(FRANCE, max_tokens=5)[0]
    text, done, _ = ask(FRANCE, max_tokens=5, stop=(short[-2:] + "#", "capital city"))
    assert (text, done.reason) == (short, "length")
    assert ask(FRANCE, stop=(PARIS[-3:] + "#",))[0] == PARIS


def test_a_draw_is_repeated_by_its_seed(ask, kind):
    def drawn(seed):
        return ask(STORY, temperature=3.0, seed=seed, max_tokens=8)[0]

    first = drawn(3)
    assert drawn(3) == first
    assert (len({first, drawn(4), drawn(5)}) > 1) == (kind != "scripted")
    assert drawn(2**40 + 3) is not None  # a seed may be any number


def test_a_tiny_nucleus_is_greedy(ask):
    assert ask(FRANCE, temperature=1.0, top_p=1e-6)[0] == PARIS


def test_a_character_is_never_split(ask):
    text, _, pieces = ask(STAR, max_tokens=20)
    assert sum(ord(character) > 0xFFFF for character in text) > 1
    assert not any("\ufffd" in piece.text for piece in pieces)


def test_a_character_cut_off_by_the_length_is_not_shown(ask):
    whole = ask(STAR, max_tokens=20)[0]
    lengths = [ask(STAR, max_tokens=count)[0] for count in range(1, 11)]
    assert all(whole.startswith(text) for text in lengths)
    assert len(set(lengths)) < len(lengths)  # in the middle of a character nothing is added


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_log_probabilities_belong_to_the_text_and_are_the_models_own(ask, temperature):
    text, _, pieces = ask(FRANCE, logprobs=3, temperature=temperature, seed=1, max_tokens=6)
    tokens = [token for piece in pieces for token in piece.logprobs]
    assert "".join(token.text for token in tokens) == text
    for token in tokens:
        assert token.logprob <= 0
        likeliest = [logprob for _, _, logprob in token.top]
        assert likeliest == sorted(likeliest, reverse=True)
        if temperature == 0:
            assert (token.token_id, token.logprob) == (token.top[0][0], token.top[0][2])
    # At the first token nothing has been drawn yet: the temperature makes no difference.
    first = ask(FRANCE, logprobs=3, max_tokens=1)[2][0].logprobs[0]
    assert [row[2] for row in tokens[0].top] == pytest.approx([row[2] for row in first.top], abs=1e-3)
    assert not any(piece.logprobs for piece in ask(FRANCE)[2])


def test_tokens_of_a_stop_sequence_have_no_log_probabilities(ask):
    text, _, pieces = ask(FRANCE, stop=("capital of Spain", " of"), logprobs=1)
    assert text == "The capital"
    assert "".join(token.text for piece in pieces for token in piece.logprobs) == text


def test_a_prompt_over_the_context_is_refused_with_both_numbers(run, hosted):
    with pytest.raises(InvalidInput, match=r"a prompt of 256 tokens; .* reads at most 255"):
        run(answered(hosted[0], Generate((5,) * CONTEXT, 4)))


def test_the_context_bounds_an_answer(run, hosted):
    replica, tokens = hosted
    own = tokens(FRANCE)
    prompt = ((*own, *own[:-1]) * 40)[-(CONTEXT - 4) :]
    _, done, _ = run(answered(replica, Generate(prompt, 100)))
    assert done.reason == "end" or (done.reason == "length" and 0 < done.response_tokens <= 4)
    assert done.response_tokens <= 4


def test_an_answer_nobody_listens_to_is_given_up_and_the_next_is_whole(run, hosted, ask):
    replica, tokens = hosted
    asked = Generate(tokens(FRANCE), 200)

    async def leave():
        async with aclosing(replica.generate(asked)) as said:
            await anext(said)

    for _ in range(3):
        run(leave())
    assert ask(FRANCE)[0] == PARIS


def test_only_llama_follows_schemas_and_grammars(ask, kind):
    wanted = [{"grammar": 'root ::= "yes" | "no"'}, {"json_schema": {"type": "integer"}}]
    if kind == "llama":
        assert ask("Is water wet?", **wanted[0])[0] in {"yes", "no"}
        assert int(ask("How old are you?", **wanted[1])[0])
        return
    for one in wanted:
        with pytest.raises(InvalidInput, match=r"only models hosted by llama\.cpp"):
            ask(FRANCE, **one)


def test_an_ended_replica_fails_and_does_not_hang(run, hosted):
    """The last of this module, since it ends the replica."""
    replica, _ = hosted
    run(replica.close())
    assert not replica.alive
    with pytest.raises(ModelFailed):
        run(answered(replica, Generate((5,), 4)))
