"""Values and names in messages to a person."""

import difflib
from collections.abc import Callable, Iterable

__all__ = ["LONGEST", "nearest", "one_line", "quote", "shorten"]

LONGEST = 80
"""How many characters of a value a message shows."""


def shorten(value: object, limit: int = LONGEST) -> str:
    """`value` as text of one line: control characters made visible, the middle left out beyond `limit` characters."""
    return _cut(_text(str, value), limit)


def quote(value: object, limit: int = LONGEST) -> str:
    """`repr` of `value`, shortened in the same way."""
    return _cut(_text(repr, value), limit)


def one_line(error: BaseException, limit: int = 2 * LONGEST) -> str:
    """The kind and the message of an error that comes from elsewhere."""
    return shorten(" ".join(f"{type(error).__name__}: {_text(str, error)}".split()), limit)


def nearest(word: object, allowed: Iterable[str]) -> str:
    """A hint such as " (did you mean adv?)" to be put after `word`; empty when no allowed name is near."""
    names = {name.lower(): name for name in allowed}
    close = difflib.get_close_matches(shorten(word).lower(), names, n=1)
    return f" (did you mean {names[close[0]]}?)" if close and names[close[0]] != word else ""


def _text(how: Callable[[object], str], value: object) -> str:
    try:
        return how(value)
    except Exception:  # noqa: BLE001 - a number of too many digits, or a class whose repr fails
        return f"a value of type {type(value).__name__}"


def _cut(text: str, limit: int) -> str:
    if len(text) > 4 * limit:  # of a long one no more is looked at than may be shown
        text = text[: 2 * limit] + text[-2 * limit :]
    visible = "".join(c if c.isprintable() else _visible(c) for c in text)
    if len(visible) <= limit:
        return visible
    end = limit // 3
    return f"{visible[: limit - end - 3]}...{visible[-end:]}"


def _visible(character: str) -> str:
    return " " if character.isspace() else character.encode("unicode_escape").decode()
