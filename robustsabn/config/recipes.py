"""The packaged recipes; a module of its own, so that listing them imports no YAML reader."""

from pathlib import Path

import robustsabn

__all__ = ["recipes", "recipes_by_task"]


def recipes() -> dict[str, Path]:
    """The packaged recipes, as files by name."""
    by_name = {name: file for group in recipes_by_task().values() for name, file in group.items()}
    return dict(sorted(by_name.items()))


def recipes_by_task() -> dict[str, dict[str, Path]]:
    """The packaged recipes of each kind of training, as files by name.

    They are the files `configs/TASK/**/NAME.yaml`.
    """
    by_task: dict[str, dict[str, Path]] = {}
    for root in (Path(place) / "configs" for place in robustsabn.__path__):
        for file in sorted(root.rglob("*.yaml"), key=lambda file: file.stem):
            by_task.setdefault(file.relative_to(root).parts[0], {})[file.stem] = file
    return dict(sorted(by_task.items()))
