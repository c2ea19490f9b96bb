"""Where the packaged recipes are; apart from `config`, so that listing them imports no YAML reader."""

from pathlib import Path

import robustsabn

__all__ = ["recipes", "recipes_by_task"]


def recipes() -> dict[str, Path]:
    """The packaged recipes: name to file."""
    found = {name: file for group in recipes_by_task().values() for name, file in group.items()}
    return dict(sorted(found.items()))


def recipes_by_task() -> dict[str, dict[str, Path]]:
    """The packaged recipes of each kind of training: name to file, from `configs/TASK/**/NAME.yaml`."""
    found: dict[str, dict[str, Path]] = {}
    for root in (Path(place) / "configs" for place in robustsabn.__path__):
        for file in sorted(root.rglob("*.yaml"), key=lambda file: file.stem):
            found.setdefault(file.relative_to(root).parts[0], {})[file.stem] = file
    return dict(sorted(found.items()))
