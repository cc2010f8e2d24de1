"""Who learns: a model to start from, whole or cut smaller, before its first step."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from limbeck.models.catalog import ModelSource, Prices
from limbeck.models.loading import LoadedModel
from limbeck.models.shrink import choose_layers, keep_layers
from limbeck.recipe import Shrink
from limbeck.records import digest

__all__ = ["begin", "working_parameters"]


def begin(base: LoadedModel, shrink: Shrink | None, name: str) -> LoadedModel:
    """A student that starts as ``base``, or as the layers of it that ``shrink`` keeps. ``base`` is left as it is.

    Its prices are its base's, scaled by the share of weights that work on each token.
    """
    layers = None if shrink is None else choose_layers(shrink.layers, base.model.config.num_hidden_layers)
    model = copy.deepcopy(base.model) if layers is None else keep_layers(base.model, layers)
    share = working_parameters(model) / working_parameters(base.model)
    prices = base.source.prices and Prices(
        input=base.source.prices.input * share, output=base.source.prices.output * share
    )
    source = ModelSource(name, base.source.path, prices)
    return LoadedModel(name, model, base.renderer, source, digest([base.fingerprint, layers]))


def working_parameters(model: Any) -> int:
    """Weights that a token is multiplied with: all but an input embedding that is not also the head."""
    whole: int = sum(p.numel() for p in model.parameters())
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    return whole if tied else whole - int(model.get_input_embeddings().weight.numel())


def renamed(model: LoadedModel, fingerprint: str) -> LoadedModel:
    """The same model, known by another fingerprint: after its weights have changed."""
    return replace(model, fingerprint=fingerprint)
