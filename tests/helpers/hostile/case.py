"""A wrong input, and what accidents do to files."""

from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Case", "damaged"]


@dataclass(frozen=True)
class Case:
    """A command line or a call. `right` also lets it succeed: then it must not complain."""

    name: str
    do: list[str] | Callable[[], object]
    environment: dict[str, str] = field(default_factory=dict)
    right: bool = False


def damaged(content: bytes) -> dict[str, bytes]:
    """A file's content after the usual accidents."""
    flipped = bytearray(content)
    for i in range(0, len(flipped), max(1, len(flipped) // 40)):
        flipped[i] ^= 0x55
    half = len(content) // 2
    return {
        "empty": b"",
        "one byte": b"\x00",
        "cut to ten": content[:10],
        "half": content[:half],
        "cut by one": content[:-1],
        "flipped": bytes(flipped),
        "zeros": bytes(len(content)),
        "text": b"not what you think\n" * 20,
        "html": b"<!DOCTYPE html><html>404 Not Found</html>",
        "null": b"null",
        "list": b"[1, 2, 3]",
    }
