"""What every page must hold, as far as it can be told without a browser."""

import re
from html.parser import HTMLParser

__all__ = ["check_page"]

VOID = {"meta", "img", "br", "rect", "line", "circle", "polyline"}


class _Page(HTMLParser):
    """Tags closed in order, what is loaded, and where tables and charts are."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[tuple[str, str]] = []
        self.counts: dict[str, int] = {}
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.counts[tag] = self.counts.get(tag, 0) + 1
        assert tag not in ("script", "link", "iframe", "object", "embed"), tag
        if tag != "a":
            for name in ("src", "href", "srcset", "data", "xlink:href"):
                assert named.get(name, "#").startswith(("#", "data:")), f"{tag} loads {named[name]}"
        if tag == "table":
            assert self.open[-1] == ("div", "wide"), "a table outside of a box that scrolls"
        if tag == "svg":
            assert re.fullmatch(r"0 0 [\d.]+ [\d.]+", named.get("viewbox", ""))
            assert "width" not in named
            assert "height" not in named
        if tag not in VOID:
            self.open.append((tag, named.get("class", "")))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop()[0] == tag


def check_page(source: str) -> dict[str, int]:
    """Nothing is loaded, charts scale, and tables scroll in a box; returns the number of each tag."""
    page = _Page(source)
    (style,) = re.findall(r"<style>(.*?)</style>", source, re.DOTALL)
    for rule in ("prefers-color-scheme: dark", ".wide { overflow-x: auto; }", "figure > svg { width: 100%;"):
        assert rule in style
    assert not re.search(r"url\((?!#)|@import", source)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in source
    return page.counts
