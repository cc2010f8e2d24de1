"""The examination of continued pre-training: perplexity of held-out documents and of general text, before and after.

Left in the folder: `documents.jsonl` (each held-out document's perplexity before and after), `report.json`,
`report.html`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from limbeck.evaluation.compare import STAGE, loss_curve
from limbeck.evaluation.general import Knowledge, knowledge_of, likelihoods
from limbeck.evaluation.metrics import FEWEST, mean_score, resamples
from limbeck.evaluation.page import page
from limbeck.evaluation.table import shown
from limbeck.models.loading import LoadedModel
from limbeck.recipe import Evaluation
from limbeck.records import Document, Report, Score
from limbeck.storage.workspace import Workspace, read_json, write_json, writing

__all__ = ["compare_reading", "verdict_on_reading"]

MOST_NATS = math.log(sys.float_info.max)
"""More is no number any more."""

Measured = tuple[Sequence[float], Sequence[int]]
"""Nats of each text, and its tokens."""


def compare_reading(
    before: LoadedModel,
    after: LoadedModel,
    documents: Sequence[Document],
    plan: Evaluation,
    pack_tokens: int,
    work: Workspace,
    inputs: Mapping[str, Any],
) -> Report:
    """Stage 5 of continued pre-training, on the held-out ``documents``."""
    held_out = [document for document in documents if document.split == "held-out"][: plan.rows]
    models = {"student before": before, "student after": after}

    def make(folder: Any) -> None:
        own, general = {}, {}
        with work.progress.task("reading held-out and general text", len(models), "models") as task:
            for part, model in models.items():
                work.stop.check()
                own[part] = likelihoods(model, [one.text for one in held_out], pack_tokens)
                general[part] = knowledge_of(model, pack_tokens)
                task.advance()
        figures = {
            part: {
                "id": model.id,
                "parameters": model.parameters,
                "perplexity": asdict(perplexity(own[part], plan.seed)),
                "general_perplexity": asdict(perplexity((general[part].nats, general[part].tokens), plan.seed)),
                "general_choices": asdict(mean_score(general[part].right, plan.seed)),
            }
            for part, model in models.items()
        }
        ship, verdict = verdict_on_reading(own, general, plan.forgetting, plan.seed)
        details = {
            "metric": "perplexity",
            "tolerance": plan.forgetting,
            "loss_curve": loss_curve(folder.parent / "4-training"),
        }
        report = Report(figures, len(held_out), verdict, ship, details)
        with writing(folder / "documents.jsonl") as file:
            for at, one in enumerate(held_out):
                each = {part: _exp(nats[at] / max(1, tokens[at])) for part, (nats, tokens) in own.items()}
                file.write(json.dumps({"file": one.file, "line": one.line, **each}) + "\n")
        write_json(folder / "report.json", asdict(report))
        with writing(folder / "report.html") as file:
            file.write(page(work.name, report))

    fixed = {**inputs, "documents": [one.id for one in held_out], "plan": plan.model_dump(mode="json")}
    folder = work.step(STAGE, fixed, make)
    return Report(**read_json(folder / "report.json"))


def perplexity(measured: Measured, seed: int) -> Score:
    """exp of the mean negative log-likelihood a token, with its interval: texts are drawn anew, tokens weigh alike."""
    value, drawn = _bootstrap(measured, seed)
    low, high = (_exp(end) for end in np.quantile(drawn, [0.025, 0.975]))
    return Score(_exp(value), low, high, len(measured[0]))


def verdict_on_reading(
    own: Mapping[str, Measured], general: Mapping[str, Knowledge], forgetting: float, seed: int
) -> tuple[bool, str]:
    """Ship if held-out perplexity clearly fell and general perplexity did not rise by more than ``forgetting``."""
    told = {part: perplexity(measured, seed).value for part, measured in own.items()}
    fell = _ratio(own["student before"], own["student after"], seed)
    rise = _ratio(*((known.nats, known.tokens) for known in general.values()), seed)  # type: ignore[call-arg,arg-type]
    read = (
        f"held-out perplexity {shown(told['student before'])} before, {shown(told['student after'])} after"
        f" ({_percent(fell.value)}, 95% interval {_percent(fell.low)} to {_percent(fell.high)})"
    )
    kept = (
        f"general perplexity {_percent(rise.value)}"
        f" (95% interval {_percent(rise.low)} to {_percent(rise.high)}; {_percent(forgetting)} are allowed)"
    )
    if (texts := len(own["student after"][0])) < FEWEST:
        return False, f"do not ship: {texts} held-out texts tell nothing from chance ({read}); hold out more; {kept}."
    if not fell.high < 0:  # nor where it is no number
        return False, f"do not ship: {read}, which is no clear gain; {kept}."
    if not rise.value <= forgetting:
        return False, f"do not ship: it forgets, {kept}; {read}. A lower learning rate or fewer epochs forget less."
    return True, f"ship: {read}; {kept}."


def _ratio(before: Measured, after: Measured, seed: int) -> Score:
    """By how much perplexity changed, as a share of what it was; paired: the same texts are drawn for both."""
    (first, drawn_first), (last, drawn_last) = _bootstrap(before, seed), _bootstrap(after, seed)
    low, high = (_exp(end) - 1 for end in np.quantile(drawn_last - drawn_first, [0.025, 0.975]))
    return Score(_exp(last - first) - 1, low, high, len(before[0]))


def _bootstrap(measured: Measured, seed: int) -> tuple[float, np.ndarray[Any, Any]]:
    """Mean nats a token, and the same of as many texts drawn with replacement, again and again."""
    nats, tokens = (np.asarray(part, dtype=np.float64) for part in measured)
    drawn = [nats[chosen].sum(axis=1) / tokens[chosen].sum(axis=1) for chosen in resamples(len(nats), seed)]
    return float(nats.sum() / tokens.sum()), np.concatenate(drawn)


def _exp(nats: float) -> float:
    """exp, of a ruined model's nats the most there is: infinity is no JSON."""
    return math.exp(nats) if nats < MOST_NATS or math.isnan(nats) else sys.float_info.max


def _percent(share: float) -> str:
    return f"{100 * share:+.1f}%" if share < 1000 else f"{100 * share:+.1e}%"
