"""Links from page to page, and tables in files."""

import csv
import os
from pathlib import Path

from markupsafe import Markup

from robustsabn.report.links import address, beside, link_to, write_csv


def test_a_link_is_relative_to_its_page_and_escaped(tmp_path: Path) -> None:
    target = tmp_path / "a b,c=1/8" / "index.html"
    page = tmp_path / "report" / "index.html"
    assert link_to("a & b", target, page) == "a & b"  # no such file
    target.parent.mkdir(parents=True)
    target.touch()
    page.parent.mkdir()
    found = link_to("a & b", target, page)
    assert isinstance(found, Markup)
    assert found == '<a href="../a%20b%2Cc%3D1/8/index.html">a &amp; b</a>'
    assert address(Path(os.fsdecode(b"x\xff"))) == "x%FF"


def test_files_beside_a_page_have_its_name_and_never_replace_it() -> None:
    assert beside(Path("a/table.html"), ".csv") == Path("a/table.csv")
    assert beside(Path("a/table.json"), ".json") == Path("a/table.json.json")


def test_a_table_is_read_back_whatever_its_cells_hold(tmp_path: Path) -> None:
    rows = [["a,b", 0.5, None], ['"', 1, "two\nlines"], ["x\udcff", -1.0, ""]]
    write_csv(tmp_path / "t.csv", ["name", "number", "text"], rows)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        head, *found = csv.reader(file)
    assert head == ["name", "number", "text"]
    assert found == [["a,b", "0.5", ""], ['"', "1", "two\nlines"], ["x\\udcff", "-1.0", ""]]
