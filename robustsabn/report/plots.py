"""Charts by matplotlib as SVG for a page; text and axes take the page's colour, light or dark."""

import io
import math
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from itertools import cycle
from typing import Any, NamedTuple

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

__all__ = ["COLOURS", "Plot", "bars", "histogram", "lines", "pairs", "spreads"]

COLOURS = (
    *("#3a7fc1", "#d9585f", "#8d939e", "#c47a12", "#2f9a6d", "#9269c4"),
    *("#159ab0", "#a4674f", "#d667a8", "#7f8a1e"),
)
"""Colours of lines and bars, with a contrast of at least 3 to white and to the dark page."""

Point = tuple[float, float]
Spread = tuple[float, float, float]
"""A place, a mean, and a deviation, which may be zero."""

_INK = "#010203"  # stands for the colour of the page's text until the SVG is written
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 12.0,
    "text.parse_math": False,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "grid.color": _INK,
    "grid.alpha": 0.15,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "lines.linewidth": 1.6,
}
_NOT_FOR_PAGES = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"<metadata>.*?</metadata>",
        r"<defs>\s*<style.*?</style>\s*</defs>",
        r'(?<=<svg)(\s(xmlns(:\w+)?|version|width|height)="[^"]*")+(?=[^>]*viewBox)',
        r'\sxmlns(:\w+)?="[^"]*"|\sversion="[^"]*"',
        r'(?<=<g)\sid="[^"]*"',
        r"font-family: [^;]*; ",
    )
)
_WIDTH = 5.2  # inches; letters of 12 points are 11 pixels tall or more on a page of 390 pixels


class Plot(NamedTuple):
    """An SVG, and the names of its series with their colours, for a legend in the page."""

    svg: Markup
    legend: Sequence[tuple[str, str]] = ()


def bars(rows: Sequence[tuple[str, float, str]], label: str) -> Plot:
    """Horizontal bars, each (name, share in [0, 1], text at its end); the first one is grey."""
    with _axes(label, 0.6 + 0.32 * len(rows)) as (figure, axes):
        places = range(len(rows))
        shares = [share for _, share, _ in rows]
        colours = [COLOURS[0] if i else COLOURS[2] for i in places]
        axes.barh(places, [1] * len(rows), color=_INK, alpha=0.07, height=0.66)
        axes.barh(places, shares, color=colours, height=0.66)
        axes.set_yticks(places, [name for name, _, _ in rows])
        for i, (_, _, text) in enumerate(rows):
            axes.text(1.02, i, text, va="center")
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xticks([])
        axes.grid(False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        return Plot(_svg(figure, label))


def pairs(rows: Sequence[tuple[str, float, float]], names: tuple[str, str], label: str) -> Plot:
    """Two horizontal bars for each row (name, share, share); shares are in [0, 1], the axis is in percent."""
    colours = (COLOURS[2], COLOURS[0])
    with _axes(label, 0.9 + 0.42 * len(rows)) as (figure, axes):
        for side, colour in enumerate(colours):
            places = [i + 0.38 * (side - 0.5) for i in range(len(rows))]
            axes.barh(places, [100 * row[1 + side] for row in rows], color=colour, height=0.34)
        axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.set_xlabel("accuracy in %")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        return Plot(_svg(figure, label), list(zip(names, colours, strict=True)))


def spreads(
    series: Mapping[str, Sequence[Spread]],
    label: str,
    x_label: str,
    y_label: str,
    *,
    ticks: Mapping[float, str],
    joined: bool = True,
) -> Plot | None:
    """Means with error bars at places that `ticks` names; None if no mean is finite.

    `joined`: a line connects the places, which are numbers and not kinds.
    """
    legend = list(zip(series, cycle(COLOURS), strict=False))
    if not any(math.isfinite(mean) for own in series.values() for _, mean, _ in own):
        return None
    width = max(ticks) - min(ticks) or 1.0
    with _axes(label, 2.7) as (figure, axes):
        for i, (name, colour) in enumerate(legend):
            own = [one for one in series[name] if math.isfinite(one[1])]
            shift = 0.012 * width * (i - (len(legend) - 1) / 2)  # error bars beside each other
            axes.errorbar(
                [x + shift for x, _, _ in own],
                [mean for _, mean, _ in own],
                yerr=[deviation for _, _, deviation in own],
                color=colour,
                marker="o",
                markersize=4,
                capsize=3,
                linestyle="-" if joined else "",
            )
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.set_xlim(min(ticks) - 0.08 * width, max(ticks) + 0.08 * width)
        axes.set_xlabel(x_label)
        axes.set_ylabel(_broken(y_label))
        return Plot(_svg(figure, label), legend)


def histogram(groups: Mapping[str, Sequence[float]], label: str, x_label: str) -> Plot | None:
    """Stacked counts of the values of each group in 40 bins, without values that are not finite.

    None if no value is finite.
    """
    finite = {name: [v for v in values if math.isfinite(v)] for name, values in groups.items()}
    if not any(finite.values()):
        return None
    colours = [colour for colour, _ in zip(cycle(COLOURS), finite, strict=False)]
    with _axes(label, 2.4) as (figure, axes):
        axes.hist(list(finite.values()), bins=40, stacked=True, color=colours, rwidth=0.9)
        axes.set_xlabel(x_label)
        axes.set_ylabel("images")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        return Plot(_svg(figure, label), list(zip(finite, colours, strict=True)))


def lines(
    series: Mapping[str, Sequence[Point]],
    label: str,
    x_label: str,
    y_label: str,
    *,
    y_range: tuple[float, float] | None = None,
    ring: Point | None = None,
    thin: Mapping[str, Sequence[Sequence[Point]]] | None = None,
    ticks: Mapping[float, str] | None = None,
) -> Plot | None:
    """Lines over a common x axis of whole numbers; `ring` marks one point. None if no point is finite.

    `thin`: further, thinner lines in the colour of a series, such as single runs beside their mean. `ticks`:
    places on another x axis, and what is written there.
    """
    thin = thin or {}
    if not any(_finite(points) for points in (*series.values(), *(p for own in thin.values() for p in own))):
        return None
    legend = list(zip(series, cycle(COLOURS), strict=False))
    with _axes(label, 2.7) as (figure, axes):
        for name, colour in legend:
            for points in thin.get(name, ()):
                axes.plot(*_columns(points), color=colour, linewidth=0.8, alpha=0.45)
            marker = "." if len(series[name]) <= 40 else ""
            axes.plot(*_columns(series[name]), color=colour, marker=marker)
        if ring is not None:
            axes.plot(*ring, "o", color=_INK, markerfacecolor="none", markersize=9)
        if y_range is not None:
            axes.set_ylim(*y_range)
        left, right = axes.get_xlim()
        axes.set_xlabel(x_label)
        axes.set_ylabel(_broken(y_label))
        if ticks is not None:
            axes.set_xticks(list(ticks), list(ticks.values()))
        else:
            if right - left < 2:  # one point, or neighbours: ticks only at whole numbers
                axes.set_xlim(math.floor(left) - 1, math.ceil(right) + 1)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        return Plot(_svg(figure, label), legend)


def _broken(label: str) -> str:
    """The label of a y axis in lines that a chart is high enough for."""
    return "\n".join(textwrap.wrap(label, 24))


def _finite(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if all(map(math.isfinite, point))]


def _columns(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    kept = _finite(points)
    return [x for x, _ in kept], [y for _, y in kept]


@contextmanager
def _axes(label: str, height: float) -> Iterator[tuple[Figure, Axes]]:
    # the salt makes identifiers unique within a page, and the same in every run
    with mpl.rc_context({**_STYLE, "svg.hashsalt": label}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's browser has the glyph
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        yield figure, figure.subplots()


def _svg(figure: Figure, label: str) -> Markup:
    """The figure as an HTML element, without header, name spaces and addresses."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    for part in _NOT_FOR_PAGES:
        text = part.sub("", text)
    text = re.sub(r"\s*\n\s*", " ", text).replace("xlink:href", "href").replace(_INK, "currentColor")
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1))
