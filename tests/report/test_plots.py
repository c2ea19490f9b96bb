"""Charts inside pages: what is drawn, in the colours of the page, and nothing that is fetched."""

import math
import re

import pytest

from robustsabn.report.plots import COLOURS, bars, histogram, lines


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


def test_charts_take_the_colour_of_the_page_and_name_no_address() -> None:
    plot = histogram({"a": [0.0, 1.0, 2.0]}, "label", "margin")
    assert plot is not None
    assert "currentColor" in plot.svg
    assert not re.search(r"https?:|xmlns|url\((?!#)|@import", plot.svg)


def test_a_chart_is_written_the_same_each_time() -> None:
    first, second = (lines({"a": [(0, 1.0), (1, 2.0)]}, "label", "step", "loss") for _ in range(2))
    assert first == second
