"""A vocabulary trimmed to what a task's texts need: fewer rows of embeddings, and a smaller head.

A small student of a large vocabulary spends more on its head than on its layers: in SmolLM2-135M's first six layers
there are 21 million weights, in its 49,152 embeddings 28. What no text of a task uses can go.

Kept are the tokens of the texts, the tokens they are merged from, single bytes, and every token that is matched whole
(turns' ends and the like); then, up to the number asked for, the commonest of the rest. A text whose tokens are all
kept is cut into the very same ones: merging takes the best pair there is, of all that were taken none is missing, and
those that are missing were never taken. Any other text is spelled in smaller pieces, at worst in bytes. Weights are
copied, so the model says of kept tokens what it said before, but for those that are gone.

Known are byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM) and BPE over characters that falls back on bytes (Llama 2).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoTokenizer

from limbeck.errors import NotYet
from limbeck.models.assembly import assembled
from limbeck.models.chat import Renderer
from limbeck.models.loading import LoadedModel
from limbeck.models.students import scaled_prices
from limbeck.models.token_bytes import byte_letters
from limbeck.records import digest

__all__ = ["check_trimmable", "needed", "trim", "trimmed_tokenizer"]

Layout = dict[str, Any]
"""A tokenizer.json."""


def trim(model: LoadedModel, texts: Iterable[Sequence[int]], most: int) -> tuple[LoadedModel, dict[int, int]]:
    """``model`` with the tokens that ``texts`` (token ids) need, filled up with the commonest to ``most``; and the new
    id of each token that is kept.

    Where the texts need more than ``most``, all they need are kept. ``model`` is left as it is. Raises `NotYet` for a
    kind of tokenizer that is not known.
    """
    tokenizer = model.renderer.tokenizer
    check_trimmable(tokenizer)
    layout: Layout = json.loads(tokenizer.backend_tokenizer.to_str())
    rows = int(model.model.get_input_embeddings().weight.shape[0])
    used = {token for text in texts for token in text}
    kept = [token for token in needed(layout, used, most) if token < rows]
    place = {token: at for at, token in enumerate(kept)}
    smaller = _with_rows(model.model, kept, place)
    stop_ids = [place[token] for token in model.renderer.stop_ids if token in place]
    trimmed = LoadedModel(
        model.id,
        smaller,
        Renderer(trimmed_tokenizer(tokenizer, layout, place), stop_ids),
        replace(model.source, prices=scaled_prices(smaller, model)),
        digest([model.fingerprint, "vocabulary", kept]),
    )
    return trimmed, place


def check_trimmable(tokenizer: Any) -> None:
    """Raises `NotYet` for a tokenizer that is not BPE with bytes to fall back on."""
    layout: Layout = json.loads(tokenizer.backend_tokenizer.to_str())
    if layout["model"]["type"] != "BPE" or not (_byte_level(layout) or layout["model"].get("byte_fallback")):
        raise NotYet(
            f"student.shrink.vocabulary: {tokenizer.name_or_path} has a tokenizer of another kind"
            f" ({layout['model']['type']}); expected BPE that can spell any text in bytes. Drop the key"
        )


def needed(layout: Layout, used: set[int], most: int) -> list[int]:
    """The ids to keep, rising: those ``used``, what they are merged from, bytes, tokens matched whole; then the
    commonest, as far as they fit in ``most``."""
    vocabulary: dict[str, int] = layout["model"]["vocab"]
    texts = {token: text for text, token in vocabulary.items()}
    ranks = {pair: rank for rank, pair in enumerate(_merges(layout))}
    kept = {int(one["id"]) for one in layout["added_tokens"]}
    kept |= {vocabulary[letter] for letter in _alphabet(layout) if letter in vocabulary}
    if layout["model"].get("unk_token") is not None:
        kept.add(vocabulary[layout["model"]["unk_token"]])

    def merged_from(token: int) -> set[int]:
        """The token, and all that stands in between when its text is merged."""
        return (
            {token}
            | {vocabulary[left + right] for left, right in _merged(texts[token], ranks)}
            | {vocabulary[letter] for letter in texts[token] if letter in vocabulary}
        )

    for token in sorted(used):
        if token in texts and token not in kept:
            kept |= merged_from(token)
    for left, right in ranks:  # the order of merges is the order of how common they are
        token = vocabulary[left + right]
        if len(kept) >= most:
            break
        if token not in kept and len(more := merged_from(token) - kept) + len(kept) <= most:
            kept |= more
    return sorted(kept)


def trimmed_tokenizer(tokenizer: Any, layout: Layout, place: Mapping[int, int]) -> Any:
    """``tokenizer`` (transformers' fast one) with the tokens of ``place`` alone, under their new ids."""
    layout = copy.deepcopy(layout)
    model = layout["model"]
    model["vocab"] = {text: place[token] for text, token in model["vocab"].items() if token in place}
    model["merges"] = [
        [left, right] for left, right in _merges(layout) if {left, right, left + right} <= model["vocab"].keys()
    ]
    layout["added_tokens"] = [{**one, "id": place[one["id"]]} for one in layout["added_tokens"] if one["id"] in place]
    _renumber(layout.get("post_processor"), place)
    with TemporaryDirectory() as made:
        folder = Path(made)
        tokenizer.save_pretrained(folder)
        (folder / "tokenizer.json").write_text(json.dumps(layout, ensure_ascii=False), encoding="utf-8")
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        settings.pop("added_tokens_decoder", None)  # by the ids they had
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")
        for older in ("vocab.json", "merges.txt", "tokenizer.model", "added_tokens.json"):
            (folder / older).unlink(missing_ok=True)
        smaller = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    smaller.name_or_path = tokenizer.name_or_path
    return smaller


def _with_rows(model: Any, kept: Sequence[int], place: Mapping[int, int]) -> Any:
    """A copy of ``model`` with some rows of its embeddings and head."""
    config, generation = copy.deepcopy(model.config), copy.deepcopy(model.generation_config)
    config.vocab_size = len(kept)
    for settings in (config, generation):
        for name, value in settings.to_dict().items():
            if name.endswith("_token_id"):
                setattr(settings, name, _moved(value, place))
    head = model.get_output_embeddings()
    with_rows = {id(model.get_input_embeddings().weight), id(head.weight), id(getattr(head, "bias", None))}
    of_words = {name for name, one in model.named_parameters(remove_duplicate=False) if id(one) in with_rows}
    rows = torch.tensor(list(kept), device=model.device)
    weights = {name: one.index_select(0, rows) if name in of_words else one for name, one in model.state_dict().items()}
    smaller = assembled(config, weights, model.dtype, model.device)
    smaller.get_input_embeddings().padding_idx = None
    smaller.generation_config = generation
    return smaller


def _moved(value: int | list[int] | None, place: Mapping[int, int]) -> int | list[int] | None:
    if isinstance(value, list):
        return [place[token] for token in value if token in place]
    return None if value is None else place.get(value)


def _merges(layout: Layout) -> list[tuple[str, str]]:
    """Best first; older files have a pair as one string."""
    pairs = layout["model"]["merges"]
    return [(left, right) for left, right in (one.split(" ", 1) if isinstance(one, str) else one for one in pairs)]


def _merged(text: str, ranks: Mapping[tuple[str, str], int]) -> list[tuple[str, str]]:
    """The merges that make one token of ``text``, in their order."""
    pieces: list[str] = list(text)
    done: list[tuple[str, str]] = []
    while True:
        pairs = [(ranks[pair], at) for at, pair in enumerate(pairwise(pieces)) if pair in ranks]
        if not pairs:
            return done
        _, at = min(pairs)
        done.append((pieces[at], pieces[at + 1]))
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]


def _alphabet(layout: Layout) -> set[str]:
    """What every text can be spelled with."""
    if _byte_level(layout):
        return set(byte_letters())
    return {f"<0x{byte:02X}>" for byte in range(256)} | {chr(byte) for byte in range(128)} | {"▁"}


def _byte_level(layout: Layout) -> bool:
    return '"ByteLevel"' in json.dumps(layout.get("decoder"))


def _renumber(post_processor: Any, place: Mapping[int, int]) -> None:
    """Special tokens that are put around a text, wherever a post-processor names their ids."""
    if isinstance(post_processor, list):
        for one in post_processor:
            _renumber(one, place)
    elif isinstance(post_processor, dict):
        for name in ("sep", "cls"):
            if name in post_processor:
                text, token = post_processor[name]
                post_processor[name] = [text, place[token]]
        for one in post_processor.get("special_tokens", {}).values():
            one["ids"] = [place[token] for token in one["ids"]]
        _renumber(post_processor.get("processors"), place)
