"""The configuration of a run as a text for TensorBoard."""

from collections.abc import Mapping, Sequence

__all__ = ["configuration_card"]


def configuration_card(changed: Sequence[tuple[str, str, str]], settings: Mapping[str, str]) -> str:
    """Two Markdown tables: `changed` settings as (key, value, default), and the other settings."""
    named = {key for key, _, _ in changed}
    rest = [(key, value) for key, value in settings.items() if key not in named]
    return "\n\n".join(
        [
            _table(("differs from the default", "value", "default"), changed),
            _table(("as by default", "value"), rest),
        ]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
