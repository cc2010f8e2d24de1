"""An answer's text, told piece by piece as its tokens come. Knows nothing of what makes them.

A piece is told when its characters are whole. What is told is cut from the text of the latest tokens alone, so a long
answer takes no longer, token for token, than a short one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["REPLACEMENT", "Telling"]

REPLACEMENT = "\ufffd"
"""What a decoder writes for bytes that are no character, or not yet one."""


class Telling:
    """One answer under way."""

    def __init__(self, text: Callable[[Sequence[int]], str]) -> None:
        """``text`` decodes tokens, as `Renderer.text` does."""
        self._text = text
        self._tokens: list[int] = []
        """The latest, from one that has a text of its own: decoders write the first such otherwise than the others."""
        self._whole = 0
        """How many of them were told."""
        self._told = ""
        """Their text."""

    def add(self, token: int) -> str:
        """What the next token adds to the text: nothing, while it ends in the middle of a character."""
        self._tokens.append(token)
        text = self._text(self._tokens)
        if text.endswith(REPLACEMENT):
            return ""
        piece, latest = self._beyond(text), self._tokens[self._whole :]
        if own := self._text(latest):
            self._tokens, text = latest, own
        self._whole, self._told = len(self._tokens), text
        return piece

    def rest(self) -> str:
        """What was not told yet, the answer being over."""
        return self._beyond(self._text(self._tokens))

    def _beyond(self, text: str) -> str:
        if text.startswith(self._told):
            return text[len(self._told) :]
        # Where bytes in a row are decoded as one, a wrong one undoes the characters before it; what is told stays.
        return self._text(self._tokens[self._whole :])
