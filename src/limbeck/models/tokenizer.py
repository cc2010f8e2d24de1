"""A model's tokenizer and chat template without transformers: what `chat.Renderer` uses of a tokenizer, no more.

Training renders with transformers' tokenizer, serving with this one, both through the same `Renderer`; a test holds
their tokens equal. Opens in a fifth of a second and knows nothing of weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from limbeck.errors import DamagedArtifact, InvalidInput
from limbeck.models.header import read_gguf
from limbeck.models.template import chat_templates, environment
from limbeck.storage.workspace import write_json

__all__ = ["WRITTEN_BY", "Tokenizer", "tokenizer_file"]

WRITTEN_BY = "transformers writes it: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
"""How a folder whose tokenizer has another layout gets a tokenizer.json."""

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The special tokens that templates know by name."""

GGUF_NAMED = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
GGUF_CONTROL, GGUF_USER_DEFINED = 3, 4
"""Kinds of tokens in a GGUF file that are matched whole."""

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GGUF_SPLITS = {
    "default": None,
    "gpt-2": None,
    "smollm": pre_tokenizers.Digits(individual_digits=True),
    "llama-bpe": pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"),
    "llama3": pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"),
    "qwen2": pre_tokenizers.Split(Regex(LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")), behavior="isolated"),
}
"""How text is cut before merging, by the name a GGUF file gives it; None is GPT-2's own way alone."""

GPT2_TOO = ("default", "gpt-2", "smollm")
"""Where GPT-2's own way follows."""

WHOLE_WORDS = ("llama-bpe", "llama3")
"""Where a word that is a token is taken without merging."""


class Tokenizer:
    """Text to tokens and back, and conversations to text, for one model."""

    def __init__(
        self, backend: Backend, named: Mapping[str, str], chat_template: str | Mapping[str, str] | None, name: str
    ) -> None:
        backend.no_truncation()
        backend.no_padding()
        known = {token.content for token in backend.get_added_tokens_decoder().values()}
        missing = [token for token in dict.fromkeys(named.values()) if token not in known]
        backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in missing])
        self._backend = backend
        self._named = dict(named)
        self._compiled: dict[str, jinja2.Template] = {}
        self.chat_template = chat_template
        self.name_or_path = name

    @classmethod
    def open(cls, path: Path) -> Tokenizer:
        """The tokenizer of the model at ``path``: a folder in Hugging Face layout, or a GGUF file.

        Raises `DamagedArtifact` for files that cannot be read, `InvalidInput` for a GGUF file whose tokenizer is of
        a kind not known here.
        """
        try:
            return _from_gguf(path) if path.suffix == ".gguf" else _from_folder(path)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise DamagedArtifact(f"{path}: its tokenizer cannot be read: {error}") from None

    def save(self, folder: Path) -> None:
        """Write the tokenizer and its template into ``folder`` as transformers has them."""
        self._backend.save(str(folder / "tokenizer.json"))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **self._named}
        write_json(folder / "tokenizer_config.json", config)
        if isinstance(self.chat_template, str):
            (folder / "chat_template.jinja").write_text(self.chat_template, encoding="utf-8")

    @property
    def backend_tokenizer(self) -> Backend:
        """What does the work: the tokenizers package's own."""
        return self._backend

    def get_vocab(self) -> dict[str, int]:
        """Every token's id."""
        return dict(self._backend.get_vocab(with_added_tokens=True))

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Tokens matched whole in a text, by id."""
        return dict(self._backend.get_added_tokens_decoder())

    @property
    def all_special_tokens(self) -> list[str]:
        """The tokens that have a name, each once."""
        return list(dict.fromkeys(self._named[name] for name in NAMED if name in self._named))

    @property
    def all_special_ids(self) -> list[int]:
        """Their ids."""
        ids = map(self._backend.token_to_id, self.all_special_tokens)
        return [place for place in ids if place is not None]

    @property
    def eos_token_id(self) -> int | None:
        """The token that ends a sequence."""
        return self._backend.token_to_id(self._named["eos_token"]) if "eos_token" in self._named else None

    @property
    def bos_token(self) -> str | None:
        """The token that begins a sequence."""
        return self._named.get("bos_token")

    def encode(self, text: str, *, add_special_tokens: bool = True, split_special_tokens: bool = False) -> list[int]:
        """``text`` as tokens; with ``split_special_tokens`` a special token's name in it is plain text.

        The backend's batches let other threads run meanwhile, its single texts do not: one of megabytes would hold up
        every request of a service for seconds. The fast ones leave out where each token stood.
        """
        backend = self._splitting if split_special_tokens else self._backend
        (found,) = backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        return list(found.ids)

    @cached_property
    def _splitting(self) -> Backend:
        """The backend once more, for which special tokens are text: one switch of it says so to all who encode."""
        made = Backend.from_str(self._backend.to_str())
        made.encode_special_tokens = True
        return made

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of ``token_ids``."""
        return self._backend.decode(list(token_ids), skip_special_tokens=skip_special_tokens)

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        tokenize: bool = False,
        add_generation_prompt: bool = False,
    ) -> str:
        """The conversation as ``chat_template``, or the model's own, writes it. Raises `jinja2.TemplateError`."""
        assert not tokenize, "encode the text"
        source = chat_template or self.get_chat_template(tools=tools)
        if source not in self._compiled:
            self._compiled[source] = environment().from_string(source)
        return self._compiled[source].render(
            messages=[{key: value for key, value in one.items() if value is not None} for one in messages],
            tools=None if tools is None else list(tools),
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **self._named,
        )

    def get_chat_template(self, *, tools: Sequence[Mapping[str, Any]] | None = None) -> str:
        """The model's template, or which of them it has for conversations with ``tools``."""
        source = self.chat_template
        if isinstance(source, Mapping):
            source = source["tool_use"] if tools is not None and "tool_use" in source else source["default"]
        assert source is not None
        return source


def tokenizer_file(folder: Path) -> Path:
    """The tokenizer.json of a folder. Raises `DamagedArtifact` where there is none."""
    path = folder / "tokenizer.json"
    if not path.exists():
        raise DamagedArtifact(f"{folder}: no tokenizer.json; expected one ({WRITTEN_BY})")
    return path


def _from_folder(folder: Path) -> Tokenizer:
    backend = Backend.from_buffer(tokenizer_file(folder).read_bytes())
    config = _json(folder / "tokenizer_config.json")
    older = _json(folder / "special_tokens_map.json")
    named = {name: _content(config.get(name) or older.get(name)) for name in NAMED}
    templates = chat_templates(folder)
    template = templates if len(templates) > 1 and "default" in templates else templates.get("default")
    return Tokenizer(backend, {name: token for name, token in named.items() if token}, template, str(folder))


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _content(token: str | Mapping[str, Any] | None) -> str | None:
    return token["content"] if isinstance(token, Mapping) else token


def _from_gguf(path: Path) -> Tokenizer:
    """Byte-level BPE from a GGUF file's vocabulary and merges."""
    header = read_gguf(path)
    kind, cut = header.get("tokenizer.ggml.model"), header.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or cut not in GGUF_SPLITS:
        raise InvalidInput(
            f"{path}: its tokenizer is {kind}/{cut}; expected gpt2 with one of {', '.join(GGUF_SPLITS)};"
            " a folder in Hugging Face layout is served whatever its tokenizer"
        )
    tokens: list[str] = header["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in header["tokenizer.ggml.merges"]]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    backend = Backend(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=cut in WHOLE_WORDS))
    split = GGUF_SPLITS[cut]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cut in GPT2_TOO)
    backend.pre_tokenizer = byte_level if split is None else pre_tokenizers.Sequence([split, byte_level])
    backend.decoder = decoders.ByteLevel()
    for token, kind in zip(tokens, header.get("tokenizer.ggml.token_type", ()), strict=False):
        if kind in (GGUF_CONTROL, GGUF_USER_DEFINED):
            backend.add_tokens([AddedToken(token, special=kind == GGUF_CONTROL, normalized=False)])
    named = {}
    for name, key in GGUF_NAMED.items():
        place = header.get(f"tokenizer.ggml.{key}_token_id")
        if place is not None:
            named[name] = tokens[place]
    return Tokenizer(backend, named, header.get("tokenizer.chat_template"), str(path))
