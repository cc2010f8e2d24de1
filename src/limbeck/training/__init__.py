"""Stage 4: answered examples and a model to start from in, a trained student out.

Read `loop` first. `step` computes a batch's gradient, `objectives` hold the formulas, `targets` what is known of the
teacher. `choice` decides what a pair of models bears, `crossing` carries distributions to another tokenizer's tokens,
`renumbering` to those that a trimmed student has kept; `on_policy` lets the student write batches itself, `alignment`
draws its hidden states to the teacher's. `batches` has the order of the data, `schedule` the learning rate,
`checkpoints` what is left on disk. `parallel` deals a batch out to replicas, `processes` to other processes. `watch`
sees when to stop, and `memory` whether there is room to begin.
"""

from limbeck.training.alignment import Alignment, layers_paired
from limbeck.training.choice import Choice, choose, pair_of
from limbeck.training.crossing import Crossing, coverage
from limbeck.training.examples import TrainingExample, prepare, prepare_text, same_tokens, with_distributions
from limbeck.training.loop import check_architecture, check_frozen, load_trained, train
from limbeck.training.on_policy import Sampling
from limbeck.training.precision import rounds
from limbeck.training.processes import ALONE, Processes, joined
from limbeck.training.renumbering import Renumbering

__all__ = [
    "ALONE",
    "Alignment",
    "Choice",
    "Crossing",
    "Processes",
    "Renumbering",
    "Sampling",
    "TrainingExample",
    "check_architecture",
    "check_frozen",
    "choose",
    "coverage",
    "joined",
    "layers_paired",
    "load_trained",
    "pair_of",
    "prepare",
    "prepare_text",
    "rounds",
    "same_tokens",
    "train",
    "with_distributions",
]
