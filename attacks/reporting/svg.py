"""Charts as inline SVG: bars, a histogram of several groups, lines."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import cycle

__all__ = ["COLOURS", "bars", "histogram", "lines"]

COLOURS = (
    *("#1b6ca8", "#d1495b", "#8a8f98", "#e9a03b", "#3a8f6b", "#7d5ba6"),
    *("#12b5cb", "#8c564b", "#e377c2", "#222831"),
)

Point = tuple[float, float]


def bars(rows: Sequence[tuple[str, float, str]], label: str, *, width: int = 560) -> str:
    """Horizontal bars: (name, share in [0, 1], text at its end) each; the first one stands apart in grey."""
    left, right, step = 120, 90, 30
    room = width - left - right
    parts = []
    for i, (name, share, text) in enumerate(rows):
        y, length = i * step, max(share * room, 0.5)
        parts.append(
            _text(left - 8, y + 19, name, "end")
            + f'<rect x="{left}" y="{y + 5}" width="{room}" height="20" rx="2" fill="#eef1f4"/>'
            + f'<rect x="{left}" y="{y + 5}" width="{length:.1f}" height="20" rx="2" '
            f'fill="{COLOURS[0] if i else COLOURS[2]}"/>' + _text(left + room + 8, y + 19, text)
        )
    return _svg(width, step * len(rows) + 4, label, parts)


def histogram(groups: Mapping[str, Sequence[float]], label: str, axis: str, *, width: int = 720) -> str:
    """Counts of the values of each group in 40 bins, stacked; values that are not finite are left out."""
    finite = {name: [v for v in values if math.isfinite(v)] for name, values in groups.items()}
    everything = [v for values in finite.values() for v in values]
    if not everything:
        return ""
    low, high = min(everything), max(everything)
    low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
    ticks = _ticks(low, high)
    bins, left, height = 40, 46, 190
    legend, top = _legend(list(groups), left, width)
    scale = (width - left - 10) / bins
    counts = {name: _counts(values, low, high, bins) for name, values in finite.items()}
    tallest = max(map(sum, zip(*counts.values(), strict=True)))
    parts, base = [], [0] * bins
    for colour, rows in zip(COLOURS, counts.values(), strict=False):
        for k, count in enumerate(rows):
            if count:
                y = top + height * (1 - (base[k] + count) / tallest)
                parts.append(
                    f'<rect x="{left + k * scale:.1f}" y="{y:.1f}" width="{scale - 1:.1f}" '
                    f'height="{height * count / tallest:.1f}" fill="{colour}"/>'
                )
                base[k] += count
    x_of = _scaler(low, high, left, left + bins * scale)
    parts += [_tick_x(x_of(t), top, height, t) for t in ticks]
    parts += [_tick_y(left, top + height, "0"), _tick_y(left, top, str(tallest))]
    parts.append(_text(left + bins * scale / 2, top + height + 38, axis, "middle", "muted"))
    return _svg(width, top + height + 46, label, parts + legend)


def lines(
    series: Mapping[str, Sequence[Point]],
    label: str,
    axis: str,
    *,
    span: tuple[float, float] | None = None,
    mark: Point | None = None,
    thin: Mapping[str, Sequence[Sequence[Point]]] | None = None,
    width: int = 720,
) -> str:
    """Polylines over a common x axis of whole numbers; `span` fixes the y axis, `mark` puts a ring on one point.

    `thin`: further lines of a series, such as those of single runs below their mean, thinner in its colour.
    """
    sound = {name: _finite(points) for name, points in series.items()}
    single = {name: [_finite(points) for points in (thin or {}).get(name, ())] for name in series}
    points = [p for name, part in sound.items() for own in (part, *single[name]) for p in own]
    if not points:
        return ""
    left, height = 52, 200
    legend, top = _legend(list(series), left, width)
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    bottom, ceiling = span or (min(ys), max(ys))
    bottom, ceiling = (bottom - 0.5, ceiling + 0.5) if bottom == ceiling else (bottom, ceiling)
    start, end = (min(xs) - 1, max(xs) + 1) if min(xs) == max(xs) else (min(xs), max(xs))
    x_of = _scaler(start, end, left, width - 14)
    y_of = _scaler(bottom, ceiling, top + height, top)
    parts = [_tick_x(x_of(t), top, height, t) for t in _ticks(start, end, least=1)]
    parts += [_tick_y(left, y_of(t), f"{t:g}", width - 14) for t in _ticks(bottom, ceiling, 4)]

    def drawn(line: Sequence[Point], colour: str, stroke: str) -> str:
        path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in line)
        return f'<polyline points="{path}" fill="none" stroke="{colour}" {stroke}/>'

    for colour, (name, part) in zip(cycle(COLOURS), sound.items(), strict=False):
        parts += [drawn(line, colour, 'stroke-width="1" stroke-opacity="0.4"') for line in single[name]]
        parts.append(drawn(part, colour, 'stroke-width="2"'))
        if len(part) <= 40:
            parts += [
                f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="2.5" fill="{colour}"/>' for x, y in part
            ]
    if mark is not None:
        parts.append(
            f'<circle cx="{x_of(mark[0]):.1f}" cy="{y_of(mark[1]):.1f}" r="7" fill="none" stroke="#222"/>'
        )
    parts.append(_text((left + width) / 2, top + height + 38, axis, "middle", "muted"))
    return _svg(width, top + height + 46, label, parts + legend)


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'


def _legend(names: Sequence[str], left: float, width: float) -> tuple[list[str], float]:
    """Coloured names in as many rows as they need, and where the rows end."""
    parts, x, y = [], left, 4
    for colour, name in zip(cycle(COLOURS), names, strict=False):
        wide = 40 + 7.2 * len(name)
        if x > left and x + wide - 24 > width:
            x, y = left, y + 18
        parts.append(f'<rect x="{x:.0f}" y="{y}" width="11" height="11" fill="{colour}"/>')
        parts.append(_text(x + 16, y + 10, name))
        x += wide
    return parts, y + 22


def _tick_x(x: float, top: float, height: float, value: float) -> str:
    mark = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + height + 4}" class="grid"/>'
    return mark + _text(x, top + height + 19, f"{value:g}", "middle", "muted")


def _tick_y(left: float, y: float, text: str, to: float = 0) -> str:
    mark = f'<line x1="{left}" x2="{to or left}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
    return mark + _text(left - 6, y + 4, text, "end", "muted")


def _finite(points: Sequence[Point]) -> list[Point]:
    return [p for p in points if all(map(math.isfinite, p))]


def _scaler(low: float, high: float, first: float, last: float) -> Callable[[float], float]:
    return lambda value: first + (value - low) / (high - low) * (last - first)


def _ticks(low: float, high: float, about: int = 6, least: float = 0) -> list[float]:
    """Round numbers from `low` to `high`, at least `least` apart."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = max(least, next(power * k for k in (1, 2, 5, 10) if power * k >= raw))
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _counts(values: Sequence[float], low: float, high: float, bins: int) -> list[int]:
    counts = [0] * bins
    for value in values:
        counts[min(int((value - low) / (high - low) * bins), bins - 1)] += 1
    return counts
