"""Stage 4: answered examples and a model to start from in, a trained student out.

Read `loop` first. `step` computes a batch's gradient, `objectives` hold the formulas, `batches` the order of the
data, `schedule` the learning rate, `checkpoints` what is left on disk.
"""

from limbeck.training.examples import TrainingExample, prepare, prepare_text, same_tokens, with_distributions
from limbeck.training.loop import load_trained, train

__all__ = ["TrainingExample", "load_trained", "prepare", "prepare_text", "same_tokens", "train", "with_distributions"]
