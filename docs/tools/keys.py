"""Writes docs/keys/TASK.md, a row for every key of a recipe: python docs/tools/keys.py."""

from collections.abc import Iterable
from dataclasses import fields
from importlib import import_module
from itertools import groupby
from pathlib import Path

from robustsabn.config.keys import Key, keys
from robustsabn.trainers.config import RunConfig
from robustsabn.trainers.tasks import TASKS

FOLDER = Path(__file__).parents[1] / "keys"
TITLES = {"adversarial": "adversarial training", "gan": "GANs", "nas": "architecture search"}
TITLES["style"] = "style transfer"
INTRODUCTION = """<!-- written by docs/tools/keys.py from the dataclasses of the configuration -->

`key=value` on the command line overrides the recipe, which overrides these defaults. In a file, `attack.eps`
is `attack: {eps: 8/255}`; `8/255` is a number everywhere. `robustsabn train RECIPE --print-config` prints all
keys of a recipe with their values."""


def page(task: str) -> str:
    """The page of one task, as Markdown."""
    rows = keys(import_module(f"robustsabn.trainers.{task}.config").CONFIG)
    common, title = {field.name for field in fields(RunConfig)}, TITLES.get(task, task)
    grouped = {_group(key) for key in rows if "." in key.name}
    plain = [key for key in rows if _group(key) not in grouped]
    parts = [
        f"# Keys: {title}\n\n{INTRODUCTION}",
        "## Every run\n\n" + _table(key for key in plain if key.name in common),
        f"## {title[0].upper()}{title[1:]}\n\n" + _table(key for key in plain if key.name not in common),
    ]
    for name, group in groupby((key for key in rows if _group(key) in grouped), _group):
        parts.append(f"## `{name}`\n\n{_table(group)}")
    return "\n\n".join(parts) + "\n"


def _group(key: Key) -> str:
    return key.name.partition(".")[0]


def _table(rows: Iterable[Key]) -> str:
    rows = list(rows)
    chosen = any(key.choice for key in rows)
    head = ["key", *["of"] * chosen, "type", "default", "range", "meaning"]
    lines = [head, ["---"] * len(head)]
    for key in rows:
        of = [key.choice] * chosen
        lines.append([f"`{key.name}`", *of, key.type, f"`{key.default}`", key.range, key.meaning])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in TASKS:
        (FOLDER / f"{name}.md").write_text(page(name), encoding="utf-8")
