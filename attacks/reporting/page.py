"""The frame of a page that needs no other file: style, tables, tiles."""

from collections.abc import Sequence
from html import escape

__all__ = ["boxes", "definitions", "figure", "page", "table", "tiles"]

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: #1f2328; background: #fff;
  max-width: 60rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .4rem 0; } .muted { color: #656d76; fill: #656d76; } code, pre { font-size: .87em; }
pre { background: #f6f8fa; padding: .7rem .9rem; border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.tiles div { background: #f6f8fa; border-radius: 8px; padding: .7rem 1.1rem; min-width: 8rem; }
.tiles b { display: block; font-size: 1.65rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tiles .first { background: #e3eff8; }
.box { border-left: 4px solid #8a8f98; background: #f6f8fa; padding: .55rem .9rem; margin: .6rem 0; border-radius: 0 6px 6px 0; }
.box.warning { border-color: #d1495b; background: #fdeeee; } .box.good { border-color: #3a8f6b; background: #ecf6f1; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .28rem .8rem; border-bottom: 1px solid #e3e6ea; }
th { font-weight: 600; color: #57606a; } th:first-child, td:first-child { text-align: left; padding-left: 0; }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 12px; fill: #1f2328; }
svg text.muted { fill: #656d76; } svg .grid { stroke: #d7dce1; stroke-width: 1; }
figure { margin: 1rem 0; } figcaption { color: #656d76; font-size: .9em; margin-top: .2rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(21rem, 1fr)); gap: 1rem; }
.pictures figure { margin: 0; } .pictures img { width: 6.6rem; height: 6.6rem; object-fit: contain;
  image-rendering: pixelated; outline: 1px solid #d7dce1; margin-right: .35rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; margin: .4rem 0; } dt { color: #57606a; }
dd { margin: 0; overflow-wrap: anywhere; } li { margin: .2rem 0; } ul { padding-left: 1.2rem; }
"""


def page(title: str, parts: Sequence[str]) -> str:
    """A whole HTML document; `title` is text, `parts` are HTML."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts; the first column is to the left, the others to the right."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def tiles(values: Sequence[tuple[str, str, str]]) -> str:
    """The numbers that count: (name, number, remark) each; the first one stands out."""
    parts = []
    for i, (name, number, remark) in enumerate(values):
        small = f'<span class="muted">{escape(remark)}</span>' if remark else ""
        parts.append(f"<div{'' if i else ' class=first'}>{escape(name)}<b>{escape(number)}</b>{small}</div>")
    return f'<div class="tiles">{"".join(parts)}</div>'


def boxes(messages: Sequence[tuple[str, str, str]]) -> str:
    """Remarks in boxes: (kind, heading, text) each; kind is warning, note or good."""
    return "".join(
        f'<div class="box {escape(kind)}"><b>{escape(heading)}</b> {escape(text)}</div>'
        for kind, heading, text in messages
    )


def definitions(pairs: Sequence[tuple[str, str]]) -> str:
    """Names and values, one pair a line."""
    return f"<dl>{''.join(f'<dt>{escape(k)}</dt><dd>{escape(v)}</dd>' for k, v in pairs)}</dl>"


def figure(picture: str, caption: str) -> str:
    """A chart (HTML) above its caption (text); nothing where there is no chart."""
    return f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>" if picture else ""
