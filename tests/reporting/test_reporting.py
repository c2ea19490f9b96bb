"""What is written about a report: files, page, RobustBench entry."""

import base64
import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from robustsabn.attacks.report import Flag
from robustsabn.attacks.reporting import document, robustbench_json, write, write_robustbench
from robustsabn.attacks.reporting.files import COLUMNS
from robustsabn.attacks.reporting.words import comparable
from robustsabn.errors import InputError
from robustsabn.report.provenance import computed_with, tensors_sha256
from tests.helpers.attacks.report_case import report_case
from tests.helpers.report.page import check_page

CLASSES = ("<script>alert(1)</script>", 'dog & "x"', "ship")
VOID = {"meta", "img", "rect", "line", "circle", "polyline"}


class Page(HTMLParser):
    """Checks that tags are closed in order; gathers the text, the pictures and what would be loaded."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.pictures: list[str] = []
        self.loaded: list[str] = []
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data") and not (value or "").startswith("#"):
                (self.pictures if tag == "img" else self.loaded).append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_write_leaves_four_files_and_nothing_else(tmp_path: Path) -> None:
    report, x = report_case()
    folder = tmp_path / "new" / "out"
    write(report, folder, classes=CLASSES, x=x, about={"model": "net.py:make", "command": "robustsabn …"})
    names = ["adversarial.safetensors", "per_sample.csv", "report.html", "report.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in folder.iterdir())
    content = json.loads((folder / "report.json").read_text())
    assert content["robust_accuracy"] == 0.5
    assert content["clean_accuracy"] == 0.9
    assert [attack["name"] for attack in content["attacks"]] == ["apgd-ce", "square"]
    assert content["flags"][1]["ids"] == [104]
    assert content["about"] == {"model": "net.py:make", "command": "robustsabn …"}


def test_per_sample_lines_say_what_the_tensors_say(tmp_path: Path) -> None:
    report, _ = report_case()
    write(report, tmp_path)
    with (tmp_path / "per_sample.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [int(row["id"]) for row in rows] == report.ids.tolist()
    assert [row["verdict"] for row in rows] == ["wrong", *["broken"] * 4, *["robust"] * 5]
    assert [row["attack"] for row in rows] == ["", *["apgd-ce"] * 3, "square", *[""] * 5]
    assert [row["target"] for row in rows] == [str(t) if t >= 0 else "" for t in report.target.tolist()]
    assert [float(row["margin"]) for row in rows] == pytest.approx(report.margin.tolist(), rel=1e-5)
    assert [row["fragile"] for row in rows] == [str(int(f)) for f in report.fragile.tolist()]


def test_tensors_are_read_back(tmp_path: Path) -> None:
    report, _ = report_case()
    write(report, tmp_path)
    tensors = load_file(tmp_path / "adversarial.safetensors")
    for name in ("x_adv", "ids", "y", "clean", "robust"):
        assert torch.equal(tensors[name], getattr(report, name)), name
    with safe_open(tmp_path / "adversarial.safetensors", "pt") as file:
        assert file.metadata() == {
            "norm": "Linf",
            "eps": "0.05",
            "version": "standard",
            "engine": "robustsabn",
        }


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, _ = report_case()
    write(report, tmp_path)
    before = (tmp_path / "per_sample.csv").read_bytes()
    monkeypatch.setattr("csv.writer", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(report, tmp_path)
    assert (tmp_path / "per_sample.csv").read_bytes() == before


def test_images_of_another_report_are_refused(tmp_path: Path) -> None:
    report, x = report_case()
    with pytest.raises(InputError, match=r"report\.ids"):
        write(report, tmp_path, x=x[:4])
    assert list(tmp_path.iterdir()) == []


def test_the_page_is_whole_escaped_and_loads_nothing() -> None:
    report, x = report_case()
    source = document(report, classes=CLASSES, x=x, about={"model": "<i>net</i>", "command": "a < b"})
    found = Page(source)
    assert found.loaded == []
    assert not re.search(r"https?:|@import|url\((?!#)", source)
    for text in (
        "50.00 %",
        "90.00 %",
        CLASSES[0],
        CLASSES[1],
        "<i>net</i>",
        "a < b",
        "<gradients>",
        "apgd-ce",
    ):
        assert text in found.text, text
    assert source.index("Warning: square-only") < source.index("Note: randomised")


def test_the_pictures_show_clean_adversarial_and_difference() -> None:
    report, x = report_case()
    pictures = Page(document(report, x=x)).pictures
    assert len(pictures) == 3 * 4  # every broken sample
    head = "data:image/png;base64,"
    decoded = []
    for picture in pictures[:3]:
        assert picture.startswith(head)
        image = Image.open(io.BytesIO(base64.b64decode(picture[len(head) :])))
        decoded.append(torch.tensor(list(image.tobytes())).view(8, 8, 3).permute(2, 0, 1) / 255)
    row = 1  # the first that the first attack broke
    assert (decoded[0] - x[row]).abs().max() <= 0.5 / 255 + 1e-6
    assert (decoded[1] - report.x_adv[row]).abs().max() <= 0.5 / 255 + 1e-6
    expected = 0.5 + 0.5 * (report.x_adv[row] - x[row]).sign()
    assert (decoded[2] - expected).abs().max() <= 1 / 255


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 300, 260), (2, 8, 8), (5,)])
def test_any_shape_of_input_has_a_page(shape: tuple[int, ...]) -> None:
    report, x = report_case(shape)
    pictures = Page(document(report, x=x)).pictures
    assert bool(pictures) == (shape[0] in (1, 3))


def test_a_page_without_broken_samples_flags_or_finite_margins() -> None:
    report, x = report_case()
    plain = replace(
        report,
        robust=report.clean,
        broken_by=torch.full_like(report.broken_by, -1),
        margin=torch.full_like(report.margin, torch.nan),
        flags=(),
        attacks=(),
    )
    found = Page(document(plain, x=x))
    assert found.pictures == []
    assert "No flags" in found.text


def test_robustbench_entry_and_tensor(tmp_path: Path) -> None:
    report, _ = report_case()
    report = replace(report, eps=8 / 255)
    text, tensor = write_robustbench(report, tmp_path, "Me2030My", "cifar10", {"venue": "here"})
    entry = json.loads(text.read_text())
    assert text.name == "Me2030My.json"
    assert {k: entry[k] for k in ("clean_acc", "autoattack_acc", "eps", "dataset", "venue")} == {
        "clean_acc": "90.00",
        "autoattack_acc": "50.00",
        "eps": "8/255",
        "dataset": "cifar10",
        "venue": "here",
    }
    assert {"link", "name", "authors", "additional_data", "number_forward_passes", "footnote"} <= set(entry)
    stored = torch.load(tensor, weights_only=True)
    assert torch.equal(stored, report.x_adv.flip(0))  # ids run down
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Me2030My.json", "Me2030My.pt"]


def test_robustbench_takes_its_fields_and_its_version_only() -> None:
    report, _ = report_case()
    with pytest.raises(InputError, match="'autor' is not a field"):
        robustbench_json(report, "cifar10", {"autor": "me"})
    with pytest.raises(InputError, match="'fast'"):
        robustbench_json(replace(report, version="fast"), "cifar10")
    with pytest.raises(InputError, match="float32"):
        robustbench_json(
            replace(report, flags=(Flag(name="autocast", severity="note", count=0, ids=(), message="half"),)),
            "cifar10",
        )


def test_only_the_standard_version_of_autoattack_is_comparable() -> None:
    report, _ = report_case()
    assert "RobustBench" in comparable(report)
    assert "do not compare" in comparable(replace(report, version="fast"))
    assert "upper bound" in comparable(replace(report, engine="foolbox", version="LinfPGD"))
    half = replace(
        report,
        flags=(Flag(name="autocast", severity="note", count=1, ids=(), message="Searched in bfloat16."),),
    )
    assert "searched in bfloat16: compare it with RobustBench only after" in comparable(half)
    assert "numbers are comparable" not in comparable(half)
    assert "do not compare" in comparable(replace(half, version="fast"))


def test_a_report_says_how_it_was_made_and_links_its_files(tmp_path: Path) -> None:
    report, x = report_case()
    write(report, tmp_path, x=x, about={"weights_sha256": "ab12"}, title="Mine & <best>")
    page = (tmp_path / "report.html").read_text()
    check_page(page)
    made = json.loads((tmp_path / "report.json").read_text())["made"]
    images = {"images": x, "labels": report.y, "ids": report.ids}
    assert made == {
        "data_sha256": tensors_sha256(images),
        **computed_with("cpu"),
        **report.versions,  # of the attack, which may be older
        "date": made["date"],
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", made["date"])
    assert "<title>Mine &amp; &lt;best&gt;</title>" in page
    for name, value in (
        ("SHA-256 of the weights", "ab12"),
        ("SHA-256 of the data", made["data_sha256"]),
        ("date", made["date"]),
        ("threads", made["threads"]),
        ("torch", "2"),
    ):
        assert f"<dt>{name}</dt><dd>{value}</dd>" in page
    links = re.findall(r'<a href="([^"]*)"', page)
    assert links == ["report.json", "per_sample.csv", "adversarial.safetensors"]
    assert all((tmp_path / link).is_file() for link in links)


def test_the_device_is_that_of_the_attack(tmp_path: Path) -> None:
    report, _ = report_case()
    versions = {**report.versions, "device": "cuda: the second GPU", "official": "1.0"}
    write(replace(report, versions=versions), tmp_path)
    made = json.loads((tmp_path / "report.json").read_text())["made"]
    assert made["device"] == "cuda: the second GPU"
    page = (tmp_path / "report.html").read_text()
    assert page.count("<dt>device</dt><dd>cuda: the second GPU</dd>") == 1
    assert page.count("<dt>device</dt>") == 1


def test_many_classes_are_shown_by_the_least_robust() -> None:
    report, _ = report_case()
    ids = torch.arange(60)
    y, robust = ids % 30, ids % 30 >= 5
    many = replace(
        report,
        ids=ids,
        y=y,
        clean=torch.ones(60).bool(),
        robust=robust,
        margin=torch.ones(60),
        broken_by=torch.full((60,), -1),
        fragile=torch.zeros(60).bool(),
    )
    page = document(many, classes=[f"c{i:02}" for i in range(30)])
    shown = re.findall(r"<tr><td>(c\d\d)</td><td>2</td><td>100.00 %</td><td>([\d.]+) %</td></tr>", page)
    assert shown[:5] == [(f"c{i:02}", "0.00") for i in range(5)]
    assert len(shown) == 20
    assert "the 20 least robust of 30 classes" in page
