"""The forecast of a training's memory, held against what the allocator saw."""

import pytest
import torch
from tests.training.test_step import batch
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

from limbeck.errors import InvalidInput
from limbeck.inference.engine import soft_labels_of
from limbeck.models.attention import ATTENTION
from limbeck.models.packing import Tokens
from limbeck.recipe import Objective
from limbeck.training import memory
from limbeck.training.examples import TrainingExample
from limbeck.training.step import accumulate


def model(**given):
    torch.manual_seed(0)
    settings = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 4, "num_attention_heads": 4} | given
    config = LlamaConfig(
        vocab_size=500, num_key_value_heads=2, pad_token_id=None, attn_implementation=ATTENTION, **settings
    )
    return LlamaForCausalLM(config)


def examples(count, prompt, own, answer):
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(count):
        ids = [*range(3, 3 + prompt), *torch.randint(3, 400, (own + answer,), generator=generator).tolist()]
        made.append(TrainingExample(Tokens(tuple(ids), prompt + own), soft_labels_of(torch.randn(answer, 500), 8)))
    return made


def peak_of(run):
    """The most bytes of tensors alive at once in ``run``, above those before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    held = most = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        ({}, (12, 0, 40, 4)),
        ({}, (24, 100, 8, 2)),
        ({"num_hidden_layers": 2, "intermediate_size": 400}, (4, 0, 120, 60)),
        ({"hidden_size": 128, "num_attention_heads": 8}, (8, 30, 30, 30)),
        ({}, (8, 60, 70, 30)),
    ],
    ids=["short rows", "a long prefix in common", "a wide feed-forward", "many heads", "attention of long segments"],
)
def test_the_forecast_is_near_the_measured_peak_of_a_step(shape, rows):
    student, batch = model(**shape), examples(*rows)
    found = memory.forecast(student, [one.tokens for one in batch], len(batch), 4096)
    optimizer = torch.optim.AdamW(student.parameters(), fused=True)

    def steps():
        for _ in range(2):  # the moments are there from the second on
            accumulate(student, batch, Objective(forward_kl=1), 4096)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    measured = peak_of(steps)
    assert measured < found.total - found.weights < 1.5 * measured


def test_less_is_forecast_where_less_learns(tiny):
    sequences = [one.tokens for one in batch()]
    whole = memory.forecast(tiny.model, sequences, 4, 2048)
    tiny.model.get_input_embeddings().weight.requires_grad_(False)
    frozen = memory.forecast(tiny.model, sequences, 4, 2048)
    assert whole.gradients - frozen.gradients == 4 * tiny.model.get_input_embeddings().weight.numel()
    assert frozen.moments == 2 * frozen.gradients and frozen.weights == whole.weights == 4 * tiny.parameters
    tiny.model.get_decoder().layers[:2].requires_grad_(False)
    upper = memory.forecast(tiny.model, sequences, 4, 2048)
    assert frozen.activations / 2 < upper.activations < frozen.activations * 0.6
    tiny.model.get_decoder().layers[:2].requires_grad_(True)
    small, large = (memory.forecast(tiny.model, sequences, 11, tokens) for tokens in (64, 2048))
    assert small.activations < large.activations


def test_what_the_machine_cannot_hold_is_refused_with_the_way_out(tiny):
    needs = memory.forecast(tiny.model, [one.tokens for one in batch()], 4, 2048)
    memory.check(needs, needs.total)
    with pytest.raises(InvalidInput, match=r"needs about .* MB .*activations.*the machine has 1\.0 MB.*pack_tokens"):
        memory.check(needs, 1_000_000)
