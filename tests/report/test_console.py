"""Tables on the terminal: text stays as it is, names unbroken, numbers to the right."""

import io

import pytest
from rich.console import Console

from robustsabn.report.console import output, result_table


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
