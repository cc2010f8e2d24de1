"""Batched, prefixed, padded, compacted: the same answers and distributions as one prompt at a time."""

import numpy as np
import pytest
import torch
from tests.conftest import make_tokenizer
from tests.families import COMMON, MODELS, make
from transformers import AutoModelForCausalLM, GPT2Config, GraniteConfig, StableLmConfig

from limbeck.errors import InvalidInput, Stopped
from limbeck.inference import engine as engines
from limbeck.inference import memory
from limbeck.inference.engine import Engine, common_prefix, soft_labels_of
from limbeck.inference.memory import shares_well
from limbeck.models.loading import load
from limbeck.records import GenerationSettings

PROMPTS = [[1, *range(10, 22), *tail] for tail in ([30], [31, 32, 33, 34, 35], [36, 37], [38, 39, 40], [41] * 9)]
SETTINGS = GenerationSettings(10, top_k_captured=6)


@pytest.fixture
def engine(tiny):
    return Engine(tiny)


def plainly(tiny, prompt, count):
    """Greedy decoding written down: no cache, no batch."""
    ids, rows = list(prompt), []
    with torch.no_grad():
        for _ in range(count):
            logits = tiny.model(input_ids=torch.tensor([ids])).logits[0, -1]
            rows.append(logits)
            ids.append(int(logits.argmax()))
            if ids[-1] == 2:
                break
    return tuple(ids[len(prompt) :]), torch.stack(rows)


@pytest.mark.parametrize("prefixed", [True, False])
def test_a_batch_answers_as_each_prompt_alone(engine, tiny, prefixed):
    prefix = common_prefix(PROMPTS) if prefixed else ()
    answers = engine.generate(PROMPTS, SETTINGS, prefix=prefix)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        tokens, logits = plainly(tiny, prompt, 10)
        assert answer.token_ids == tokens
        expected = soft_labels_of(logits, 6)
        assert np.allclose(answer.soft_labels.top_logprobs_TK, expected.top_logprobs_TK, atol=1e-4)
        assert np.allclose(answer.soft_labels.tail_logprob_T, expected.tail_logprob_T, atol=1e-4)
        assert answer.prompt_tokens == len(prompt)


@pytest.mark.parametrize("name", sorted(set(MODELS)))
def test_every_family_shares_a_prefix_as_if_each_row_had_its_own(name, tmp_path, settings):
    loaded = load(str(make(name, tmp_path / "model")), settings)
    assert shares_well(loaded.model)
    # Longer than the window of those that have one, so that most of the prefix slides out of sight.
    prompts = [[1, *range(10, 30), *tail] for tail in ([30, 31], [32, 33, 34, 35], [36])]
    answers = Engine(loaded).generate(prompts, SETTINGS, prefix=common_prefix(prompts))
    for prompt, answer in zip(prompts, answers, strict=True):
        tokens, logits = plainly(loaded, prompt, 10)
        assert answer.token_ids == tokens
        assert np.allclose(answer.soft_labels.top_logprobs_TK, soft_labels_of(logits, 6).top_logprobs_TK, atol=1e-3)


def test_prompts_read_in_pieces_are_read_as_they_are_at_once(engine, monkeypatch):
    whole = engine.generate(PROMPTS, SETTINGS, prefix=common_prefix(PROMPTS))
    monkeypatch.setattr(memory, "PIECE_TOKENS", 20)
    for one, other in zip(whole, engine.generate(PROMPTS, SETTINGS, prefix=common_prefix(PROMPTS)), strict=True):
        assert one.token_ids == other.token_ids
        assert np.allclose(one.soft_labels.top_logprobs_TK, other.soft_labels.top_logprobs_TK, atol=1e-4)


def test_an_architecture_that_cannot_share_answers_all_the_same(engine, tiny, monkeypatch):
    monkeypatch.setattr(engines, "shares_well", lambda model: False)
    for prompt, answer in zip(PROMPTS, engine.generate(PROMPTS, SETTINGS, prefix=common_prefix(PROMPTS)), strict=True):
        assert answer.token_ids == plainly(tiny, prompt, 10)[0]


def test_a_model_that_keeps_another_kind_of_state_is_found_out(tiny):
    class Forgetful(torch.nn.Module):
        config, device = tiny.model.config, tiny.model.device

        def get_decoder(self):
            return lambda **given: tiny.model.get_decoder()(**{**given, "position_ids": None})

        def get_output_embeddings(self):
            return tiny.model.get_output_embeddings()

        def forward(self, ids):
            return tiny.model(ids)

    assert not shares_well(Forgetful())


def test_rows_that_end_early_leave_the_batch_and_change_nothing(engine, tiny):
    ends = plainly(tiny, PROMPTS[0], 10)[0]
    engine.renderer.stop_ids = frozenset({2, ends[1]})
    answers = engine.generate(PROMPTS, SETTINGS)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        alone = engine.generate([prompt], SETTINGS)[0]
        assert answer.token_ids == alone.token_ids
        assert answer.finish_reason == ("stop" if answer.token_ids[-1] in engine.renderer.stop_ids else "length")
        assert len(answer.soft_labels.tail_logprob_T) == len(answer.token_ids)
    assert len(answers[0].token_ids) == 2


@pytest.mark.parametrize("shared", [True, False])
def test_a_row_that_has_ended_is_not_computed_past_the_context(tmp_path, settings, monkeypatch, shared):
    config = GPT2Config(vocab_size=420, n_positions=64, n_embd=48, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    if not shared:
        monkeypatch.setattr(engines, "shares_well", lambda model: False)
    engine = Engine(load(str(tmp_path), settings))
    prompts = [[5] * 60, *([7 + row] * 6 for row in range(7))]  # one in eight: too few to be taken out for their number
    answers = engine.generate(prompts, GenerationSettings(20))
    for prompt, answer in zip(prompts, answers, strict=True):
        assert answer.token_ids == plainly(engine.loaded, prompt, min(20, 64 - len(prompt)))[0]


def test_reading_an_answer_gives_the_distributions_it_was_written_with(engine):
    written = engine.generate(PROMPTS, SETTINGS)
    read = engine.read(PROMPTS, [answer.token_ids for answer in written], 6)
    for one, other in zip(written, read, strict=True):
        assert (one.token_ids, one.text, one.finish_reason) == (other.token_ids, other.text, other.finish_reason)
        assert np.allclose(one.soft_labels.top_logprobs_TK, other.soft_labels.top_logprobs_TK, atol=1e-4)
        assert np.allclose(one.soft_labels.tail_logprob_T, other.soft_labels.tail_logprob_T, atol=1e-4)


@pytest.mark.parametrize("draws", [0, 4])
def test_long_answers_are_read_some_positions_at_a_time_as_they_are_at_once(engine, monkeypatch, draws):
    responses = [list(range(10, 10 + length)) for length in (1, 9, 0, 3, 14)]
    whole = engine.read(PROMPTS, responses, 6, draws=draws)
    held, of = [], engines.response_logits

    def watched(model, hidden_RD):
        held.append(len(hidden_RD))
        return of(model, hidden_RD)

    monkeypatch.setattr(engines, "response_logits", watched)
    monkeypatch.setattr(engines, "HEAD_POSITIONS", 4)
    for one, other in zip(whole, engine.read(PROMPTS, responses, 6, draws=draws), strict=True):
        assert one.token_ids == other.token_ids and one.soft_labels.k == other.soft_labels.k
        assert (one.soft_labels.top_ids_TK == other.soft_labels.top_ids_TK).all()
        assert np.allclose(one.soft_labels.top_logprobs_TK, other.soft_labels.top_logprobs_TK, atol=1e-4)
        assert len(other.soft_labels.tail_logprob_T) == len(other.token_ids)
    assert max(held) <= 4 and sum(held) == 27


def test_top_k_and_tail_hold_all_the_mass(engine):
    for answer in engine.generate(PROMPTS, SETTINGS):
        soft = answer.soft_labels
        mass = np.exp(soft.top_logprobs_TK.astype(float)).sum(1) + np.exp(soft.tail_logprob_T.astype(float))
        assert np.allclose(mass, 1.0, atol=1e-6)
        assert (np.diff(soft.top_logprobs_TK, axis=1) <= 0).all()


def test_the_tail_is_right_where_nothing_is_left():
    logits = torch.tensor([[50.0, 0.0, -1.0, -2.0]])
    soft = soft_labels_of(logits, 1)
    expected = torch.logsumexp(logits.double()[0, 1:], 0) - torch.logsumexp(logits.double()[0], 0)
    assert soft.tail_logprob_T[0] == pytest.approx(float(expected), rel=1e-6)
    assert soft_labels_of(logits, 4).tail_logprob_T[0] == -np.inf
    far = soft_labels_of(torch.tensor([[500.0, 0.0, -1.0], [1.0, 0.0, -1.0]]), 1)
    assert far.tail_logprob_T == pytest.approx(
        [np.log1p(np.exp(-1)) - 500, np.log((1 + np.exp(-1)) / (np.e + 1 + np.exp(-1)))]
    )


def test_sampling_depends_on_the_seed_and_the_prompt_not_on_the_batch(engine):
    def sampled(prompts, keys, seed):
        return [a.token_ids for a in engine.generate(prompts, GenerationSettings(8, 1.0, seed=seed), keys)]

    keys = list("abcde")
    first = sampled(PROMPTS, keys, 7)
    assert sampled(PROMPTS, keys, 7) == first
    assert sampled(PROMPTS[3:4], keys[3:4], 7) == first[3:4]
    assert sampled(PROMPTS, keys, 8) != first
    assert len(set(sampled([PROMPTS[0]] * 5, keys, 7))) > 1


def test_a_small_top_p_is_greedy(engine):
    greedy = [a.token_ids for a in engine.generate(PROMPTS, GenerationSettings(6))]
    nucleus = [a.token_ids for a in engine.generate(PROMPTS, GenerationSettings(6, 1.0, top_p=1e-9))]
    assert nucleus == greedy


def test_of_no_mass_at_all_the_likeliest_token_is_left(engine):
    greedy = [a.token_ids for a in engine.generate(PROMPTS, GenerationSettings(6))]
    assert [a.token_ids for a in engine.generate(PROMPTS, GenerationSettings(6, 1.0, top_p=0.0))] == greedy


@pytest.mark.parametrize("family", ["granite", "stablelm"])
def test_what_cannot_be_packed_is_read_alone_and_rightly(family, tmp_path, settings):
    config = {
        "granite": GraniteConfig(**COMMON, logits_scaling=8.0),
        "stablelm": StableLmConfig(**{**COMMON, "head_dim": None}),
    }[family]
    model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    engine = Engine(load(str(tmp_path), settings))
    responses = [[7, 8, 2], [9, 2]]
    found = engine.read(PROMPTS[:2], responses, 5)
    for prompt, response, answer in zip(PROMPTS, responses, found, strict=False):
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *response[:-1]]])).logits[0, len(prompt) - 1 :]
        assert np.allclose(answer.soft_labels.top_logprobs_TK, soft_labels_of(logits, 5).top_logprobs_TK, atol=1e-4)


def test_a_response_that_the_model_has_no_room_for_is_not_read(engine):
    with pytest.raises(InvalidInput, match=r"its response of 519 tokens; .* reads at most 512"):
        engine.read([[5] * 500], [[6] * 20], 3)


def test_a_stream_is_the_answer_in_pieces(engine):
    answer = engine.generate([PROMPTS[1]], GenerationSettings(10))[0]
    assert "".join(engine.stream(PROMPTS[1], GenerationSettings(10))) == answer.text


def test_a_prompt_without_room_is_refused_and_the_context_bounds_the_answer(engine):
    with pytest.raises(InvalidInput, match=r"a prompt of 512 tokens; .* reads at most 511"):
        engine.generate([[5] * 512], SETTINGS)
    assert len(engine.generate([[5] * 509], GenerationSettings(10))[0].token_ids) <= 3


def test_generation_can_be_stopped_at_any_token(engine):
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise Stopped("enough")

    with pytest.raises(Stopped):
        engine.generate(PROMPTS, GenerationSettings(50), check=check)


def test_a_common_prefix_leaves_every_prompt_its_last_token():
    assert common_prefix([[1, 2, 3], [1, 2, 3, 4]]) == (1, 2)
    assert common_prefix([[1, 2, 3]]) == (1, 2)
    assert common_prefix([[1], [2]]) == common_prefix([]) == ()
