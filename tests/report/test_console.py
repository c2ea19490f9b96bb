"""Tables on the terminal: text stays as it is, names unbroken, numbers to the right."""

import io

import pytest
from rich.console import Console

from robustsabn.report.console import fitted, output, result_table


def test_a_table_shows_text_as_it_is() -> None:
    file = io.StringIO()
    table = result_table("[title]", ["name", "a long heading"], [["[red]", "1"], ["norm=saauxbn", "22"]])
    Console(file=file, width=60).print(table)
    title, _, head, _, first, second, _ = file.getvalue().splitlines()
    assert title.startswith("[title]")
    assert [cell.strip() for cell in head.split("┃")][1:-1] == ["name", "a long heading"]
    assert first.split("│")[1].startswith(" [red] ")
    assert first.split("│")[2].endswith(" 1 ")
    assert second.split("│")[1].strip() == "norm=saauxbn"


def test_lines_in_a_file_are_not_broken_before_200_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    console = output()
    console.print(result_table("", ["name", "value"], [["a", "b" * 150]]))
    assert "b" * 150 in capsys.readouterr().out


HEAD = ["runs", "seeds", "clean accuracy, clean route (%)", "clean accuracy, adv route (%)", "training time"]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("count", [1, 2, 6])
def test_a_table_fits_the_terminal_and_breaks_no_cell(width: int, count: int) -> None:
    rows = [
        [f"norm=sabn attack.eps=0.0{i}", "3", f"{80 + i}.25 ± 1.0{i}", "81.50 ± 0.31", "1 h 10 min"]
        for i in range(count)
    ]
    console = Console(file=io.StringIO(), width=width, soft_wrap=True)
    for table in fitted("title", HEAD, rows, width):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    for row in rows:
        for cell in row[1:]:
            assert any(cell in line for line in lines), cell
    words = {word.strip("┃│ ") for line in lines for word in line.split()}
    assert {f"attack.eps=0.0{i}" for i in range(count)} <= words
    assert "accuracy," in words


def test_a_wide_table_is_turned_before_it_is_divided() -> None:
    rows = [["a", "3", "81.25 ± 1.00", "81.50 ± 0.31", "12 s"]]
    (whole,) = fitted("", HEAD, rows, 80)
    assert [str(column.header) for column in whole.columns] == HEAD
    (turned,) = fitted("", HEAD, rows, 40)
    assert [str(column.header) for column in turned.columns] == ["runs", "a"]
    many = [[f"group-{i}", *rows[0][1:]] for i in range(6)]
    parts = fitted("", HEAD, many, 40)
    assert len(parts) > 1
    assert all(str(part.columns[0].header) == "runs" for part in parts)
