"""The student's own batches: written by it as it is, scored by the teacher over the whole vocabulary, the same after a
resume."""

from dataclasses import replace

import pytest
import torch
from tests.training.test_loop import StopAt, bits, rows, same_bits
from tests.training.test_step import batch, gradient_of

from limbeck.errors import Stopped
from limbeck.inference.engine import Engine
from limbeck.models.shrink import keep_layers
from limbeck.progress import Silent, StopSignal
from limbeck.recipe import Objective, OnPolicy, Training
from limbeck.training import Sampling, train
from limbeck.training.objectives import reverse_kl
from limbeck.training.step import accumulate

REVERSE = Objective(reverse_kl=1, cross_entropy=0.5, on_policy=OnPolicy(share=0.5))
PLAN = Training(epochs=2, batch_size=4, learning_rate=0.01, checkpoint_seconds=1e9, precision="fp32")


def sampling(tiny, share=0.5, before=()):
    student = replace(tiny, model=keep_layers(tiny.model, (0, 3)))
    prompts = [(e.tokens.ids[: e.tokens.response_start],) * 2 for e in batch()]
    prompts = [(own, (*before, *teachers)) for own, teachers in prompts]
    return Sampling(student, Engine(tiny).score, prompts, OnPolicy(share=share), 5, 7)


def run(own, folder, stop=None, progress=None):
    folder.mkdir(exist_ok=True)
    return train(own.student.model, batch(), [], REVERSE, PLAN, folder, progress or Silent(), stop or StopSignal(), own)


def test_the_loss_is_the_divergence_at_the_students_own_tokens(tiny):
    own = sampling(tiny, before=(1, 50, 60))
    examples = own.batch(3, [0, 1, 2, 5])
    model = own.student.model

    def plainly():
        total, tokens = 0.0, sum(len(e.tokens.response) for e in examples)
        for e in examples:
            assert e.read_as.response == e.tokens.response and e.read_as.ids[:3] == (1, 50, 60)
            student = model(input_ids=torch.tensor([e.tokens.inputs])).logits[0, e.tokens.response_start - 1 :]
            with torch.no_grad():
                read = e.read_as
                teacher = tiny.model(input_ids=torch.tensor([read.inputs])).logits[0, read.response_start - 1 :]
            total = total + reverse_kl(teacher.log_softmax(-1), student.log_softmax(-1)).sum() / tokens
        total.backward()
        return total.item()

    expected, direction = gradient_of(model, plainly)
    found, ours = gradient_of(model, lambda: accumulate(model, examples, REVERSE, 60, score=own.score).mean)
    assert found == pytest.approx(expected, rel=1e-4)
    assert float((ours - direction).norm() / direction.norm()) < 1e-4
    assert all(p.grad is None for p in tiny.model.parameters())


def test_what_the_student_writes_depends_on_seed_step_and_weights(tiny):
    own = sampling(tiny)
    texts = [[e.tokens.response for e in own.batch(step, [0, 1])] for step in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert texts[0] != [e.tokens.response for e in replace(own, seed=8).batch(1, [0, 1])]
    with torch.no_grad():
        own.student.model.get_input_embeddings().weight.mul_(-1)
    assert texts[0] != [e.tokens.response for e in own.batch(1, [0, 1])]


@pytest.mark.parametrize(("share", "low", "high"), [(1.0, 1, 1), (0.3, 0.25, 0.35)])
def test_a_share_of_the_steps_is_the_students(tiny, share, low, high):
    own = sampling(tiny, share)
    assert low <= sum(own.takes(step) for step in range(2000)) / 2000 <= high


def test_a_run_broken_off_between_own_batches_ends_with_the_same_bits(tiny, tmp_path):
    whole = sampling(tiny)
    assert {whole.takes(step) for step in range(6)} == {True, False}
    run(whole, tmp_path / "whole")
    for _ in range(3):
        stop = StopSignal()
        with pytest.raises(Stopped):
            run(sampling(tiny), tmp_path / "broken", stop, StopAt(stop, 1))
    resumed = sampling(tiny)
    run(resumed, tmp_path / "broken")
    assert same_bits(bits(resumed.student.model), bits(whole.student.model))
    ours, theirs = (
        [{k: v for k, v in row.items() if k != "tokens_per_second"} for row in rows(tmp_path / name / "metrics.csv")]
        for name in ("broken", "whole")
    )
    assert ours == theirs


def test_no_answer_is_longer_than_the_teacher_can_read(tiny):
    own = sampling(tiny, before=range(10, 30))
    (free,) = own.batch(1, [0])
    (bounded,) = replace(own, read=len(own.prompts[0][1]) + 1).batch(1, [0])
    assert len(free.tokens.response) == 5
    assert bounded.tokens.response == bounded.read_as.response == free.tokens.response[:2]


class StopAtToken(StopSignal):
    """Is set when it was asked ``count`` times: before each step, and after each token."""

    def __init__(self, count):
        super().__init__()
        self._left = count

    def is_set(self):
        self._left -= 1
        return self._left < 0


def test_a_stop_is_heard_while_the_student_writes_and_loses_no_step(tiny, tmp_path):
    whole, resumed = sampling(tiny, share=1.0), sampling(tiny, share=1.0)
    run(whole, tmp_path / "whole")
    with pytest.raises(Stopped, match="after step 1 of"):
        run(sampling(tiny, share=1.0), tmp_path / "broken", StopAtToken(9))
    assert len(rows(tmp_path / "broken" / "metrics.csv")) == 1
    run(resumed, tmp_path / "broken")
    assert same_bits(bits(resumed.student.model), bits(whole.student.model))
