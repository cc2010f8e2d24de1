"""Stop sequences in a text that comes in pieces. Knows nothing of tokens or of who writes the text.

Replicas are never told of stop sequences: llama.cpp keeps back what may be the beginning of one, and loses it when
the answer ends just there by its length. So they are found here, for every replica in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Stops"]


class Stops:
    """Lets text through up to the first stop sequence; what may yet turn out to be part of one waits."""

    def __init__(self, sequences: Sequence[str]) -> None:
        self._sequences = tuple(filter(None, sequences))
        self._waiting = ""

    def feed(self, text: str) -> tuple[str, str | None]:
        """The text that may be shown now, and the stop sequence if one is complete; nothing is fed after that."""
        if not self._sequences:
            return text, None
        text = self._waiting + text
        found = [(at + len(sequence), at, sequence) for sequence in self._sequences if (at := text.find(sequence)) >= 0]
        if found:
            _, at, sequence = min(found)  # the first to be complete: so it does not matter how the text was cut
            self._waiting = ""
            return text[:at], sequence
        shown = len(text) - max(_overlap(text, sequence) for sequence in self._sequences)
        self._waiting = text[shown:]
        return text[:shown], None

    def rest(self) -> str:
        """What waits: the answer is over and it was no stop sequence."""
        rest, self._waiting = self._waiting, ""
        return rest


def _overlap(text: str, sequence: str) -> int:
    """The length of the longest end of ``text`` that begins ``sequence`` without being all of it."""
    longest = min(len(text), len(sequence) - 1)
    return next((length for length in range(longest, 0, -1) if sequence.startswith(text[-length:])), 0)
