"""A conversation becomes tokens, in one place for training, generation and evaluation.

The model's own chat template is used as it is. Text that a user or a teacher wrote is never read as a control
token: a message that contains `<|im_end|>` ends no turn.

A response is the answer's own tokens and then the token with which the template ends an assistant's turn, so what
is trained on is exactly what generation produces after the same prompt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from limbeck.errors import InvalidInput
from limbeck.records import Message, Prompt

__all__ = ["Renderer"]


class Renderer:
    """Messages to tokens and back, for one tokenizer."""

    def __init__(self, tokenizer: Any, stop_ids: Sequence[int] = ()) -> None:
        """``stop_ids``: further tokens that end a turn, as the model's generation config names them."""
        if not tokenizer.chat_template:
            raise InvalidInput(
                f"{tokenizer.name_or_path}: no chat template; expected chat_template.jinja or a"
                " chat_template in tokenizer_config.json"
            )
        self.tokenizer = tokenizer
        self._special = re.compile("|".join(re.escape(token) for token in sorted(tokenizer.all_special_tokens)))
        self.end_id = self._find_end_id()
        self.stop_ids = frozenset({self.end_id, *stop_ids})

    def prompt(self, prompt: Prompt) -> list[int]:
        """The tokens a model sees before it answers ``prompt``."""
        return self._encode(prompt.messages, add_generation_prompt=True)

    def response(self, text: str) -> list[int]:
        """The tokens of an answer, with the token that ends the turn."""
        return [*self._encode_text(text), self.end_id]

    def text(self, token_ids: Sequence[int]) -> str:
        """The words of an answer, without the tokens that end a turn."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def _encode(self, messages: Sequence[Message], add_generation_prompt: bool) -> list[int]:
        tricky = {i for i, message in enumerate(messages) if self._special.search(message.text)}
        # What could be mistaken for control tokens is kept out of the template's text by a stand-in from
        # Unicode's private use area, and is put in its place as plain text.
        stand_ins = {i: f"\ue000{i}\ue001" for i in tricky}
        shown = [
            {"role": message.role, "content": stand_ins.get(i, message.text)} for i, message in enumerate(messages)
        ]
        try:
            rendered = self.tokenizer.apply_chat_template(
                shown, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except TemplateError as error:
            raise InvalidInput(f"{self.tokenizer.name_or_path}: its chat template refuses a prompt: {error}") from None
        if not tricky:
            return list(self.tokenizer.encode(rendered, add_special_tokens=False))
        tokens: list[int] = []
        for piece in re.split("(\ue000\\d+\ue001)", rendered):
            if piece.startswith("\ue000"):
                tokens += self._encode_text(messages[int(piece[1:-1])].text)
            else:
                tokens += self.tokenizer.encode(piece, add_special_tokens=False)
        return tokens

    def _encode_text(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def _find_end_id(self) -> int:
        """The token after an assistant's words: the template's, or the end-of-sequence token if it puts none."""
        mark = "\ue000end\ue001"
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": mark}]
        _, found, tail = str(self.tokenizer.apply_chat_template(turns, tokenize=False)).partition(mark)
        after = self.tokenizer.encode(tail, add_special_tokens=False) if found else []
        if after and after[0] in self.tokenizer.all_special_ids:
            return int(after[0])
        return int(self.tokenizer.eos_token_id)
