"""Where the packaged recipes are; apart from `config`, so that listing them imports no YAML reader."""

from pathlib import Path

import robustsabn

__all__ = ["recipes"]


def recipes() -> dict[str, Path]:
    """The packaged recipes: name to file."""
    found = [file for root in robustsabn.__path__ for file in (Path(root) / "configs").glob("*.yaml")]
    return {file.stem: file for file in sorted(found, key=lambda file: file.stem)}
