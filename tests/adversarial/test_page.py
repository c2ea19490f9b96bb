"""The page about a run: what it says of curves, overfitting, closing tables and reports."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustsabn import config
from robustsabn.attacks.reporting import write
from robustsabn.cli import main
from robustsabn.data import load
from robustsabn.report.provenance import file_sha256
from robustsabn.trainers import TrainConfig
from robustsabn.trainers.checkpoints.files import read_facts
from robustsabn.trainers.pages import write_run_page
from robustsabn.trainers.runs.monitor import Monitor
from tests.helpers.attacks.report_case import report_case
from tests.helpers.report.page import check_page


def run_folder(folder: Path, robust: Sequence[float], **settings: Any) -> Path:
    """A run that validated with these robust accuracies at the steps 10, 20, …"""
    folder.mkdir()
    (folder / "config.yaml").write_text(config.dump(TrainConfig(**settings)))
    records: list[dict[str, Any]] = []
    for i, accuracy in enumerate(robust, 1):
        records.append({"kind": "train", "step": 10 * i, "loss": 2 / i, "clean_accuracy": 0.5, "lr": 0.1})
        records.append(
            {
                "kind": "validation",
                "step": 10 * i,
                "clean": {"clean": 0.9, "adv": 0.8},
                "robust": {"adv": {"clean": 0.1, "adv": accuracy}},
            }
        )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


CLOSING = {
    "n": 50,
    "clean": {"clean": 0.97, "adv": 0.95},
    "robust": {"clean": {"clean": 0.2, "adv": 0.3}, "adv": {"clean": 0.25, "adv": 0.4375}},
    "attack": "pgd-20",
    "norm": "Linf",
    "eps": 8 / 255,
}


def test_robust_overfitting_is_said(tmp_path: Path) -> None:
    page = write_run_page(run_folder(tmp_path / "run", [0.3, 0.44, 0.4])).read_text()
    assert "best at step 20 with 44.0 % and ended at 40.0 %: 4.0 points lost" in page
    assert page.count("<svg") == 3


def test_the_gap_to_training_images_and_one_step_accuracy_are_drawn(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", [0.3, 0.44, 0.4])
    metrics = folder / "metrics.jsonl"
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    for record in records:
        if record["kind"] == "validation":
            record |= {"fgsm": 0.5, "collapsed": False, "train_robust": 0.75, "robust_gap": 0.35}
    metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    page = write_run_page(folder).read_text()
    assert "4.0 points lost, while it ended at 75.0 % on training images" in page
    assert "robust, training images" in page
    assert "FGSM" in page


def test_a_run_that_ends_at_its_best_is_said_too(tmp_path: Path) -> None:
    page = write_run_page(run_folder(tmp_path / "run", [0.2, 0.3, 0.4, 0.43, 0.44])).read_text()
    assert "No robust overfitting." in page
    assert "best at step 50 with 44.0 % and ended at 44.0 %, in 5 validations" in page


def test_too_few_validations_and_runs_that_never_got_robust_are_not_called_sound(tmp_path: Path) -> None:
    few = write_run_page(run_folder(tmp_path / "few", [0.3, 0.4, 0.43, 0.44])).read_text()
    assert "4 validations are too few to tell; it takes 5." in few
    never = write_run_page(run_folder(tmp_path / "never", [0.1, 0.12, 0.1, 0.11, 0.12, 0.1])).read_text()
    assert "Never robust." in never
    assert "at most 12.0 %" in never
    for page in (few, never):
        assert "No robust overfitting." not in page


def test_closing_tables_and_reports_of_attacks_are_shown(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", [0.4], model="<net>.py:make")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "test", "step": 10, **CLOSING}) + '\n{"kind": "tra')
    report, x = report_case()
    write(report, folder / "report" / "autoattack-adv", x=x)
    later = {**CLOSING, "attack": "autoattack", "checkpoint": "last"}
    (folder / "report" / "evaluation.json").write_text(json.dumps(later))
    page = write_run_page(folder).read_text()
    for text in ("43.75 %", "pgd-20 through adv", "autoattack through adv", "last checkpoint", "50.00 %"):
        assert text in page, text
    assert '<a href="autoattack-adv/report.html">' in page
    assert "Warnings: square-only." in page
    assert "8/255" in page
    assert "&lt;net&gt;.py:make" in page
    assert "<net>" not in page


def test_averaged_weights_are_shown(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", [0.4])
    with (folder / "metrics.jsonl").open("a") as file:
        for kind, robust in (
            ("test", 0.4),
            ("ema", 0.42),
            ("swa", 0.42),
            ("test_ema", 0.4321),
            ("test_swa", 0.4123),
        ):
            scores = {"clean": {"clean": 0.9, "adv": 0.8}, "robust": {"adv": {"clean": 0.1, "adv": robust}}}
            file.write(json.dumps({"kind": kind, "step": 10, **CLOSING, **scores}) + "\n")
    page = write_run_page(folder).read_text()
    for name, percent in (("EMA", "43.21 %"), ("SWA", "41.23 %")):
        curves, table = page.split(f"At the end of training, averaged weights ({name})")
        assert percent in table
        assert f"robust, {name}" in curves


def test_the_last_adversarial_images_of_the_run_are_shown(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", [0.4])
    monitor = Monitor(folder / "metrics.jsonl", folder / "tb", 20, 10, True)
    with monitor.running():
        for step in (10, 20):
            monitor.picture("images/grid", torch.rand(1, 24, 32), step)
    page = write_run_page(folder).read_text()
    assert page.count("data:image/png;base64,") == 1
    assert "Step 20: clean images" in page


def test_the_verb_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_folder(tmp_path / "run", [])
    assert main(["report", str(folder)]) == 0
    assert (folder / "report" / "index.html").is_file()
    assert str(folder / "report" / "index.html") in capsys.readouterr().out


def test_what_is_no_run_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "config.yaml" in err
    assert err.count("\n") == 1


def test_autoattack_is_a_row_wherever_training_printed_it(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", [0.4])
    attacked = {"autoattack": {"clean": 0.11, "adv": 0.3725}, "autoattack_n": 40}
    same = {"same_images": {"clean": 0.12, "adv": 0.4125}}
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "test", "step": 10, **CLOSING, **attacked, **same}) + "\n")
    page = write_run_page(folder).read_text()
    row = re.search(r"<tr><td>autoattack through adv, 40 images</td>(.*)</tr>", page)
    assert row is not None
    assert re.findall(r"<td>(.*?)</td>", row[1]) == ["11.00 %", "37.25 %"]
    assert "<td>pgd-20 through adv, 40 images</td><td>12.00 %</td><td>41.25 %</td>" in page
    assert "AutoAttack accuracy<b>37.25 %</b>" in page


def test_autoattack_far_below_pgd_is_told(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", [0.4])
    attacked = {"autoattack": {"clean": 0.0, "adv": 0.05}, "autoattack_n": 50}
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "test", "step": 10, **CLOSING, **attacked}) + "\n")
    page = write_run_page(folder).read_text()
    assert "PGD was too weak." in page
    assert "AutoAttack leaves 5.0 % of 50 images where pgd-20 left 43.8 %" in page


def test_changed_keys_come_first_and_the_rest_is_folded(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", [0.4], norm="bn", seed=3)
    shown, folded = write_run_page(folder).read_text().split("<details><summary>All keys")
    assert "<td>norm</td><td>bn</td><td>saauxbn</td>" in shown
    assert "<td>seed</td><td>3</td><td>0</td>" in shown
    assert "<td>epochs</td>" not in shown
    assert "epochs: 20" in folded


def test_the_title_is_the_given_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_folder(tmp_path / "run", [0.4])
    assert main(["report", str(folder), "--title", "Mine & <best>"]) == 0
    page = (folder / "report" / "index.html").read_text()
    assert "<title>Mine &amp; &lt;best&gt;</title>" in page
    assert "<h1>Mine &amp; &lt;best&gt;</h1>" in page


def test_the_numbers_are_beside_the_page_as_csv(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", [0.3, 0.44])
    page = write_run_page(folder).read_text()
    links = re.findall(r'<a href="([^"]*)">', page)
    assert links == ["metrics.csv", "../metrics.jsonl", "../config.yaml"]
    assert all((folder / "report" / link).is_file() for link in links)
    with (folder / "report" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == ["train", "validation"] * 2
    assert [row["robust/adv/adv"] for row in rows] == ["", "0.3", "", "0.44"]
    assert rows[0]["loss"] == "2.0"


def test_provenance_of_a_real_run_is_on_its_page(ended: Path) -> None:
    page = write_run_page(ended).read_text()
    kept = read_facts(ended / "checkpoints", "best")["files"]["model.safetensors"]
    assert file_sha256(ended / "checkpoints" / "best" / "model.safetensors") == kept
    noted = json.loads((ended / "provenance.json").read_text())
    for text in (
        f"<dt>SHA-256 of best/model.safetensors</dt><dd>{kept}</dd>",
        f"<dt>SHA-256 of data</dt><dd>{noted['data_sha256']['data']}</dd>",
        f"<dt>torch</dt><dd>{torch.__version__}</dd>",
        f"<dt>threads</dt><dd>{torch.get_num_threads()}</dd>",
        '<a href="../provenance.json">',
    ):
        assert text in page


def test_a_page_of_every_part_loads_nothing_and_fits_every_width(ended: Path) -> None:
    report, x = report_case()
    write(report, ended / "report" / "autoattack-adv", x=x)
    assert main(["evaluate", str(ended), "--attack", "pgd-1", "--curves", "--n", "20"]) == 0
    page = write_run_page(ended).read_text()
    check_page(page)
    assert "20 test images, best checkpoint" in page


def test_other_data_than_that_of_the_run_are_named(ended: Path, tmp_path: Path) -> None:
    pixels, labels = load("digits").test.batch(torch.arange(20))
    x = (pixels * 255).round().byte().permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "other.npz", images=x, labels=labels.numpy())
    spec = f"npz:{tmp_path / 'other.npz'}"
    own = ["evaluate", str(ended), "--attack", "pgd-1", "--curves", "--n", "20"]
    assert main([*own, "--data", spec]) == 0
    page = write_run_page(ended).read_text()
    assert re.search(rf"robustsabn evaluate, best checkpoint \(step \d+\) on {re.escape(spec)}<", page)
    assert f"20 test images of {spec}, best checkpoint" in page
    assert f"20 test images of {spec}, PGD-20 where" in page
