"""Who learns: a model to start from, whole or cut smaller, before its first step."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from typing import Any

from limbeck.models.budget import Candidate, candidates
from limbeck.models.catalog import ModelSource, Prices
from limbeck.models.loading import LoadedModel
from limbeck.models.shrink import choose, cut
from limbeck.recipe import Shrink
from limbeck.records import Prompt, digest

__all__ = ["begin", "scaled_prices", "within", "working_parameters"]


SAMPLE_TEXTS, SAMPLE_TOKENS = 32, 256
"""What importance is measured on, at most: some 8,000 tokens, seconds on a small model."""


def begin(base: LoadedModel, shrink: Shrink | None, name: str, prompts: Iterable[Prompt] = ()) -> LoadedModel:
    """A student that starts as ``base``, or as what ``shrink`` keeps of it. ``base`` is left as it is.

    Importance, where ``shrink`` asks for it, is measured on the first of ``prompts``; the same prompts make the same
    cut. Its prices are its base's, scaled by the share of weights that work on each token.
    """
    kept = None
    if shrink is not None:
        kept = choose(shrink, base.model, _sample(base, prompts) if shrink.measured else ())
    model = copy.deepcopy(base.model) if kept is None else cut(base.model, kept)
    source = ModelSource(name, base.source.path, scaled_prices(model, base))
    narrower = [] if shrink is None or kept is None or not shrink.measured else [kept.neurons, kept.groups]
    fingerprint = digest([base.fingerprint, None if kept is None else kept.layers, *narrower])
    return LoadedModel(name, model, base.renderer, source, fingerprint)


def within(base: LoadedModel, budget: Shrink, prompts: Iterable[Prompt]) -> list[Candidate]:
    """The cuts of ``base`` that were made and measured for ``budget``, the one to take first."""
    return candidates(budget, base.model, _sample(base, prompts))


def scaled_prices(model: Any, base: LoadedModel) -> Prices | None:
    """Those of ``base``, by the share of its weights that work on each token of ``model``."""
    prices, share = base.source.prices, working_parameters(model) / working_parameters(base.model)
    return prices and Prices(input=prices.input * share, output=prices.output * share)


def working_parameters(model: Any) -> int:
    """Weights that a token is multiplied with: all but an input embedding that is not also the head."""
    whole: int = sum(p.numel() for p in model.parameters())
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    return whole if tied else whole - int(model.get_input_embeddings().weight.numel())


def _sample(base: LoadedModel, prompts: Iterable[Prompt]) -> list[list[int]]:
    return [base.renderer.prompt(prompt)[:SAMPLE_TOKENS] for prompt in islice(prompts, SAMPLE_TEXTS)]


def renamed(model: LoadedModel, fingerprint: str) -> LoadedModel:
    """The same model, known by another fingerprint: after its weights have changed."""
    return replace(model, fingerprint=fingerprint)
