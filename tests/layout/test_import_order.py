"""Imports point in one direction: no circles, no import of a higher package, and the loop imports no task."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.helpers import ROOT

# a room may import those before it, and its own
ORDER = (
    "errors text scalars arguments paths files locks report state_versions devices",
    "_torchvision user_code config nas",
    "routing surgery",
    "layers",
    "conversion",
    "data models",
    "metrics style",
    "attacks",
    "analysis",
    "trainers",
    "cli __main__",
)
# what each room must not know, beyond the order; a room inside another has its own rule
APART = {
    "attacks": ("routing", "layers", "conversion", "surgery", "models", "data", "config", "metrics"),
    "metrics": ("routing", "layers", "conversion", "surgery"),
    "models": ("layers", "conversion", "routing"),
    "models.gan": ("conversion", "data"),  # classes are routes there
    "models.style": ("conversion", "data"),  # styles are routes there
    "models.nas": ("conversion", "data"),  # operations are routes in a network of all cells
    "data": ("layers", "conversion", "routing", "models"),
    **{
        f"trainers.{room}": ("attacks", "trainers.adversarial", "trainers.methods", "trainers.tasks")
        for room in ("loop", "processes", "checkpoints", "runs", "tracking")
    },
}


def modules() -> dict[str, Path]:
    """Every module of the library, by its name without `robustsabn.`"""
    found = {}
    for top in ("robustsabn", "attacks", "trainers"):
        for file in (ROOT / top).rglob("*.py"):
            parts = file.relative_to(ROOT / top if top == "robustsabn" else ROOT).with_suffix("").parts
            found[".".join(part for part in parts if part != "__init__")] = file
    return found


def imported(file: Path, known: dict[str, Path]) -> set[str]:
    """What a module imports of the library when it runs; type checkers' imports do not count."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("robustsabn"):
            base = node.module.removeprefix("robustsabn").lstrip(".")
            names = {f"{base}.{alias.name}".lstrip(".") for alias in node.names}
            found |= {name if name in known else base for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("robustsabn.") for alias in node.names}
    return {name for name in found if name in known and known[name] != file}


KNOWN = modules()
GRAPH = {name: imported(file, KNOWN) for name, file in KNOWN.items()}
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms.split()}


def rule_of(name: str) -> str:
    """The innermost room of `APART` that a module is in."""
    return max((room for room in APART if f"{name}.".startswith(f"{room}.")), key=len, default="")


def test_there_are_no_circles() -> None:
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")


def test_every_room_has_its_place() -> None:
    assert {name.split(".")[0] for name in KNOWN if name} <= set(RANK)


def test_no_room_imports_a_higher_one() -> None:
    upward = [
        f"{name} -> {other}"
        for name, others in GRAPH.items()
        for other in others
        if name and other and RANK[name.split(".")[0]] < RANK[other.split(".")[0]]
    ]
    assert upward == []


@pytest.mark.parametrize("room", APART)
def test_rooms_that_know_nothing_of_each_other(room: str) -> None:
    known = [
        f"{name} -> {other}"
        for name, others in GRAPH.items()
        for other in others
        if room == rule_of(name) and any(f"{other}.".startswith(f"{forbidden}.") for forbidden in APART[room])
    ]
    assert known == []


def test_no_room_has_more_than_fifteen_files_at_one_level() -> None:
    folders = [path.parent for path in KNOWN.values()]
    crowded = {str(folder.relative_to(ROOT)): folders.count(folder) for folder in set(folders)}
    assert {name: count for name, count in crowded.items() if count > 15} == {}
