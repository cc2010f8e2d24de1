"""The data report's figures, as SVG: bars, a histogram, points on a map. Every text in them is escaped."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from markupsafe import Markup, escape

__all__ = ["bars", "histogram", "scatter"]

WIDTH, HEIGHT = 640, 320
LEFT, BOTTOM = 56, 40
NAME, ROW = 160, 22
"""Width of a bar's name and height of its row."""
COLORS = ("#2458c5", "#0a7d4f", "#b3402a", "#8a5cc4", "#c18a1b", "#1f8a99", "#c2477f", "#6b7280")
"""Told apart on light and on dark paper, and by eyes that do not tell red from green."""


def bars(counts: Sequence[tuple[str, int]], caption: str, good: str | None = None) -> Markup:
    """One bar a name, with its number; the one called ``good`` is green."""
    if not counts:
        return Markup("")
    most, total = max(count for _, count in counts), sum(count for _, count in counts)
    marks = []
    for at, (name, count) in enumerate(counts):
        y, length = at * ROW, (WIDTH - NAME - 110) * count / most
        color = "var(--good)" if name == good else "var(--accent)"
        marks.append(
            Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(NAME - 8, y + 15, name[:24])
            + Markup('<rect x="{}" y="{}" width="{:.1f}" height="{}" fill="{}"/>').format(
                NAME, y + 3, max(length, 1), ROW - 6, color
            )
            + Markup('<text x="{:.1f}" y="{}" class="tick">{:,} ({:.0%})</text>').format(
                NAME + length + 6, y + 15, count, count / total
            )
        )
    return _figure(marks, len(counts) * ROW, caption)


def histogram(series: Sequence[tuple[str, Sequence[int]]], caption: str) -> Markup:
    """How often each length is met, for up to two series, in columns that double in width."""
    most = max((length for _, lengths in series for length in lengths), default=0)
    if not most:
        return Markup("")
    edges = [0, *(2**power for power in range(1, max(2, math.ceil(math.log2(most + 1)) + 1)))]
    counted = [
        (name, [sum(low <= length < high for length in lengths) for low, high in itertools.pairwise(edges)])
        for name, lengths in series
    ]
    top = max(max(counts) for _, counts in counted) or 1
    column = (WIDTH - LEFT - 16) / (len(edges) - 1)
    floor = HEIGHT - BOTTOM
    marks = [Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="grid"/>').format(LEFT, floor, WIDTH - 16, floor)]
    for at, low in enumerate(edges[:-1]):
        text = Markup('<text x="{:.1f}" y="{}" class="tick" text-anchor="middle">{}</text>')
        marks.append(text.format(LEFT + at * column, floor + 16, low))
    for place, (name, counts) in enumerate(counted):
        width = (column - 4) / len(counted)
        for at, count in enumerate(counts):
            tall = (floor - 24) * count / top
            marks.append(
                Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="{}"><title>{}</title></rect>')
                .format(LEFT + at * column + 2 + place * width, floor - tall, width, tall, COLORS[place],
                        f"{count:,} {name} of {edges[at]} to {edges[at + 1] - 1} characters")
            )  # fmt: skip
        marks.append(_legend(place, name))
    return _figure(marks, HEIGHT, caption)


def scatter(points: Sequence[tuple[float, float, int, str]], names: Sequence[str], caption: str) -> Markup:
    """Points (x, y, group, title) in the colors of their groups, whose ``names`` are the legend."""
    if not points:
        return Markup("")
    xs, ys = [x for x, *_ in points], [y for _, y, *_ in points]
    wide, tall = (max(xs) - min(xs)) or 1.0, (max(ys) - min(ys)) or 1.0
    circle = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3" fill="{}" fill-opacity="0.6"><title>{}</title></circle>')
    marks = [
        circle.format(
            12 + (x - min(xs)) / wide * (WIDTH - 24),
            HEIGHT - 12 - (y - min(ys)) / tall * (HEIGHT - 24),
            COLORS[group % len(COLORS)],
            title[:120],
        )
        for x, y, group, title in points
    ]
    below = [_legend(at, name, HEIGHT + 16 + at * 18, 12) for at, name in enumerate(names)]
    return _figure([*marks, *below], HEIGHT + 18 * len(names) + 8, caption)


def _legend(place: int, name: str, y: int = 12, x: int | None = None) -> Markup:
    left = LEFT + 160 * place if x is None else x
    return Markup('<circle cx="{}" cy="{}" r="5" fill="{}"/><text x="{}" y="{}">{}</text>').format(
        left, y - 4, COLORS[place % len(COLORS)], left + 10, y, name[:90]
    )


def _figure(marks: Sequence[Markup], height: int, caption: str) -> Markup:
    return (
        Markup('<figure><svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, height, caption)
        + Markup("").join(marks)
        + Markup("</svg><figcaption>{}</figcaption></figure>").format(escape(caption))
    )
