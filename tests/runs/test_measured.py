"""Numbers of evaluations, and how columns write them."""

from dataclasses import dataclass

import pytest

from robustsabn.trainers.runs.measured import Column, Measured, column_of


@dataclass(frozen=True)
class Found(Measured):
    distance: float
    images: int
    note: str = "none"


def test_the_numbers_of_an_evaluation_are_its_fields_that_are_numbers() -> None:
    found = Found(1.5, 10)
    assert found.numbers() == {"distance": 1.5, "images": 10.0}
    assert found.to_dict() == {"distance": 1.5, "images": 10, "note": "none"}


@pytest.mark.parametrize(
    ("name", "value", "text", "spread"),
    [
        ("clean_accuracy", 0.4321, "43.21 %", "43.21 ± 1.00"),
        ("training_seconds", 185.0, "3 min 05 s", "3 min 05 s"),
        ("distance", 12.3456, "12.35", "12.35 ± 0.01"),
    ],
)
def test_a_column_writes_values_and_spreads(name: str, value: float, text: str, spread: str) -> None:
    column = column_of(name)
    assert column.text(value) == text
    assert column.spread(value, 0.01) == spread


def test_units_are_in_heads_and_on_axes() -> None:
    assert column_of("training_seconds").heading == "training time"
    assert column_of("style_loss_relu1_1").heading == "style loss relu1_1"
    column = Column("precision", "%")
    assert (column.head, column.axis, column.scaled(0.25)) == ("precision (%)", "precision in %", 25.0)
    assert column.spread(0.5, None) == "50.00"
