# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Line plots as inline SVG: readable without JavaScript, in print, on a light and on a dark page. Pure.

Colours come from the page's style sheet (classes ``s0`` to ``s5`` for series).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 46


class Series(NamedTuple):
    name: str
    points: Sequence[tuple[float, float]]  # x, y; in the order of the line
    labels: Sequence[str] = ()  # of the points, shown beside them


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers from `low` to `high`, both inside the first and the last."""
    if not high > low:
        high = low + 1.0
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    ticks = [first * step]
    while ticks[-1] < high - 1e-9 * step:
        ticks.append((first + len(ticks)) * step)
    return ticks


def short(value: float) -> str:
    """A number as a label of an axis."""
    if abs(value) >= 10000:
        return f"{value / 1000:g}k"
    return f"{value:.4g}"


def plot(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    log_x: bool = False,
    limit: tuple[float, str] | None = None,
    title: str = "",
) -> str:
    """One plot; `limit` is a horizontal line with its name, such as a service level. "" where there is nothing to draw.

    :param log_x: powers of two on the x axis, for numbers of streams.
    """
    series = [item for item in series if item.points]
    if not series:
        return ""
    xs = [x for item in series for x, _y in item.points]
    ys = [y for item in series for _x, y in item.points]
    if limit and limit[0] <= 3 * max(ys):
        ys.append(limit[0])
    y_ticks = nice_ticks(0.0, max(ys) or 1.0)
    if log_x:
        x_ticks = [2.0**power for power in range(math.floor(math.log2(min(xs))), math.ceil(math.log2(max(xs))) + 1)]
    else:
        x_ticks = nice_ticks(0.0, max(xs) or 1.0)

    def scale(x: float) -> float:
        if not log_x:
            return x / x_ticks[-1]
        return math.log2(x / x_ticks[0]) / max(math.log2(x_ticks[-1] / x_ticks[0]), 1e-9)

    # The names stand above the lines, not among them.
    top = TOP + (18 if len(series) > 1 else 0)
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - top - BOTTOM

    def at(x: float, y: float) -> tuple[str, str]:
        return f"{LEFT + across * scale(x):.1f}", f"{top + down * (1 - y / y_ticks[-1]):.1f}"

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{escape(title or y_label)}</title>']
    for tick in y_ticks:
        _x, y = at(x_ticks[0], tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y}" dy="4" text-anchor="end">{short(tick)}</text>')
    for tick in x_ticks:
        x, _y = at(tick, 0)
        parts.append(f'<text class="tick" x="{x}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{short(tick)}</text>')
    centre, middle = LEFT + across / 2, top + down / 2
    parts.append(f'<text class="axis" x="{centre:.0f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text class="axis" x="14" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 14 {middle:.0f})">'
        f"{escape(y_label)}</text>"
    )
    if limit and limit[0] <= y_ticks[-1]:
        _x, y = at(x_ticks[0], limit[0])
        parts.append(f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{LEFT + 6}" y="{y}" dy="-4">{escape(limit[1])}</text>')
    for number, item in enumerate(series):
        places = [at(x, y) for x, y in item.points]
        line = " ".join(f"{x},{y}" for x, y in places)
        parts.append(f'<polyline class="line s{number % 6}" points="{line}"/>')
        if len(places) <= 40:
            parts += [f'<circle class="dot s{number % 6}" cx="{x}" cy="{y}" r="3"/>' for x, y in places]
        for (x, y), label in zip(places, item.labels):
            parts.append(f'<text class="tick" x="{x}" y="{y}" dx="6" dy="-6">{escape(label)}</text>')
    if len(series) > 1:
        for number, item in enumerate(series):
            x = LEFT + across * number // len(series)
            parts.append(f'<rect class="key s{number % 6}" x="{x}" y="{top - 20}" width="10" height="10"/>')
            parts.append(f'<text class="tick" x="{x + 15}" y="{top - 12}" dy="1">{escape(item.name)}</text>')
    parts.append("</svg>")
    return "".join(parts)
