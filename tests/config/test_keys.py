"""Rows of keys: types, defaults, ranges that are found by trying values, and meanings."""

from dataclasses import dataclass, field
from importlib import import_module
from typing import Literal

import pytest

from robustsabn.config import choices
from robustsabn.config.checks import check, count
from robustsabn.config.keys import Key, keys, written
from robustsabn.trainers.tasks import TASKS


@dataclass(frozen=True)
class Square:
    side: float = 2.0
    """Length of a side."""

    def __post_init__(self) -> None:
        check(-2.5 <= self.side < 7.25, "side")


@dataclass(frozen=True)
class Circle:
    radius: float = 8 / 255
    """Distance of its points
    from the centre."""
    spans: tuple[float, float] = (0.5, 1.0)

    def __post_init__(self) -> None:
        check(0 < self.radius <= 1, "radius")
        check(all(span > 0 for span in self.spans), "spans")


@dataclass(frozen=True)
class Drawing:
    """A drawing.

    - pens: how many
      there are.
    - title: above it.
    """

    title: str
    pens: int | None = None
    paper: int = 0
    colours: tuple[str, ...] = ("red", "blue")
    ink: Literal["black", "grey"] | None = None
    shape: Square | Circle = field(
        default_factory=Circle, metadata=choices({"square": Square, "circle": Circle})
    )
    frame: Square | None = None

    def __post_init__(self) -> None:
        count("pens", self.pens, 3)
        check(-7 < self.paper <= 12, "paper")


def test_every_kind_of_key() -> None:
    assert keys(Drawing) == [
        Key(name="title", type="text", default="required", meaning="Above it."),
        Key(
            name="pens",
            type="whole number, or none",
            default="none",
            range="≥ 3",
            meaning="How many there are.",
        ),
        Key(name="paper", type="whole number", default="0", range="[-6, 12]", meaning=""),
        Key(name="colours", type="list of text", default="[red, blue]", meaning=""),
        Key(name="ink", type="choice, or none", default="none", range="black, grey", meaning=""),
        Key(name="shape", type="choice", default="circle", range="square, circle", meaning=""),
        Key(
            name="shape.side",
            choice="square",
            type="number",
            default="2",
            range="[-2.5, 7.25)",
            meaning="Length of a side.",
        ),
        Key(
            name="shape.radius",
            choice="circle",
            type="number",
            default="8/255",
            range="(0, 1]",
            meaning="Distance of its points from the centre.",
        ),
        Key(
            name="shape.spans",
            choice="circle",
            type="list of 2 numbers",
            default="[0.5, 1]",
            range="> 0",
            meaning="",
        ),
        Key(name="frame", type="keys, or none", default="none", meaning=""),
        Key(name="frame.side", type="number", default="2", range="[-2.5, 7.25)", meaning="Length of a side."),
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8 / 255, "8/255"),
        (0.5, "0.5"),
        (1.0, "1"),
        (5e-4, "0.0005"),
        (True, "true"),
        (None, "none"),
        ({}, "{}"),
    ],
)
def test_values_are_written_as_in_a_recipe(value: object, text: str) -> None:
    assert written(value) == text


@pytest.mark.parametrize("task", TASKS)
def test_every_key_of_a_recipe_has_its_meaning(task: str) -> None:
    rows = keys(import_module(f"robustsabn.trainers.{task}.config").CONFIG)
    nameless = [key.name for key in rows if not key.meaning]
    assert not nameless, "write a line below the field, or `- key: meaning` in the docstring of its class"
