"""Distributions over one tokenizer's tokens, learned by a model of another."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from tests.conftest import make_tokenizer

from limbeck.errors import InvalidInput
from limbeck.inference.engine import soft_labels_of
from limbeck.models.chat import Renderer
from limbeck.recipe import Objective, OnPolicy
from limbeck.records import SoftLabels
from limbeck.training.choice import Pair, choose, pair_of
from limbeck.training.crossing import NOBODY, Crossing, coverage
from limbeck.training.objectives import cross_entropy
from limbeck.training.targets import stack

TEACHER, STUDENT = Renderer(make_tokenizer()), Renderer(make_tokenizer(300))
BY_TOKEN, BY_RANK = Crossing(TEACHER, STUDENT, False), Crossing(TEACHER, STUDENT, True)
KL = Objective(forward_kl=1)
WORDS = st.lists(st.sampled_from(["my", " kettle", " leaks", " strange", "é", " noise?", "\n", " 12"]), max_size=8)


def spans(renderer, tokens):
    at, found = 0, []
    for token in tokens:
        text = "" if token == renderer.end_id else renderer.tokenizer.convert_ids_to_tokens(token)
        found.append((at, at + len(text)))  # a letter stands for a byte in these tokenizers
        at += len(text)
    return found


def soft_of(tokens, k, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return soft_labels_of(torch.randn(len(tokens), len(TEACHER.tokenizer), generator=generator) * 3, k)


@given(words=WORDS, seed=st.integers(0, 1000), k=st.sampled_from([1, 7, 50, 420]))
@examples(max_examples=60)
def test_a_token_is_covered_where_both_cut_the_same_bytes_and_its_mass_is_kept(words, seed, k):
    text = "".join(words)
    theirs, ours = TEACHER.response(text), STUDENT.response(text)
    soft = soft_of(theirs, k, seed)
    carried = BY_TOKEN.carry(soft, theirs, ours, text)
    their_spans = spans(TEACHER, theirs)
    for place, span in enumerate(spans(STUDENT, ours)):
        if span not in their_spans:
            assert (carried.top_ids_TK[place] == NOBODY).all() and carried.tail_logprob_T[place] == 0.0
            continue
        at = their_spans.index(span)
        assert np.array_equal(carried.top_logprobs_TK[place], soft.top_logprobs_TK[at])
        for token, counterpart in zip(soft.top_ids_TK[at], carried.top_ids_TK[place], strict=True):
            if counterpart != NOBODY:
                names = (
                    TEACHER.tokenizer.convert_ids_to_tokens([token]),
                    STUDENT.tokenizer.convert_ids_to_tokens([counterpart]),
                )
                assert names[0] == names[1]
    targets = stack([carried])
    logits = torch.randn(len(ours), 300, generator=torch.Generator().manual_seed(seed))
    loss = targets.loss(logits, torch.tensor(ours), slice(None), KL)
    assert torch.isfinite(loss).all()
    text_alone = cross_entropy(logits, torch.tensor(ours))
    for place in range(len(ours)):
        p = np.exp(carried.top_logprobs_TK[place].astype(float))
        known = carried.top_ids_TK[place] != NOBODY
        if not known.any():
            assert loss[place].item() == pytest.approx(text_alone[place].item(), rel=1e-5)
            continue
        q = logits[place].double().softmax(-1).numpy()[carried.top_ids_TK[place][known]]
        rest = 1 - p[known].sum(), 1 - q.sum()
        expected = (p[known] * np.log(p[known] / q)).sum() + (
            rest[0] * np.log(rest[0] / rest[1]) if rest[0] > 1e-6 else 0
        )
        assert loss[place].item() == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_to_the_same_tokens_everything_is_carried_unchanged():
    tokens = TEACHER.response("my kettle leaks")
    soft = soft_of(tokens, 9)
    carried = Crossing(TEACHER, TEACHER, False).carry(soft, tokens, tokens, "my kettle leaks")
    special = list(BY_TOKEN._teacher.special)
    assert ((carried.top_ids_TK == soft.top_ids_TK) | np.isin(soft.top_ids_TK, special)).all()
    assert np.array_equal(carried.tail_logprob_T, soft.tail_logprob_T)


def test_the_end_of_a_turn_is_the_end_of_a_turn():
    theirs, ours = TEACHER.response("noise"), STUDENT.response("noise")
    soft = soft_of(theirs, 420)
    carried = BY_TOKEN.carry(soft, theirs, ours, "noise")
    place = soft.top_ids_TK[-1].tolist().index(TEACHER.end_id)
    assert carried.top_ids_TK[-1, place] == STUDENT.end_id


def test_all_that_end_an_answer_are_one_candidate_with_their_mass_together():
    several = Renderer(make_tokenizer(), frozenset({0, TEACHER.end_id}))
    theirs, ours = TEACHER.response("noise"), STUDENT.response("noise")
    soft = soft_of(theirs, 420)
    carried = Crossing(several, STUDENT, False).carry(soft, theirs, ours, "noise")
    row, logprobs = carried.top_ids_TK[-1], carried.top_logprobs_TK[-1]
    known = row[row != NOBODY]
    assert len(np.unique(known)) == len(known)
    ends = np.isin(soft.top_ids_TK[-1], [0, TEACHER.end_id])
    together = np.logaddexp.reduce(soft.top_logprobs_TK[-1][ends])
    assert ends.sum() == 2 and logprobs[row == STUDENT.end_id] == pytest.approx(together, abs=1e-5)
    assert np.logaddexp.reduce(logprobs) == pytest.approx(np.logaddexp.reduce(soft.top_logprobs_TK[-1]), abs=1e-5)


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "jensen_shannon", "skewed_reverse_kl"])
def test_a_student_of_a_teacher_with_two_ends_learns_to_end(name):
    several = Renderer(make_tokenizer(), frozenset({0, TEACHER.end_id}))
    theirs, ours = TEACHER.response("noise"), STUDENT.response("noise")
    logits = torch.full((len(theirs), len(TEACHER.tokenizer)), -8.0)
    logits[:, TEACHER.end_id], logits[:, 0] = 4.0, -4.0
    carried = Crossing(several, STUDENT, False).carry(soft_labels_of(logits, 8), theirs, ours, "noise")
    candidates = stack([carried])
    learned = torch.zeros(len(ours), len(STUDENT.tokenizer), requires_grad=True)
    optimizer = torch.optim.Adam([learned], lr=0.2)
    for _ in range(300):
        optimizer.zero_grad()
        loss = candidates.loss(learned, torch.tensor(ours), slice(0, len(ours)), Objective(**{name: 1}))[-1]
        loss.backward()
        optimizer.step()
    assert learned[-1].softmax(-1)[STUDENT.end_id] > 0.9


def test_by_rank_every_token_with_the_same_beginning_counts_and_says_so():
    text = "the strange noise"
    theirs, ours = TEACHER.response(text), STUDENT.response(text)
    assert len(theirs) < len(ours)
    soft = soft_of(theirs, 420)
    ranked, tokens = BY_RANK.carry(soft, theirs, ours, text), BY_TOKEN.carry(soft, theirs, ours, text)
    assert coverage([ranked], True).startswith(f"{len(theirs)} of {len(ours)} response tokens")
    fewer = int((tokens.top_ids_TK != NOBODY).any(1).sum())
    assert fewer < len(theirs)
    assert f"the other {len(ours) - fewer} learn from the text" in coverage([tokens], False)
    logits = torch.randn(len(ours), 300)
    loss = stack([ranked]).loss(logits, torch.tensor(ours), slice(None), Objective(universal=2))
    begins = {begin for begin, _ in spans(TEACHER, theirs)}
    missing = torch.tensor([begin not in begins for begin, _ in spans(STUDENT, ours)])
    assert torch.allclose(loss[missing], 2 * cross_entropy(logits, torch.tensor(ours))[missing])
    q, p = logits[0].double().softmax(-1).sort(descending=True).values, np.exp(soft.top_logprobs_TK[0].astype(float))
    padded = np.concatenate([q.numpy(), np.zeros(len(p) - len(q))])
    assert loss[0].item() == pytest.approx(2 * np.abs(p - padded).sum(), rel=1e-4)


def test_a_token_of_whose_candidates_the_student_has_none_is_learned_as_text_and_told_so():
    ours, foreign = STUDENT.response("my"), [token for token in TEACHER.response("strange") if token >= 300][:1]
    theirs = TEACHER.response("my")
    soft = SoftLabels(
        np.full((len(theirs), 1), foreign[0], np.int32),
        np.full((len(theirs), 1), -0.1, np.float32),
        np.full(len(theirs), np.log(-np.expm1(-0.1)), np.float32),
    )
    carried = BY_TOKEN.carry(soft, theirs, ours, "my")
    assert "its tokenizer cuts them otherwise or has none of their candidates" in coverage([carried], False)
    logits = torch.randn(len(ours), 300)
    learned = stack([carried]).loss(logits, torch.tensor(ours), slice(None), KL)
    assert torch.allclose(learned, cross_entropy(logits, torch.tensor(ours)))


def test_tokens_that_do_not_spell_the_text_are_not_guessed_at():
    theirs, ours = TEACHER.response("noise"), STUDENT.response("noise")
    carried = BY_TOKEN.carry(soft_of(theirs, 5), theirs, ours, "other")
    assert (carried.top_ids_TK == NOBODY).all()


@pytest.mark.parametrize(
    ("pair", "best", "why"),
    [
        (Pair(True), {"forward_kl": 1.0}, "over the student's own tokens"),
        (Pair(True, same_tokens=False), {"forward_kl": 1.0}, "learned where both cut the text alike"),
        (Pair(True, same_tokens=False, matched=False), {"cross_entropy": 1.0}, "cannot be matched"),
        (Pair(False, reads=False), {"cross_entropy": 1.0}, "text without the teacher's distributions"),
    ],
)
def test_auto_takes_the_strongest_and_says_why(pair, best, why):
    choice = choose(KL, True, pair)
    assert choice.objective.weights == best
    assert why in choice.reason
    assert choose(choice.objective, False, pair).objective == choice.objective


@pytest.mark.parametrize(
    ("wish", "pair", "message"),
    [
        (
            KL,
            Pair(False),
            r"forward_kl: the answers came without .* the strongest that is valid is \{cross_entropy: 1\}",
        ),
        (
            Objective(universal=1),
            Pair(True, False, False),
            "universal: the teacher's tokens are not the student's, and",
        ),
        (
            Objective(reverse_kl=1, on_policy=OnPolicy(share=1)),
            Pair(True, False),
            "it cannot read what the student writes",
        ),
        (Objective(reverse_kl=1, on_policy=OnPolicy(share=1)), Pair(True, reads=False), "cannot be asked .* while"),
    ],
)
def test_what_a_pair_cannot_bear_is_refused_with_the_strongest_it_can(wish, pair, message):
    with pytest.raises(InvalidInput, match=message):
        choose(wish, False, pair)


def test_a_pair_is_known_by_its_tokenizers():
    assert pair_of(STUDENT, TEACHER, True) == Pair(True, same_tokens=False)
    assert pair_of(TEACHER, TEACHER, True) == Pair(True)
    assert pair_of(STUDENT, None, True) == Pair(False, reads=False)
