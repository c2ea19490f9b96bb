"""Values and names as text in messages."""

import difflib
from collections.abc import Callable, Iterable

__all__ = ["LONGEST", "counted", "nearest", "one_line", "printable", "quote", "shorten", "spelled"]

LONGEST = 80
"""Number of characters of a value that a message shows."""


def shorten(value: object, limit: int = LONGEST) -> str:
    """`value` as one line of at most `limit` characters, with control characters escaped."""
    return _cut(_text(str, value), limit)


def quote(value: object, limit: int = LONGEST) -> str:
    """`repr` of `value`, shortened in the same way."""
    return _cut(_text(repr, value), limit)


def one_line(error: BaseException, limit: int = 2 * LONGEST) -> str:
    """The class and message of an error of foreign code, in one line."""
    return shorten(" ".join(f"{type(error).__name__}: {_text(str, error)}".split()), limit)


def nearest(word: object, allowed: Iterable[str]) -> str:
    """A hint such as " (did you mean adv?)" to follow `word`; empty if no allowed name is similar."""
    names = {name.lower(): name for name in allowed}
    close = difflib.get_close_matches(shorten(word).lower(), names, n=1)
    return f" (did you mean {names[close[0]]}?)" if close and names[close[0]] != word else ""


def spelled(word: object, allowed: Iterable[str]) -> str | None:
    """The allowed name that `word` spells, in whatever case; None if there is none."""
    return next((name for name in allowed if isinstance(word, str) and name.lower() == word.lower()), None)


def counted(n: int, thing: str, things: str = "") -> str:
    """A number of things, such as "1 image" or "2,000 images"."""
    return f"{n:,} {thing if n == 1 else things or thing + 's'}"


def _text(how: Callable[[object], str], value: object) -> str:
    try:
        return how(value)
    except Exception:  # noqa: BLE001 - a number with too many digits, or a class whose repr fails
        return f"a value of type {type(value).__name__}"


def _cut(text: str, limit: int) -> str:
    if len(text) > 4 * limit:  # cut first, so that the work does not grow with the text
        text = text[: 2 * limit] + text[-2 * limit :]
    visible = printable(text)
    if len(visible) <= limit:
        return visible
    end = limit // 3
    return f"{visible[: limit - end - 3]}...{visible[-end:]}"


def printable(text: str) -> str:
    """`text` with escapes for what cannot be printed, such as the bytes of a name that is not UTF-8."""
    return "".join(c if c.isprintable() else _visible(c) for c in text)


def _visible(character: str) -> str:
    return " " if character.isspace() else character.encode("unicode_escape").decode()
