"""A conversation becomes tokens, in one place for training, generation, evaluation and serving.

The model's own chat template is used as it is. Text that a user or a teacher wrote is never read as a control
token: a message that contains `<|im_end|>` ends no turn, nor does a tool's description.

A response is the answer's own tokens and then the token with which the template ends an assistant's turn, so what
is trained on is exactly what generation produces after the same prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from limbeck.errors import InvalidInput
from limbeck.models.today import dated
from limbeck.records import Prompt

__all__ = ["Renderer"]

STAND_IN = ("\ue000", "\ue001")
"""What a stand-in begins and ends with; between them is a number."""


class Renderer:
    """Messages to tokens and back, for one tokenizer.

    Raises `InvalidInput` for one without a chat template, or whose answers nothing ends.
    """

    def __init__(self, tokenizer: Any, stop_ids: Sequence[int] = ()) -> None:
        """``stop_ids``: further tokens that end a turn, as the model's generation config names them."""
        if not tokenizer.chat_template:
            raise InvalidInput(
                f"{tokenizer.name_or_path}: no chat template; expected chat_template.jinja or a"
                " chat_template in tokenizer_config.json"
            )
        self.tokenizer = tokenizer
        special = {token.content: place for place, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._special_ids = {*special.values(), *tokenizer.all_special_ids}
        # The longest first: one token's name may begin another's. Stand-ins are special too, so that none is forged.
        names = sorted({*special, *tokenizer.all_special_tokens, *STAND_IN}, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, names)))
        self.end_id = self._find_end_id()
        self.stop_ids = frozenset({self.end_id, *stop_ids})

    def prompt(self, prompt: Prompt) -> list[int]:
        """The tokens a model sees before it answers ``prompt``."""
        return self.conversation([{"role": message.role, "content": message.text} for message in prompt.messages])

    def conversation(
        self, turns: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        """The tokens a model sees before it answers ``turns``, in the form templates take: tool calls and all.

        Raises `InvalidInput` where the template refuses.
        """
        # What could be mistaken for a control token is kept out of the template's text by a stand-in from Unicode's
        # private use area, and is put in its place as plain text.
        held: list[str] = []
        try:
            rendered = self.tokenizer.apply_chat_template(
                self._shielded(turns, held),
                tools=self._shielded(tools, held),
                tokenize=False,
                add_generation_prompt=True,
                chat_template=dated(self.tokenizer.get_chat_template(tools=tools)),
            )
        except TemplateError as error:
            raise InvalidInput(f"{self.tokenizer.name_or_path}: its chat template refuses a prompt: {error}") from None
        tokens: list[int] = []
        begin, end = STAND_IN
        for piece in re.split(f"({begin}\\d+{end})", rendered):
            if piece.startswith(begin):
                tokens += self._encode_text(held[int(piece[1:-1])])
            else:
                tokens += self.tokenizer.encode(piece, add_special_tokens=False)
        return tokens

    def response(self, text: str) -> list[int]:
        """The tokens of an answer, with the token that ends the turn."""
        return [*self._encode_text(text), self.end_id]

    def text(self, token_ids: Sequence[int]) -> str:
        """The words of an answer, without the tokens that end a turn."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def _shielded(self, value: Any, held: list[str]) -> Any:
        """``value`` with every special token in its texts, however deep, held back behind a stand-in."""
        if isinstance(value, str):
            begin, end = STAND_IN

            def hold(found: re.Match[str]) -> str:
                held.append(found[0])
                return f"{begin}{len(held) - 1}{end}"

            return self._special.sub(hold, value)
        if isinstance(value, Mapping):
            return {self._shielded(key, held): self._shielded(one, held) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._shielded(one, held) for one in value]
        return value

    def _encode_text(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def _find_end_id(self) -> int:
        """The token after an assistant's words: the template's, or the end-of-sequence token if it puts none."""
        mark = "\ue000end\ue001"
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": mark}]
        try:
            written = str(self.tokenizer.apply_chat_template(turns, tokenize=False))
        except TemplateError as error:
            raise InvalidInput(
                f"{self.tokenizer.name_or_path}: its chat template writes no question with its answer: {error};"
                " expected one that does, in chat_template.jinja"
            ) from None
        _, found, tail = written.partition(mark)
        after = self.tokenizer.encode(tail, add_special_tokens=False) if found else []
        if after and after[0] in self._special_ids:
            return int(after[0])
        if self.tokenizer.eos_token_id is None:
            raise InvalidInput(
                f"{self.tokenizer.name_or_path}: its chat template ends no answer with a control token, and there is no"
                " eos_token; expected one in tokenizer_config.json"
            )
        return int(self.tokenizer.eos_token_id)
