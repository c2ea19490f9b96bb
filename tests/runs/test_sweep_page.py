"""The page of a sweep: a table over the swept keys, charts over the first of them, links to its runs."""

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from robustsabn.cli import main
from robustsabn.trainers import sweep
from robustsabn.trainers.pages import write_report
from tests.helpers.recorded_run import ended_run
from tests.helpers.report.page import check_page
from tests.helpers.runs import TINY


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a sweep over two norms and three radii, which are not in order of size."""
    folder = tmp_path_factory.mktemp("grid") / "sweep"
    for norm in ("sabn", "auxbn"):
        for i, eps in enumerate((0.05, 0.1, 0.02)):
            for seed in (0, 1):
                place = folder / f"norm={norm},attack.eps={eps}" / f"seed-{seed}"
                own = [f"norm={norm}", f"attack.eps={eps}", f"seed={seed}"]
                ended_run(place, *own, robust=0.6 - 0.1 * i + 0.02 * seed, test={"eps": eps})
    return write_report(folder)


def rows(page: str, before: str) -> list[list[str]]:
    """The rows of the first table after `before`."""
    (body, *_) = re.findall(r"<tbody>(.*?)</tbody>", page.partition(before)[2], re.DOTALL)
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", body)]
    return [[cell.replace("\u00a0", " ") for cell in row] for row in cells]


def test_means_are_in_a_table_over_the_swept_keys(grid: Path) -> None:
    page = grid.read_text()
    check_page(page)
    head = re.findall(r"<th>(.*?)</th>", page)
    assert head[:3] == ["norm", "attack.eps", "seeds"]
    found = rows(page, "<h1>")
    norms = sorted({"sabn", "auxbn"}, key=[row[0] for row in found].index)
    assert [row[:3] for row in found] == [[n, e, "2"] for n in norms for e in ("0.02", "0.05", "0.1")]
    assert [row[5] for row in found][:3] == ["41.00 ± 1.41", "61.00 ± 1.41", "51.00 ± 1.41"]
    assert "Different attacks." in page
    assert "do not compare their numbers" not in page


def test_charts_are_over_the_number_with_the_most_values(grid: Path) -> None:
    page = grid.read_text()
    assert "<h2>Over attack.eps</h2>" in page
    assert 'aria-label="pgd-20, adv route over attack.eps"' in page
    assert re.findall(r"</i>(norm=\w+)</li>", page)[:2] in (
        ["norm=sabn", "norm=auxbn"],
        ["norm=auxbn", "norm=sabn"],
    )
    for tick in ("0.02", "0.05", "0.1"):
        assert f">{tick}</text>" in page


def test_links_lead_to_the_pages_of_the_runs_and_to_the_comparison(grid: Path) -> None:
    links = [unquote(link) for link in re.findall(r'href="([^"#]*)"', grid.read_text())]
    assert all((grid.parent / link).is_file() for link in links)
    assert len([link for link in links if link.endswith("report/index.html")]) == 12
    assert {"comparison.html", "comparison.csv", "comparison.json"} <= set(links)
    numbers = json.loads((grid.parent / "comparison.json").read_text())
    assert len(numbers["groups"]) == 6
    check_page((grid.parent / "comparison.html").read_text())


def test_a_sweep_over_seeds_alone_shows_each_seed(tmp_path: Path) -> None:
    for seed in (3, 1):
        ended_run(tmp_path / "sweep" / f"seed-{seed}", f"seed={seed}", robust=0.1 * seed)
    ended_run(tmp_path / "sweep" / "seed-7", "seed=7", ended=False)
    page = write_report(tmp_path / "sweep", "Seeds & more").read_text()
    assert "<h1>Seeds &amp; more</h1>" in page
    assert "<h2>Over seed</h2>" in page
    assert "seed-7 has not ended" in page
    assert [row[:2] for row in rows(page, "<h1>")] == [["sweep", "2"]]


def test_a_sweep_ends_by_writing_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = {**TINY, "steps": 1, "validation": {"images": 10, "steps": 1}, "test": {"images": 10, "steps": 1}}
    place = tmp_path / "sweep"
    sweep(tiny, [f"out={place}", "optim.lr=0.1,0.2"], seeds=None)
    page = place / "report" / "index.html"
    assert capsys.readouterr().out.splitlines()[-1] == f"next: python -m webbrowser {page}"
    text = page.read_text()
    assert [row[0] for row in rows(text, "<h1>")] == ["0.1", "0.2"]
    assert "<h2>How they were made</h2>" in text
    assert re.search(r"<dt>SHA-256 of data</dt><dd>\w{64}</dd>", text)
    page.unlink()
    assert main(["report", str(place)]) == 0
    assert page.read_text() == text


def test_only_a_key_that_changes_the_evaluation_is_said_to(tmp_path: Path) -> None:
    for key, value, said in (("attack.steps", "2", False), ("attack.loss", "margin", True)):
        place = tmp_path / key
        ended_run(place / f"{key}=default" / "seed-0", "seed=0")
        ended_run(place / f"{key}={value}" / "seed-0", "seed=0", f"{key}={value}")
        page = write_report(place).read_text()
        assert f"<th>{key}</th>" in page
        assert ("Different attacks." in page) is said
