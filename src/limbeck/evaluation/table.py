"""The report as a table of plain text, for a terminal and for a README."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limbeck.records import Report

__all__ = ["cells", "columns", "shown", "table"]

COLUMNS = (
    "model", "exact match", "token F1", "agreement", "p50 ms", "p95 ms", "tokens/s", "USD / 1,000 requests", "size",
)  # fmt: skip
READING = ("model", "held-out perplexity", "general perplexity", "general questions", "size")


def columns(report: Report) -> tuple[str, ...]:
    """The heads of a report's columns: of answers, or, after continued pre-training, of reading."""
    return READING if report.details["metric"] == "perplexity" else COLUMNS


def table(report: Report) -> str:
    """One row a model, columns padded to line up; quality in percent with its 95% interval."""
    rows = [columns(report), *(cells(part, measured) for part, measured in report.models.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(lines)


def cells(part: str, measured: Mapping[str, Any]) -> tuple[str, ...]:
    """One model's figures as text, a cell a column; a dash where there is none."""
    if "perplexity" in measured:
        return (
            part,
            _perplexity(measured["perplexity"]),
            _perplexity(measured["general_perplexity"]),
            _score(measured["general_choices"]),
            f"{measured['parameters'] / 1e6:.1f} M",
        )
    timed = measured["latency"]
    cost = measured.get("cost_per_1000_requests")
    size = measured.get("parameters")
    place = f" ({timed['place']})" if timed.get("place") else ""
    rate = timed["tokens_per_second"] if "parameters" in measured else None
    return (
        part,
        _score(measured.get("exact_match")),
        _score(measured.get("token_f1")),
        _score(measured.get("agreement")),
        f"{1000 * timed['p50']:.1f}{place}",
        f"{1000 * timed['p95']:.1f}{place}",
        f"{rate:.1f}" if rate is not None else "–",
        f"{cost:.4f}" if cost is not None else "–",
        f"{size / 1e6:.1f} M" if size else "–",
    )


def _score(score: Mapping[str, float] | None) -> str:
    if score is None:
        return "–"
    return f"{100 * score['value']:.1f}% ({100 * score['low']:.1f}–{100 * score['high']:.1f})"


def _perplexity(score: Mapping[str, float]) -> str:
    value, low, high = (shown(score[end]) for end in ("value", "low", "high"))
    return f"{value} ({low}–{high})"


def shown(perplexity: float) -> str:
    """A perplexity as people read it; a ruined model's has more digits than a table has columns."""
    return f"{perplexity:.2f}" if perplexity < 10_000 else f"{perplexity:.1e}"
