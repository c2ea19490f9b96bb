"""Runs side by side: what is one group, its numbers, what is told of runs that do not compare."""

import csv
import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from robustsabn.cli import main
from robustsabn.errors import CheckpointError
from robustsabn.trainers import compare
from tests.helpers.recorded_run import ROUTED, ended_run

PLAIN = {"clean": {"all": 0.99}, "robust": {"all": {"all": 0.01}}}


def test_runs_that_differ_in_the_seed_are_one_group_with_mean_and_sample_deviation(tmp_path: Path) -> None:
    for seed, robust in enumerate((0.40, 0.44, 0.45)):
        ended_run(tmp_path / "sweep" / f"seed-{seed}", f"seed={seed}", "log_every=3", robust=robust)
    (group,) = compare([tmp_path / "sweep"]).groups
    assert group.name == "sweep"
    assert group.differing == {}
    assert [run.seed for run in group.runs] == [0, 1, 2]
    spread = group.spread("robust_accuracy")
    assert spread is not None
    assert spread.n == 3
    assert spread.mean == pytest.approx(0.43)
    assert spread.deviation == pytest.approx(statistics.stdev((0.40, 0.44, 0.45)))
    assert group.runs[0].numbers == {
        "clean_accuracy": 0.97,
        "clean_accuracy_last_route": 0.95,
        "robust_accuracy": 0.4,
        "training_seconds": 20.0,  # 40 steps of 50 images at 100 images a second
    }
    assert group.runs[0].courses["clean_accuracy"] == ((2.0, 0.9), (4.0, 0.9))  # by epochs


def test_groups_are_named_by_what_they_differ_in(tmp_path: Path) -> None:
    runs = [
        ended_run(tmp_path / "a", "method=trades", "norm=bn"),
        ended_run(tmp_path / "b", "method=pgd", "norm=bn"),
        ended_run(tmp_path / "c", "method=trades", "norm=bn", "seed=1"),
    ]
    found = compare(runs)
    assert [group.name for group in found.groups] == ["method=trades", "method=pgd"]
    assert [len(group.runs) for group in found.groups] == [2, 1]
    assert found.warnings == found.skipped == ()


def test_an_option_of_one_choice_tells_its_runs_apart(tmp_path: Path) -> None:
    runs = [
        ended_run(tmp_path / "a", "method=trades", "method.beta=5"),
        ended_run(tmp_path / "b", "method=trades", "method.beta=6"),
        ended_run(tmp_path / "c", "method=pgd", "model_options.mean=0.5"),
    ]
    assert [group.differing for group in compare(runs[:2]).groups] == [
        {"method.beta": 5.0},
        {"method.beta": 6.0},
    ]
    assert [group.differing for group in compare(runs[1:]).groups] == [
        {"method": "trades"},
        {"method": "pgd", "model_options.mean": 0.5},
    ]


def test_long_lists_of_differences_give_way_to_the_names_of_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        ended_run(tmp_path / f"trades-{seed}", f"seed={seed}", "method=trades", "norm=bn", "optim.lr=0.3")
    ended_run(tmp_path / "other" / "seed-0", "batch_size=16", "attack.eps=8/255", "validation.every=2")
    assert main(["compare", str(tmp_path)]) == 0
    assert [group.name for group in compare([tmp_path]).groups] == ["other", "trades"]
    printed = capsys.readouterr().out
    assert (
        "trades: batch_size=50 validation.every=1 norm=bn method=trades method.forward=separate optim.lr=0.3"
        in printed
    )


def test_a_network_without_routes_beside_one_with_routes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        ended_run(tmp_path / "a", "norm=none", test=PLAIN),
        ended_run(tmp_path / "b", "norm=saauxbn", "seed=0"),
        ended_run(tmp_path / "c", "norm=saauxbn", "seed=1", robust=0.5),
    ]
    assert main(["compare", *map(str, runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (head,) = [line for line in lines if "clean accuracy, clean route" in line]
    assert "pgd-20, adv route" in head
    (plain,) = [[cell.strip() for cell in line.split("│")] for line in lines if "norm=none" in line]
    assert plain[1:-1] == ["norm=none", "1", "99.00", "", "1.00", "20 s"]
    (routed,) = [[cell.strip() for cell in line.split("│")] for line in lines if "norm=saauxbn" in line]
    assert routed[1:-1] == [
        "norm=saauxbn",
        "2",
        "97.00 ± 0.00",
        "95.00 ± 0.00",
        "45.00 ± 7.07",
        "20 s",
    ]


def test_runs_measured_otherwise_are_neither_averaged_nor_passed_over(tmp_path: Path) -> None:
    runs = [
        ended_run(tmp_path / "a", "seed=0"),
        ended_run(tmp_path / "b", "seed=1", test={"n": 50}),
        ended_run(tmp_path / "c", "seed=2", test={"attack": "pgd-50-10"}),
    ]
    found = compare(runs)
    assert [group.name for group in found.groups] == [
        "test.attack=pgd-20 test.images=100",
        "test.attack=pgd-20 test.images=50",
        "test.attack=pgd-50-10 test.images=100",
    ]
    (warning,) = found.warnings
    assert "evaluated in different ways" in warning
    assert "pgd-20 on 50 test images, Linf eps 8/255" in warning


def test_other_balls_are_told(tmp_path: Path) -> None:
    runs = [
        ended_run(tmp_path / "a"),
        ended_run(tmp_path / "b", "attack.eps=4/255", test={"eps": 4 / 255}),
    ]
    found = compare(runs)
    assert [group.name for group in found.groups] == ["attack.eps=8/255", "attack.eps=4/255"]
    assert "Linf eps 4/255, step size 0.004: attack.eps=4/255" in found.warnings[0]


def test_a_seed_that_is_there_twice_and_nan_logits_are_told(tmp_path: Path) -> None:
    runs = [ended_run(tmp_path / "a"), ended_run(tmp_path / "b", test={"unusable": 3})]
    twice, broken = sorted(compare(runs).warnings, key=lambda line: "NaN" in line)
    assert "are the same run, with seed 0" in twice
    assert "NaN or infinite logits for 3 of 100 images" in broken
    assert compare([*runs[:1], runs[0], tmp_path]).groups == compare(runs).groups


def test_autoattack_of_the_run_or_of_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = {"autoattack": {"clean": 0.1, "adv": 0.35}, "autoattack_n": 20}
    runs = [ended_run(tmp_path / f"run-{seed}", f"seed={seed}", test=measured) for seed in range(3)]
    report = {
        "about": {"checkpoint": "best", "data": "digits"},
        "version": "standard",
        "norm": "Linf",
        "eps": 8 / 255,
        "n": 100,
        "robust_accuracy": 0.375,
    }
    changes: list[dict[str, Any]] = [{}, {"version": "fast"}, {"eps": 0.1}]
    for run, change in zip(runs, changes, strict=True):
        (run / "report" / "autoattack-adv").mkdir(parents=True)
        (run / "report" / "autoattack-adv" / "report.json").write_text(json.dumps({**report, **change}))
    (group,) = compare(runs).groups
    assert group.runs[0].numbers["autoattack_accuracy_100"] == 0.375
    assert [run.numbers.get("autoattack_accuracy_20") for run in group.runs] == [None, 0.35, 0.35]
    assert main(["compare", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "AutoAttack, adv route, 20 images" in printed
    assert "37.50 (1 of 3)" in printed
    assert "35.00 ± 0.00 (2 of 3)" in printed


def test_what_cannot_be_compared_is_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended_run(tmp_path / "seed-2")
    ended_run(tmp_path / "seed-10", "seed=10", ended=False)
    (tmp_path / "none").mkdir()
    assert main(["compare", str(tmp_path), str(tmp_path / "none")]) == 0
    first, second = [line for line in capsys.readouterr().out.splitlines() if line.startswith("skipped: ")]
    assert "seed-10 has not ended; wait for it, or if it was stopped end it with `robustsabn train" in first
    assert "none is not a run folder" in second
    with pytest.raises(CheckpointError, match="seed-10 has not ended"):
        compare([tmp_path / "seed-10"])


def drawn_lines(page: str) -> list[str]:
    """The paths of the coloured lines in the charts of a page."""
    return re.findall(r'<path d="([^"]*)"[^>]* style="fill: none; stroke: #', page)


def test_numbers_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i, norm in enumerate(("bn", "auxbn")):
        for seed, robust in enumerate((0.4, 0.5)):
            ended_run(
                tmp_path / norm / f"seed-{seed}", f"norm={norm}", f"seed={seed}", robust=robust + 0.1 * i
            )
    ended_run(tmp_path / "<new>", "norm=bn", "seed=2", ended=False)
    numbers, page = tmp_path / "new" / "numbers.json", tmp_path / "page.html"
    assert main(["compare", str(tmp_path), "--json", str(numbers), "--html", str(page)]) == 0
    written = [numbers, page, tmp_path / "page.csv", tmp_path / "page.json"]
    assert capsys.readouterr().out.splitlines()[-5:-1] == [f"written to {file}" for file in written]
    assert (tmp_path / "page.json").read_text() == numbers.read_text()
    with (tmp_path / "page.csv").open(newline="") as file:
        table = {row["group"]: row for row in csv.DictReader(file)}
    assert float(table["norm=auxbn"]["robust_accuracy"]) == pytest.approx(0.55)
    assert float(table["norm=auxbn"]["robust_accuracy_deviation"]) == pytest.approx(
        statistics.stdev((0.5, 0.6))
    )
    auxbn, bn = json.loads(numbers.read_text())["groups"]
    assert (auxbn["name"], auxbn["settings"], bn["seeds"]) == ("norm=auxbn", {"norm": "auxbn"}, [0, 1])
    assert bn["numbers"]["robust_accuracy"] == {
        "mean": pytest.approx(0.45),
        "deviation": pytest.approx(statistics.stdev((0.4, 0.5))),
        "values": [0.4, 0.5],
    }
    text = page.read_text()
    assert "4 runs compared" in text
    assert "45.00\u00a0±\u00a07.07" in text
    assert text.count("<svg") == 2
    assert len(drawn_lines(text)) == 2 * 2 * 3  # charts, groups, the mean and two seeds
    assert "&lt;new&gt; has not ended" in text
    assert "<new>" not in text


def test_averaged_weights_have_rows_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, gain in enumerate((0.04, 0.06)):
        folder = ended_run(tmp_path / "runs" / f"seed-{seed}", f"seed={seed}", "ema=0.9")
        averaged = {
            "clean": {"clean": 0.98, "adv": 0.96},
            "robust": {"adv": {"clean": 0.1, "adv": 0.4 + gain}},
        }
        kinds = ("test_ema", "test_swa") if seed else ("test_ema",)
        with (folder / "metrics.jsonl").open("a") as file:
            for kind in kinds:
                file.write(json.dumps({"kind": kind, "step": 40, **ROUTED, **averaged}) + "\n")
    numbers, page = tmp_path / "numbers.json", tmp_path / "page.html"
    assert main(["compare", str(tmp_path / "runs"), "--json", str(numbers), "--html", str(page)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("│")][1:-1] for line in lines if line.startswith("│")]
    assert rows == [
        ["runs", "2", "97.00 ± 0.00", "95.00 ± 0.00", "40.00 ± 0.00", "20 s"],
        ["runs, EMA", "2", "98.00 ± 0.00", "96.00 ± 0.00", "45.00 ± 1.41", ""],
        ["runs, SWA", "2", "98.00 (1 of 2)", "96.00 (1 of 2)", "46.00 (1 of 2)", ""],
    ]
    (group,) = json.loads(numbers.read_text())["groups"]
    assert group["numbers"]["ema_robust_accuracy"]["values"] == [0.44, 0.46]
    assert group["numbers"]["swa_clean_accuracy_last_route"]["values"] == [None, 0.96]
    text = page.read_text()
    assert "45.00\u00a0±\u00a01.41" in text
    assert re.search(r"<td>runs, EMA</td><td>0</td><td>98.00", text)
    assert re.findall(r"<td>runs, SWA</td><td>(\d)</td><td>98.00\s%", text) == ["1"]


def test_the_mean_course_is_that_of_the_seeds(tmp_path: Path) -> None:
    for seed, robust in enumerate((0.4, 0.5)):
        ended_run(tmp_path / "runs" / f"seed-{seed}", f"seed={seed}", robust=robust)
    page = tmp_path / "page.html"
    assert main(["compare", str(tmp_path / "runs"), "--html", str(page)]) == 0
    chart = page.read_text().split("<svg")[1]
    heights = [{float(y) for y in re.findall(r"[ML] \S+ (\S+)", line)} for line in drawn_lines(chart)]
    # 30 % and 40 % lie at the bottom and the top of the chart, their mean in the middle
    low, high, mean = (min(heights[0]), min(heights[1]), min(heights[2]))
    assert all(len(each) == 1 for each in heights)
    assert mean == pytest.approx((low + high) / 2, abs=0.1)
    assert low - high > 100
    assert {"30", "40"} <= set(re.findall(r">(\d+)</text>", chart))
