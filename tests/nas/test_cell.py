"""Architectures: both notations of all 15,625 cells, and what is no architecture."""

import re

import pytest

from robustsabn.errors import ModelError
from robustsabn.nas import EDGES, OPERATIONS, Cell, all_cells, from_naslib, to_naslib

RESIDUAL = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"


def test_all_strings_and_numbers_are_different_and_lead_back() -> None:
    cells = all_cells()
    strings = [str(cell) for cell in cells]
    assert len(set(strings)) == len(cells) == 5**6
    assert [Cell.parse(string) for string in strings] == list(cells)
    assert [cell.number for cell in cells] == list(range(5**6))


def test_all_lists_of_naslib_are_different_and_lead_back() -> None:
    lists = [to_naslib(cell) for cell in all_cells()]
    assert len(set(lists)) == 5**6
    assert [from_naslib(indices) for indices in lists] == list(all_cells())


def test_every_edge_of_the_string_is_its_edge_in_naslib() -> None:
    # NASLib: Identity, Zero, ReLUConvBN3x3, ReLUConvBN1x1, AvgPool; nodes count from 1
    theirs = ["skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3"]
    edges = [(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)]
    for place, (source, target) in enumerate(edges):
        for index, operation in enumerate(theirs):
            indices = [1] * 6
            indices[place] = index
            cell = from_naslib(indices)
            names = {edge: OPERATIONS[i] for edge, i in zip(EDGES, cell.operations, strict=True)}
            assert names.pop((target - 1, source - 1)) == operation
            assert set(names.values()) == {"none"}


def test_the_parts_of_a_string() -> None:
    cell = Cell.parse(f" {RESIDUAL}\n")
    assert str(cell) == RESIDUAL
    assert cell.operations == (3, 0, 3, 1, 0, 1)
    assert cell.skips == 2
    assert to_naslib(cell) == (2, 1, 0, 2, 1, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no architecture of NAS-Bench-201; write |op~0|+"),
        (RESIDUAL[:-1], "is no architecture"),
        (RESIDUAL.rpartition("+")[0], "is no architecture"),
        (f"{RESIDUAL}+|none~0|", "is no architecture"),
        (RESIDUAL.replace("~2", "~1"), "is no architecture"),
        (RESIDUAL.replace("|none~0|nor", "|none~0||nor"), "is no architecture"),
        (
            RESIDUAL.replace("none~1", "sep_conv_3x3~1"),
            "unknown operation 'sep_conv_3x3' (did you mean nor_conv_3x3?) on the edge from node 1 to node 3",
        ),
        (RESIDUAL.replace("skip_connect", "Skip_Connect"), "(did you mean skip_connect?)"),
        (None, "the architecture is None; give text"),
    ],
)
def test_what_is_no_architecture(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=re.escape(message)):
        Cell.parse(text)


@pytest.mark.parametrize("given", [(), (0,) * 5, (0,) * 7, (0, 0, 0, 0, 0, 5), (0, 0, 0, 0, 0, -1), "000000"])
def test_a_cell_has_six_operations(given: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="give 6 numbers from 0 to 4"):
        Cell(given)
    with pytest.raises(ModelError, match="in NASLib's order: skip_connect, none"):
        from_naslib(given)
