"""Which bytes each token of a tokenizer stands for: how a token that another program names is found again, exactly.

Byte-level vocabularies (GPT-2, Llama 3, Qwen, SmolLM) write bytes as letters; SentencePiece's write a space as ▁ and
lone bytes as <0x0A>. What is neither is not read, and says so.
"""

from __future__ import annotations

import json
import re
from typing import Any

from limbeck.errors import NotYet

__all__ = ["TokenBytes", "byte_letters"]

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenBytes:
    """The bytes of every token, and the tokens of given bytes."""

    def __init__(self, tokenizer: Any) -> None:
        """``tokenizer``: transformers' fast one, or `models.tokenizer.Tokenizer`. Raises `NotYet` for other kinds."""
        backend = tokenizer.backend_tokenizer
        decode = _decoder(json.loads(backend.to_str()).get("decoder"), tokenizer.name_or_path)
        added = tokenizer.added_tokens_decoder
        self.special = {place: token.content for place, token in added.items() if token.special}
        """Names of the tokens that are no text, by id."""
        whole = {token.content: place for place, token in added.items() if not token.special}
        self.bytes_of: dict[int, bytes] = {}
        """By id, of the tokens that are text."""
        for token, place in backend.get_vocab(with_added_tokens=True).items():
            if place not in self.special:
                self.bytes_of[place] = token.encode() if token in whole else decode(token)
        self._named = {name: place for place, name in self.special.items()}
        self._ids: dict[bytes, list[int]] = {}
        for place, stands_for in self.bytes_of.items():
            self._ids.setdefault(stands_for, []).append(place)

    def find(self, stands_for: bytes) -> int | None:
        """The one token of these bytes, or the special token of this name; None where there is none, or several."""
        found = self._ids.get(stands_for, [])
        if not found:
            return self._named.get(stands_for.decode(errors="replace"))
        return found[0] if len(found) == 1 else None


def _decoder(decoder: Any, name: str) -> Any:
    kinds = re.findall(r'"type": ?"(\w+)"', json.dumps(decoder))
    if "ByteLevel" in kinds:
        letters = byte_letters()
        return lambda token: bytes(letters[c] for c in token) if all(c in letters for c in token) else token.encode()
    if "ByteFallback" in kinds or "Metaspace" in kinds:
        return lambda token: (
            bytes([int(found[1], 16)]) if (found := _BYTE.fullmatch(token)) else token.replace("▁", " ").encode()
        )
    raise NotYet(
        f"{name}: a tokenizer whose tokens cannot be matched by their bytes; it is neither byte-level nor SentencePiece"
    )


def byte_letters() -> dict[str, int]:
    """GPT-2's letters for bytes (openai/gpt-2, src/encoder.py, bytes_to_unicode)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}
