"""A griffe extension: docstrings, which are plain text with an example at their end, become Markdown."""

import re
import textwrap
from typing import Any

from griffe import Docstring, Extension, Object

EXAMPLE = re.compile(r"^Example:\n\n((?: {4}.*\n?|\n)+)", re.MULTILINE)
LINK = re.compile(r"(?<=\])\[(?=\w+\])")
"""What Markdown would take for a link, as in robust[a][r]."""


class Examples(Extension):
    """Writes the doctest below "Example:" as a block of Python."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring = Docstring(_markdown(obj.docstring.value), parent=obj, lineno=obj.docstring.lineno)


def _markdown(text: str) -> str:
    head = EXAMPLE.search(text)
    words, code = (text[: head.start()], head[1]) if head else (text, "")
    marked = LINK.sub(r"\\[", words)
    example = f"**Example**\n\n```pycon\n{textwrap.dedent(code).strip()}\n```\n" if code else ""
    return marked + example
