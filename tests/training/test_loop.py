"""The loop learns, tells what it does, stops where asked, and resumes to the same bits."""

import csv
import math
from itertools import pairwise

import pytest
import torch
from tests.training.test_step import batch
from transformers import GPT2Config, GPT2LMHeadModel

from limbeck.errors import InvalidInput, NotYet, Stopped, TrainingDiverged
from limbeck.models.loading import load_weights
from limbeck.models.shrink import keep_layers
from limbeck.progress import Silent, StopSignal
from limbeck.recipe import Objective, Training
from limbeck.records import Answer, AnsweredExample, Example, Message, Prompt
from limbeck.training import checkpoints, load_trained, prepare, train
from limbeck.training.batches import batches_of_epoch
from limbeck.training.loop import check_architecture
from limbeck.training.schedule import learning_rate
from limbeck.training.step import Losses
from limbeck.training.watch import LOST_STEPS, Watch

PLAN = Training(epochs=3, batch_size=4, learning_rate=0.01, checkpoint_seconds=1e9, precision="fp32")


def run(model, folder, plan=PLAN, stop=None, objective=None, progress=None, examples=None):
    folder.mkdir(exist_ok=True)
    examples = examples or batch()
    return train(
        model,
        examples,
        [examples[:3]],
        objective or Objective(forward_kl=1),
        plan,
        folder,
        progress or Silent(),
        stop or StopSignal(),
    )


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def student(tiny):
    return keep_layers(tiny.model, (0, 3))


def bits(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same_bits(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class StopAt(Silent):
    """Asks to stop after so many advances of all tasks, or of those of one name."""

    def __init__(self, stop, step, name=None):
        self.stop, self.left, self.name = stop, step, name

    def task(self, name, *args, **kwargs):
        context = super().task(name, *args, **kwargs)
        if self.name not in (None, name):
            return context
        outer = self

        class Watching:
            def __enter__(self):
                self.inner = context.__enter__()
                return self

            def __exit__(self, *rest):
                return context.__exit__(*rest)

            def advance(self, amount=1):
                outer.left -= 1
                if outer.left == 0:
                    outer.stop.set()

            def note(self, text): ...

        return Watching()


@pytest.mark.row(31)
def test_each_set_that_is_watched_has_its_own_loss_in_its_place(tiny, tmp_path):
    sets, plan = [[], batch()[:3], batch()[3:]], PLAN.model_copy(update={"epochs": 1})
    (tmp_path / "t").mkdir()
    found = train(student(tiny), batch(), sets, Objective(forward_kl=1), plan, tmp_path / "t", Silent(), StopSignal())
    nothing, *losses = found["validation_losses"]
    assert nothing is None and len(losses) == 2
    assert min(losses) <= found["validation_loss"] <= max(losses)


def test_losses_fall_and_are_told_step_by_step(tiny, tmp_path):
    losses = run(student(tiny), tmp_path / "t")
    metrics, validated = rows(tmp_path / "t" / "metrics.csv"), rows(tmp_path / "t" / "validation.csv")
    assert [int(row["step_number"]) for row in metrics] == list(range(9))
    assert [int(row["epoch_number"]) for row in metrics] == [0] * 3 + [1] * 3 + [2] * 3
    assert float(metrics[-1]["training_loss"]) < float(metrics[0]["training_loss"])
    assert float(metrics[0]["perplexity"]) > 1
    assert [int(row["step_number"]) for row in validated] == [2, 5, 8]
    assert losses["validation_loss"] == pytest.approx(float(validated[-1]["validation_loss"]), rel=1e-4)
    assert not list((tmp_path / "t").glob("step-*"))


def test_perplexity_is_that_of_the_answers_whatever_the_objective(tiny, tmp_path):
    run(student(tiny), tmp_path / "a", Training(epochs=1, batch_size=11), objective=Objective(cross_entropy=1))
    row = rows(tmp_path / "a" / "metrics.csv")[0]
    assert float(row["perplexity"]) == pytest.approx(math.exp(float(row["training_loss"])), rel=1e-4)


@pytest.mark.parametrize("at", [1, 4, 8])
@pytest.mark.row(43)
def test_a_resumed_run_ends_with_the_bits_of_an_unbroken_one(tiny, tmp_path, at):
    unbroken = student(tiny)
    run(unbroken, tmp_path / "whole")
    stop = StopSignal()
    with pytest.raises(Stopped, match=rf"stopped after step {at} of 9; the checkpoint is kept"):
        run(student(tiny), tmp_path / "broken", stop=stop, progress=StopAt(stop, at))
    resumed = student(tiny)
    run(resumed, tmp_path / "broken")
    assert same_bits(bits(resumed), bits(unbroken))
    ours, theirs = (rows(tmp_path / name / "metrics.csv") for name in ("broken", "whole"))
    for row in (*ours, *theirs):
        row.pop("tokens_per_second")
    assert ours == theirs
    assert rows(tmp_path / "broken" / "validation.csv") == rows(tmp_path / "whole" / "validation.csv")


def test_a_run_broken_five_times_ends_with_the_same_bits(tiny, tmp_path):
    unbroken = student(tiny)
    free = PLAN.model_copy(update={"freeze_embeddings": False})
    run(unbroken, tmp_path / "whole", free)
    for _ in range(5):
        stop = StopSignal()
        with pytest.raises(Stopped):
            run(student(tiny), tmp_path / "broken", free, stop, progress=StopAt(stop, 1))
    resumed = student(tiny)
    run(resumed, tmp_path / "broken", free)
    assert same_bits(bits(resumed), bits(unbroken))


RESTLESS = Training(
    epochs=4,
    batch_size=4,
    learning_rate=0.05,
    schedule="constant",
    validate_every=1,
    keep="best",
    checkpoint_seconds=1e9,
)
"""A rate at which the validation loss goes up and down."""


def lowest(folder):
    losses = [float(row["validation_loss"]) for row in rows(folder / "validation.csv")]
    return losses.index(min(losses)) + 1, min(losses)


def test_validation_comes_as_often_as_asked_and_at_the_last_step(tiny, tmp_path):
    run(student(tiny), tmp_path / "t", PLAN.model_copy(update={"validate_every": 4}))
    assert [int(row["step_number"]) for row in rows(tmp_path / "t" / "validation.csv")] == [3, 7, 8]


def test_the_best_weights_are_kept_and_are_those_that_were_validated(tiny, tmp_path):
    losses = run(student(tiny), tmp_path / "t", RESTLESS)
    step, value = lowest(tmp_path / "t")
    assert step < 12, "a run that ends at its best would show nothing"
    assert (losses["steps"], losses["kept_step"]) == (12, step)
    again = student(tiny)
    load_trained(again, tmp_path / "t")
    still = PLAN.model_copy(update={"epochs": 1, "learning_rate": 1e-12, "warmup": 0.0})
    found = run(again, tmp_path / "u", still)
    assert found["validation_loss"] == pytest.approx(losses["validation_loss"], rel=1e-4)
    assert losses["validation_loss"] == pytest.approx(value, rel=1e-4)


def test_a_run_without_improvement_ends_early_and_says_so(tiny, tmp_path):
    told = []
    progress = Silent()
    progress.say = told.append
    losses = run(student(tiny), tmp_path / "t", RESTLESS.model_copy(update={"patience": 1}), progress=progress)
    step, value = lowest(tmp_path / "t")
    assert losses["steps"] == len(rows(tmp_path / "t" / "metrics.csv")) == step + 1 < 12
    assert f"ended after step {step + 1} of 12: 1 validations without a lower loss than {value:.4g}" in "\n".join(told)


@pytest.mark.parametrize("patience", [None, 1])
def test_what_is_broken_off_keeps_its_best_and_its_patience(tiny, tmp_path, patience):
    plan = RESTLESS.model_copy(update={"patience": patience})
    unbroken = student(tiny)
    expected = run(unbroken, tmp_path / "whole", plan)
    for at in (1, 2, 1, 1):
        stop = StopSignal()
        try:
            run(student(tiny), tmp_path / "broken", plan, stop, progress=StopAt(stop, at))
        except Stopped:
            continue
        break
    resumed = student(tiny)
    if not (tmp_path / "broken" / "weights.safetensors").exists():
        assert run(resumed, tmp_path / "broken", plan) == expected
    load_trained(resumed, tmp_path / "broken")
    assert same_bits(bits(resumed), bits(unbroken))
    assert rows(tmp_path / "broken" / "validation.csv") == rows(tmp_path / "whole" / "validation.csv")


def test_patience_without_validation_rows_is_refused(tiny, tmp_path):
    nobody = (Silent(), StopSignal())
    with pytest.raises(InvalidInput, match="no validation rows"):
        train(student(tiny), batch(), [[]], Objective(forward_kl=1), RESTLESS, tmp_path, *nobody)


def test_a_run_that_is_worse_than_a_blind_guess_and_than_its_start_is_stopped():
    watch, blind = Watch(), math.log(100)
    at = [2.0] + [blind + 1] * (LOST_STEPS - 1)
    for step, value in enumerate([*at, blind - 0.1, *at[1:]]):
        watch.check(Losses(value, value, 1), 1.0, step, 0.01, 100)
    with pytest.raises(
        TrainingDiverged, match=r"20 steps more than at the first step \(2\) .* blind guess at 100 tokens"
    ):
        watch.check(Losses(blind + 1, blind + 1, 1), 1.0, 40, 0.01, 100)
    patient = Watch()
    for step in range(3 * LOST_STEPS):  # a student cut from a larger model begins above and comes down
        patient.check(Losses(9.0, 9.0 - step / 100, 1), 1.0, step, 0.01, 100)


def test_frozen_weights_are_in_no_checkpoint(tiny, tmp_path):
    stop = StopSignal()
    with pytest.raises(Stopped):
        run(student(tiny), tmp_path / "t", stop=stop, progress=StopAt(stop, 1))
    names = set(load_weights(checkpoints.latest(tmp_path / "t") / "weights.safetensors"))
    assert names == {name for name, _ in student(tiny).named_parameters()} - {"model.embed_tokens.weight"}


def test_a_checkpoint_without_its_manifest_does_not_count(tiny, tmp_path):
    stop = StopSignal()
    with pytest.raises(Stopped):
        run(student(tiny), tmp_path / "t", stop=stop, progress=StopAt(stop, 4))
    whole = checkpoints.latest(tmp_path / "t")
    assert whole.name == "step-000004"
    half = tmp_path / "t" / "step-000006"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half")
    assert checkpoints.latest(tmp_path / "t") == whole
    unbroken, resumed = student(tiny), student(tiny)
    run(unbroken, tmp_path / "u")
    run(resumed, tmp_path / "t")
    assert same_bits(bits(resumed), bits(unbroken))


@pytest.mark.parametrize("freeze", [True, False])
def test_frozen_embeddings_stay_and_free_ones_learn(tiny, tmp_path, freeze):
    model = student(tiny)
    before = model.get_input_embeddings().weight.detach().clone()
    run(model, tmp_path / "t", PLAN.model_copy(update={"freeze_embeddings": freeze}))
    assert torch.equal(model.get_input_embeddings().weight, before) == freeze


def test_frozen_layers_stay_the_others_learn_and_a_broken_run_ends_with_the_same_bits(tiny, tmp_path):
    plan = PLAN.model_copy(update={"freeze_layers": 1})
    model, first = student(tiny), student(tiny).get_decoder().layers
    run(model, tmp_path / "t", plan)
    stayed = [same_bits(bits(one), bits(two)) for one, two in zip(model.get_decoder().layers, first, strict=True)]
    assert stayed == [True] + [False] * (len(first) - 1)
    stop = StopSignal()
    with pytest.raises(Stopped):
        run(student(tiny), tmp_path / "broken", plan, stop, progress=StopAt(stop, 2))
    resumed = student(tiny)
    run(resumed, tmp_path / "broken", plan)
    assert same_bits(bits(resumed), bits(model))


def test_freezing_every_layer_is_refused(tiny, tmp_path):
    model = student(tiny)
    depth = len(model.get_decoder().layers)
    with pytest.raises(InvalidInput, match=rf"freeze_layers: {depth}; .*expected {depth - 1} or fewer"):
        run(model, tmp_path / "t", PLAN.model_copy(update={"freeze_layers": depth}))


def test_a_checkpoint_is_written_and_not_read_again(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("limbeck.storage.workspace.file_digest", None)
    checkpoints.save(tmp_path, 3, tiny.model, torch.optim.AdamW(tiny.model.parameters()), {})
    assert checkpoints.latest(tmp_path).name == "step-000003"


def test_only_the_last_checkpoint_is_kept(tiny, tmp_path):
    stop = StopSignal()
    plan = PLAN.model_copy(update={"checkpoint_seconds": 1e-9})
    with pytest.raises(Stopped):
        run(student(tiny), tmp_path / "t", plan, stop, progress=StopAt(stop, 5))
    assert [path.name for path in (tmp_path / "t").glob("step-*")] == ["step-000005"]


def test_a_run_that_diverges_is_stopped_with_advice(tiny, tmp_path):
    model = student(tiny)
    with torch.no_grad():
        model.get_input_embeddings().weight[30] = float("nan")
    with pytest.raises((TrainingDiverged, NotYet)):
        run(model, tmp_path / "t")
    with pytest.raises(TrainingDiverged, match=r"step \d+: loss .*Lower training\.learning_rate \(now 1\)"):
        run(
            student(tiny),
            tmp_path / "u",
            Training(epochs=40, batch_size=4, learning_rate=1.0, warmup=0.0, max_gradient_norm=1e9, weight_decay=1e9),
        )


def test_a_model_that_packing_does_not_know_is_refused(tiny, tmp_path):
    model = student(tiny)
    attention = model.model.layers[0].self_attn
    forward = attention.forward
    attention.forward = lambda **given: (forward(**given)[0] + given["hidden_states"].mean(1, keepdim=True), None)
    with pytest.raises(NotYet, match="computes something else when examples are packed"):
        run(model, tmp_path / "t")


def test_rows_that_a_model_cannot_look_back_over_are_refused_before_the_first_step(tiny, tmp_path):
    model = student(tiny)
    model.config.sliding_window, model.config.layer_types = 8, ["sliding_attention", "full_attention"]
    with pytest.raises(NotYet, match=r"an example of \d+ tokens is longer than the model's sliding window of 8"):
        run(model, tmp_path / "t")
    assert not (tmp_path / "t" / "metrics.csv").exists()
    model.config.layer_types = ["full_attention"] * 2
    run(model, tmp_path / "t")


def test_an_architecture_of_other_parts_is_refused(tmp_path, settings):
    model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=48, n_head=4, vocab_size=420))
    with pytest.raises(NotYet, match="GPT2LMHeadModel: an architecture of other parts"):
        check_architecture(model)


def test_the_order_of_an_epoch_is_made_once(tiny, tmp_path, monkeypatch):
    made, stop = [], StopSignal()

    def order(count, size, epoch, seed):
        made.append(epoch)
        return batches_of_epoch(count, size, epoch, seed)

    monkeypatch.setattr("limbeck.training.loop.batches_of_epoch", order)
    with pytest.raises(Stopped):
        run(student(tiny), tmp_path / "t", stop=stop, progress=StopAt(stop, 4))
    run(student(tiny), tmp_path / "t")
    assert made == [0, 1, 1, 2]  # broken off within the second


def test_every_example_is_seen_once_an_epoch_in_an_order_of_its_own():
    first, second = (batches_of_epoch(10, 4, epoch, 0) for epoch in (0, 1))
    assert sorted(i for b in first for i in b) == list(range(10))
    assert [len(b) for b in first] == [4, 4, 2]
    assert first != second
    assert first == batches_of_epoch(10, 4, 0, 0) != batches_of_epoch(10, 4, 0, 1)


def test_the_learning_rate_rises_then_falls():
    rates = [learning_rate(i, 10, 1.0, 3, "linear") for i in range(10)]
    assert rates[:4] == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])
    assert all(a >= b for a, b in pairwise(rates[2:]))
    assert rates[-1] == pytest.approx(1 / 7)
    cosine = [learning_rate(i, 10, 1.0, 0, "cosine") for i in range(10)]
    assert cosine[0] == 1.0 and cosine[5] == pytest.approx(0.5)
    assert {learning_rate(i, 10, 1.0, 0, "constant") for i in range(10)} == {1.0}


def answered(text="leak", ids=(3, 2), soft=None) -> AnsweredExample:
    example = Example(Prompt((Message("user", "water?"),)), None, "train", "p.jsonl", 7)
    return AnsweredExample(example, Answer(text, ids, "stop", 3, soft), "teacher", "t")


def test_the_teachers_own_tokens_are_learned_never_new_ones(tiny):
    made = prepare([answered(ids=(200, 201, 2))], tiny.renderer, 512, tiny.renderer, False)
    assert made[0].tokens.response == (200, 201, 2)


def test_soft_labels_never_turn_quietly_into_hard_ones(tiny):
    with pytest.raises(InvalidInput, match="line 7: its answer came without distributions"):
        prepare([answered()], tiny.renderer, 512, tiny.renderer, True)


def test_an_example_longer_than_the_context_is_named(tiny):
    with pytest.raises(
        InvalidInput, match=r"p\.jsonl line 7: prompt and answer are \d+ tokens; the student reads at most 8"
    ):
        prepare([answered()], tiny.renderer, 8, tiny.renderer, False)


def test_a_checkpoint_written_twice_keeps_the_best_weights_of_an_earlier_step(tmp_path):
    """As when a run is stopped right after its checkpoint was due."""
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    best = bits(model)
    for step in (1, 2, 2):
        checkpoints.save(tmp_path, step, model, optimizer, {}, best=1)
        with torch.no_grad():
            model.weight.add_(1.0)
    checkpoints.load_best(tmp_path, model)
    assert same_bits(bits(model), best)
    assert checkpoints.restore(tmp_path / "step-000002", model, optimizer)["step"] == 2


def test_a_run_that_has_ended_is_not_run_again(tiny, tmp_path, monkeypatch):
    """As when a job is killed after its training and before the stage's manifest is there."""
    first, again = student(tiny), student(tiny)
    expected = run(first, tmp_path / "t")
    (tmp_path / "t" / "step-000009").mkdir()  # not all was cleared away
    monkeypatch.setattr("limbeck.training.loop.Replicas", None)
    assert run(again, tmp_path / "t") == expected
    assert same_bits(bits(again), bits(first))
    assert not list((tmp_path / "t").glob("step-*"))
