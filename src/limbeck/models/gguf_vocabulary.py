"""A tokenizer.json as GGUF has it: tokens, their types, merges or scores, special tokens, and how text is cut.

Two kinds are known. Byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM) is GGUF's ``gpt2``, and the way text is cut before
merging has a name there, ``tokenizer.ggml.pre``, found here from the pre-tokenizer's own patterns. BPE over characters
with bytes to fall back on (Llama 2, Gemma) is GGUF's ``llama``, which merges by score: a token's score is the rank of
the first merge that makes it.

Whoever sends token ids needs none of this; whoever sends text to the file (Ollama, LM Studio) needs all of it right,
so what cannot be told is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gguf import TokenType

from limbeck.errors import DamagedArtifact, NotYet
from limbeck.models.template import chat_template, turn_end
from limbeck.models.tokenizer import tokenizer_file
from limbeck.storage.workspace import read_json

__all__ = ["Vocabulary", "read_vocabulary"]

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORDS = rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = "byte-level"
"""Stands for the pattern that the byte-level pre-tokenizer has built in."""

CUTS: Mapping[tuple[tuple[str, ...], bool], str] = {
    ((GPT2,), False): "gpt-2",
    (("digits", GPT2), False): "smollm",
    ((rf"{WORDS}|\p{{N}}{{1,3}}{REST}",), True): "llama-bpe",
    ((rf"{WORDS}|\p{{N}}{{1,3}}{REST}",), False): "smaug-bpe",
    ((rf"{WORDS}|\p{{N}}{REST}",), False): "qwen2",
}
"""From the steps of a pre-tokenizer, and whether a word that is a token is taken whole (``ignore_merges``), to
llama.cpp's name for it (src/llama-vocab.cpp, ``load``)."""

LAST = -10_000.0
"""The score of a token that no merge makes."""


@dataclass(frozen=True)
class Vocabulary:
    """Everything that GGUF says of a tokenizer."""

    model: Literal["gpt2", "llama"]
    pre: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    """Pairs with a space between, best first; only ``gpt2`` has them."""
    scores: tuple[float, ...]
    """One for each token; only ``llama`` has them."""
    special: Mapping[str, int]
    """Token ids of bos, eos, eot, unk and pad, as far as there are such."""
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    chat_template: str | None


def read_vocabulary(folder: Path, rows: int) -> Vocabulary:
    """The vocabulary of the tokenizer in ``folder``, for a model with ``rows`` rows of embeddings.

    Rows without a token are padding, as GGUF wants a token for each; tokens without a row do not exist for the
    model. Raises `DamagedArtifact` for a tokenizer that cannot be read, `NotYet` for one that GGUF cannot be told of.
    """
    path = tokenizer_file(folder)
    tokenizer = read_json(path)
    try:
        kind, pre = _kind(tokenizer, path)
        tokens, types = _tokens(tokenizer, rows, kind)
        pairs = [tuple(m.split(" ", 1)) if isinstance(m, str) else tuple(m) for m in tokenizer["model"]["merges"]]
    except (KeyError, TypeError, IndexError) as error:
        raise DamagedArtifact(f"{path}: not a tokenizer as the tokenizers library writes it ({error!r})") from None
    ids = {row["content"]: int(row["id"]) for row in tokenizer["added_tokens"]}
    template = chat_template(folder)
    special = {name: at for name, at in _special(folder, ids, template).items() if at < rows}
    first, last = _ends(tokenizer.get("post_processor"))
    return Vocabulary(
        kind,
        pre,
        tuple(tokens),
        tuple(types),
        tuple(" ".join(pair) for pair in pairs) if kind == "gpt2" else (),
        _scores(tokens, pairs) if kind == "llama" else (),
        special,
        first is not None and ids.get(first) == special.get("bos"),
        last is not None and ids.get(last) == special.get("eos"),
        kind == "llama" and _prefixes_a_space(tokenizer),
        template,
    )


def _kind(tokenizer: Mapping[str, Any], path: Path) -> tuple[Literal["gpt2", "llama"], str]:
    model = tokenizer["model"]
    steps = _steps(tokenizer.get("pre_tokenizer"))
    if model["type"] == "BPE" and model.get("byte_fallback") and None not in steps and set(steps) <= {"spaces"}:
        return "llama", "default"
    normalizer = (tokenizer.get("normalizer") or {"type": "NFC"})["type"]
    cut = CUTS.get((tuple(str(step) for step in steps), bool(model.get("ignore_merges"))))
    if model["type"] == "BPE" and cut is not None and normalizer == "NFC":
        return "gpt2", cut
    found = ", ".join(f'"{step["type"]}"' for step in _flat(tokenizer.get("pre_tokenizer"))) or "none"
    raise NotYet(
        f"{path}: a {model['type']} tokenizer with the pre-tokenizers {found} and a normalizer or pattern that GGUF"
        f" cannot be told of; expected one that cuts text as {', '.join(sorted(set(CUTS.values())))} do, or BPE over"
        " characters with byte_fallback, as Llama 2 and Gemma have it"
    )


def _flat(pre_tokenizer: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if pre_tokenizer is None:
        return []
    return list(pre_tokenizer["pretokenizers"]) if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]


def _steps(pre_tokenizer: Mapping[str, Any] | None) -> list[str | None]:
    """What each step of a pre-tokenizer cuts at; None for one that is not known."""
    steps: list[str | None] = []
    for step in _flat(pre_tokenizer):
        match step["type"]:
            case "ByteLevel" if not step["add_prefix_space"]:
                steps += [GPT2] if step.get("use_regex", True) else []
            case "Digits" if step["individual_digits"]:
                steps.append("digits")
            case "Split" if step["behavior"] == "Isolated" and not step["invert"]:
                steps.append(step["pattern"].get("Regex"))
            case "Split" if step["pattern"] == {"String": " "}:
                steps.append("spaces")
            case "Metaspace" if not step.get("split", True):
                steps.append("spaces")
            case _:
                steps.append(None)
    return steps


def _tokens(tokenizer: Mapping[str, Any], rows: int, kind: str) -> tuple[list[str], list[int]]:
    tokens = [f"[PAD{at}]" for at in range(rows)]
    types = [int(TokenType.UNUSED)] * rows
    unknown = tokenizer["model"].get("unk_token")
    for token, at in tokenizer["model"]["vocab"].items():
        if at < rows:
            tokens[at] = token
            types[at] = int(TokenType.NORMAL)
            if kind == "llama" and len(token) == 6 and token.startswith("<0x"):
                types[at] = int(TokenType.BYTE)
    for row in tokenizer["added_tokens"]:
        if row["id"] < rows:
            # A token the user defined is looked for in the text as it is, before spaces are replaced.
            tokens[row["id"]] = row["content"] if kind == "gpt2" else row["content"].replace("▁", " ")
            types[row["id"]] = int(TokenType.CONTROL if row["special"] else TokenType.USER_DEFINED)
            if kind == "llama" and row["content"] == unknown:
                types[row["id"]] = int(TokenType.UNKNOWN)
    return tokens, types


def _scores(tokens: Sequence[str], pairs: Sequence[Sequence[str]]) -> tuple[float, ...]:
    first: dict[str, int] = {}
    for rank, (left, right) in enumerate(pairs):
        first.setdefault(left + right, rank)
    return tuple(-float(first[token]) if token in first else LAST - len(first) for token in tokens)


def _special(folder: Path, ids: Mapping[str, int], template: str | None) -> dict[str, int]:
    named: dict[str, Any] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / file).exists():
            named |= read_json(folder / file)
    special: dict[str, int] = {}
    for name in ("bos", "eos", "unk", "pad"):
        value = named.get(f"{name}_token")
        token = value.get("content") if isinstance(value, dict) else value
        if isinstance(token, str) and token in ids:
            special[name] = ids[token]
    ended = turn_end(template, named) if template else None
    closing = [token for token in ids if ended and ended.startswith(token)]
    if closing:
        special["eot"] = ids[max(closing, key=len)]
    return special


def _ends(post_processor: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    """The special tokens put before and after a text."""
    if post_processor is None:
        return None, None
    steps = post_processor["processors"] if post_processor["type"] == "Sequence" else [post_processor]
    for step in steps:
        if step["type"] == "TemplateProcessing" and step["single"]:
            first, last = step["single"][0], step["single"][-1]
            return first.get("SpecialToken", {}).get("id"), last.get("SpecialToken", {}).get("id")
    return None, None


def _prefixes_a_space(tokenizer: Mapping[str, Any]) -> bool:
    normalizer = tokenizer.get("normalizer") or {}
    normalizers = normalizer.get("normalizers", [normalizer])
    metaspace = [step for step in _flat(tokenizer.get("pre_tokenizer")) if step["type"] == "Metaspace"]
    return any(step.get("type") == "Prepend" for step in normalizers) or any(
        step.get("prepend_scheme", "always") != "never" for step in metaspace
    )
