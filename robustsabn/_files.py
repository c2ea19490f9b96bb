"""Text files that are complete or absent."""

from pathlib import Path

__all__ = ["write_text"]


def write_text(path: Path, text: str) -> None:
    """Write `text` beside `path`, then give it that name: a reader finds the old file or the new one."""
    aside = path.with_name(f"{path.name}.writing")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
