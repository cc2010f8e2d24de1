"""Which part of the river a prompt goes down: decided by its content alone.

The split is a pure function of the prompt's normalized content, so it is the same in every run and on every
machine, adding rows moves none of those already there, and two prompts that differ only in case, punctuation or
system prompt always fall on the same side. That is the leak guard: what is held out is never trained on, not
even in another spelling.
"""

from __future__ import annotations

from limbeck.records import Prompt, Split

__all__ = ["split_of"]


def split_of(prompt: Prompt, held_out_share: float, validation_share: float) -> Split:
    """The split of ``prompt``; shares are fractions of all prompts."""
    place = int(prompt.normalized_id[:16], 16) / 16.0**16
    if place < held_out_share:
        return "held-out"
    # Validation is taken from the far end, so that changing one share does not move prompts between the others.
    return "validation" if place >= 1.0 - validation_share else "train"
