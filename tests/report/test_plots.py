"""Charts inside pages: what is drawn, in the colours of the page, and nothing that is fetched."""

import math
import re
from pathlib import Path

import pytest

from robustsabn.report import plots
from robustsabn.report.plots import COLOURS, bars, histogram, lines, pairs, spreads


def test_lines_are_drawn_through_their_finite_points() -> None:
    plot = lines({"a": [(0, 1.0), (1, math.nan), (2, 3.0)], "b": []}, "label", "step", "loss", ring=(2, 3.0))
    assert plot is not None
    assert plot.legend == [("a", COLOURS[0]), ("b", COLOURS[1])]
    (path,) = re.findall(rf'<path d="([^"]*)"[^>]*stroke: {COLOURS[0]}', plot.svg)
    assert path.count("L") == 1


def test_nothing_to_draw_is_no_chart() -> None:
    assert lines({"a": [(0, math.nan)]}, "label", "step", "loss") is None
    assert histogram({"a": [math.inf], "b": []}, "label", "margin") is None


@pytest.mark.parametrize("name", ["$x^", "<script>", "図", 'a"b'])
def test_names_are_text_whatever_they_hold(name: str) -> None:
    svg = bars([(name, 0.5, "50.00 %")], name).svg
    escaped = name.replace("<", "&lt;").replace(">", "&gt;")
    assert f">{escaped}</text>" in svg
    assert "<script>" not in svg


def luminance(colour: str) -> float:
    """Relative luminance of a colour #rrggbb (WCAG 2.2)."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_colours_have_the_contrast_that_graphics_need_on_both_pages() -> None:
    style = (Path(plots.__file__).parent / "templates" / "style.css").read_text()
    light, dark = re.findall(r"--page: (#\w{6})", style)
    assert min(contrast(colour, page) for colour in COLOURS for page in (light, dark)) >= 3
    for name in ("text", "muted", "link"):
        own, other = re.findall(rf"--{name}: (#\w{{6}})", style)
        assert min(contrast(own, light), contrast(other, dark)) >= 4.5


def test_pairs_and_spreads_draw_what_is_given() -> None:
    plot = pairs([("cat", 0.9, 0.5), ("dog", 0.8, 0.25)], ("clean", "robust"), "by class")
    assert [name for name, _ in plot.legend] == ["clean", "robust"]
    assert all(f">{text}</text>" in plot.svg for text in ("cat", "dog", "accuracy in %", "100"))
    ticks = {1.0: "1/255", 2.0: "2/255"}
    chart = spreads({"a": [(1, 40.0, 2.0), (2, 30.0, 0.0)]}, "s", "eps", "accuracy in %", ticks=ticks)
    assert chart is not None
    assert ">1/255</text>" in chart.svg
    assert spreads({"a": [(1, math.nan, 0.0)]}, "s", "eps", "%", ticks=ticks) is None


def test_charts_take_the_colour_of_the_page_and_name_no_address() -> None:
    plot = histogram({"a": [0.0, 1.0, 2.0]}, "label", "margin")
    assert plot is not None
    assert "currentColor" in plot.svg
    assert not re.search(r"https?:|xmlns|url\((?!#)|@import", plot.svg)


def test_a_chart_is_written_the_same_each_time() -> None:
    first, second = (lines({"a": [(0, 1.0), (1, 2.0)]}, "label", "step", "loss") for _ in range(2))
    assert first == second
