"""The report as a page: the verdict, the measurements, quality against latency, losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from limbeck.evaluation.table import cells, columns
from limbeck.page import render
from limbeck.records import Report

__all__ = ["page"]

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 16, 40


def page(job: str, report: Report) -> str:
    """The page for one job's report."""
    return render(
        __package__ or "",
        "page.html.j2",
        job=job,
        report=report,
        verdict=report.verdict[0].upper() + report.verdict[1:],
        columns=columns(report),
        rows=[cells(part, measured) for part, measured in report.models.items()],
        quality=Markup(_quality_plot(report)),  # noqa: S704 (made here, from numbers and escaped names)
        losses=Markup(_loss_plot(report.details.get("loss_curve", {}))),  # noqa: S704
    )


def _quality_plot(report: Report) -> str:
    """Quality against latency, on a logarithmic axis, with intervals: up and to the left is better."""
    metric = report.details["metric"]
    points = []
    for part, measured in report.models.items():
        score = measured.get(metric) or measured.get("agreement")
        if score is not None and "latency" in measured:
            points.append((part, 1000 * measured["latency"]["p50"], score))
    if not points:
        return ""
    low = math.floor(math.log10(min(x for _, x, _ in points)) - 0.15)
    high = math.ceil(math.log10(max(x for _, x, _ in points)) + 0.15)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (math.log10(x) - low) / (high - low) * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM)

    marks = [_axis_y([0, 0.25, 0.5, 0.75, 1.0], 0.0, 1.0, lambda v: f"{100 * v:.0f}%")]
    for power in range(low, high + 1):
        x, _ = place(10.0**power, 0)
        marks.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" class="grid"/>')
        marks.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" class="tick" text-anchor="middle">{10.0**power:g}</text>'
        )
    for part, x_value, score in points:
        x, y = place(x_value, score["value"])
        _, top = place(x_value, score["high"])
        _, bottom = place(x_value, score["low"])
        kind = part.replace(" ", "-")
        anchor, shift = ("end", -10) if x > WIDTH * 0.7 else ("start", 10)
        marks.append(
            f'<g class="{kind}"><line x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
            f'<text x="{x + shift:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}">{part}</text></g>'
        )
    return _figure(marks, f"{metric.replace('_', ' ')} against milliseconds a request (p50, logarithmic)")


def _loss_plot(curves: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Training and validation loss over the steps."""
    values = [loss for curve in curves.values() for _, loss in curve]
    if not values:
        return ""
    last = max(1.0, *(step for curve in curves.values() for step, _ in curve))
    top = max(values) or 1.0
    ticks = [top * i / 4 for i in range(5)]
    marks = [_axis_y(ticks, 0.0, top, lambda v: f"{v:.2g}")]
    for i in range(5):
        x = LEFT + i / 4 * (WIDTH - LEFT - RIGHT)
        marks.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" class="tick" text-anchor="middle">{last * i / 4:.0f}</text>'
        )
    for name, curve in curves.items():
        across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        path = " ".join(
            f"{LEFT + step / last * across:.1f},{HEIGHT - BOTTOM - loss / top * down:.1f}" for step, loss in curve
        )
        marks.append(f'<polyline points="{path}" class="{name}"/>')
    return _figure(marks, "loss by step: training (thin) and validation (thick)")


def _axis_y(ticks: Sequence[float], low: float, high: float, label: Any) -> str:
    marks = []
    for tick in ticks:
        y = HEIGHT - BOTTOM - (tick - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
        marks.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" class="grid"/>')
        marks.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" class="tick" text-anchor="end">{label(tick)}</text>')
    return "".join(marks)


def _figure(marks: Sequence[str], caption: str) -> str:
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{caption}">{"".join(marks)}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
