"""Lessons in the ids of a trimmed vocabulary: the same tokens, and what the teacher gave to others counts to the rest."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from tests.training.test_step import batch

from limbeck.inference.engine import Engine, soft_labels_of
from limbeck.models.packing import Tokens
from limbeck.models.trimming import trim
from limbeck.recipe import Objective, OnPolicy
from limbeck.training import Renumbering, Sampling, TrainingExample
from limbeck.training.targets import stack

WORDS = 40


@given(
    kept=st.sets(st.integers(0, WORDS - 1), min_size=2, max_size=WORDS),
    k=st.sampled_from([1, 5, WORDS]),
    seed=st.integers(0, 1000),
)
@examples(max_examples=80)
def test_candidates_that_are_gone_count_to_the_rest(kept, k, seed):
    generator = torch.Generator().manual_seed(seed)
    place = {token: at for at, token in enumerate(sorted(kept))}
    teacher_TV = torch.randn(6, WORDS, generator=generator) * 3
    student_TV = torch.randn(6, len(kept), generator=generator) * 2
    said_T = torch.randint(len(kept), (6,), generator=generator)
    soft = Renumbering(place).labels(soft_labels_of(teacher_TV, k))
    objective = Objective(forward_kl=1, reverse_kl=0.5)
    found_T = stack([soft]).loss(student_TV, said_T, slice(0, 6), objective)

    p_TV, q_TV = teacher_TV.double().softmax(-1).numpy(), student_TV.double().softmax(-1).numpy()
    for t in range(6):
        likeliest = np.argsort(-p_TV[t], kind="stable")[:k]
        ours = [token for token in likeliest if token in place]
        if not ours:  # nothing is known of this student's tokens: the text is learned
            assert found_T[t] == pytest.approx(-1.5 * np.log(q_TV[t, said_T[t]]), rel=1e-4)
            continue
        p = np.array([*p_TV[t, ours], 1 - p_TV[t, ours].sum()])
        q = np.array([*(q_TV[t, place[token]] for token in ours), 0.0])
        q[-1] = 1 - q[:-1].sum()
        if len(ours) == len(place):  # the student has no other tokens: what the teacher says of these
            p, q = p[:-1] / p[:-1].sum(), q[:-1]
        elif p[-1] < 1e-6:
            continue  # a rest that the teacher cannot have, and the student has, has no finite divergence
        expected = (p * np.log(p / q)).sum() + 0.5 * (q * np.log(q / p)).sum()
        assert float(found_T[t]) == pytest.approx(expected, rel=2e-3, abs=1e-4)


def test_tokens_keep_their_order_and_what_of_them_is_learned():
    place = {3: 0, 5: 1, 9: 2}
    (one,) = Renumbering(place).examples([TrainingExample(Tokens((9, 3, 5, 5, 9), 2, (range(3, 4),)), None)])
    assert one.tokens == Tokens((2, 0, 1, 1, 2), 2, (range(3, 4),)) and one.soft_labels is None


def test_soft_labels_are_renumbered_when_they_are_looked_at():
    soft = soft_labels_of(torch.randn(3, WORDS), 4)
    renumbering = Renumbering({token: at for at, token in enumerate(range(0, WORDS, 2))})
    (one,) = renumbering.examples([TrainingExample(Tokens((0, 2, 4, 6), 1), soft)])
    assert one.soft_labels.k == 4
    assert np.array_equal(one.soft_labels.top_ids_TK, renumbering.labels(soft).top_ids_TK)
    assert np.array_equal(one.soft_labels.opened().tail_logprob_T, soft.tail_logprob_T)


def test_what_a_trimmed_student_writes_is_scored_in_the_teachers_ids(tiny):
    lessons = batch()
    student, place = trim(tiny, (one.tokens.ids for one in lessons), 256)
    kept = sorted(place, key=place.__getitem__)
    assert len(kept) < tiny.model.config.vocab_size
    prompts = [one.tokens.ids[: one.tokens.response_start] for one in lessons]
    pairs = [(tuple(place[token] for token in prompt), prompt) for prompt in prompts]
    teacher = Engine(tiny)
    own = Sampling(student, teacher.score, pairs, OnPolicy(share=1), 5, 7, kept)
    written = own.batch(0, [0, 1, 2])
    for one in written:
        assert one.read_as.response == tuple(kept[token] for token in one.tokens.response)
    read = [one.read_as for one in written]
    whole, ours = teacher.score(read)(slice(0, 4)), own.scored(read)(slice(0, 4))
    assert ours.shape[-1] == len(kept) and torch.equal(ours, whole[:, kept])
    assert torch.equal(replace(own, kept=None).scored(read)(slice(0, 4)), whole)
