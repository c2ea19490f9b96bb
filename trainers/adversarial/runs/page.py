"""The page of a run of adversarial training: its course, results and attack reports."""

import json
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from robustsabn.report.numbers import eps_text, percent
from robustsabn.report.plots import Plot, lines
from robustsabn.trainers.adversarial.config import TrainConfig
from robustsabn.trainers.adversarial.evaluation.metrics import robust_course
from robustsabn.trainers.adversarial.evaluation.overfitting import Reading, collapse, course, decline
from robustsabn.trainers.methods import Standard
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.metrics import Record, average_names, understood
from robustsabn.trainers.runs.page import (
    Page,
    PageTable,
    Picture,
    Remark,
    Report,
    Series,
    Tile,
    closing_records,
    last_pictures,
    length_text,
    loss_chart,
    series,
)

__all__ = ["run_page"]


def run_page(config: TrainConfig, folder: RunFolder, records: Sequence[Record]) -> Page:
    """The page of a run of adversarial training."""
    report = folder.path / "report"
    with understood(report):
        evaluations = closing_records(records) + _later_evaluation(report)
        tiles, reports = _tiles(evaluations, report), _attacks(report)
        tables = [_table(name, record) for name, record in evaluations]
    return Page(
        setting=_setting(config),
        tiles=tiles,
        remarks=_overfitting(course(records), config),
        charts=_charts(records),
        tables=tables,
        reports=reports,
        pictures=_pictures(folder.tb),
    )


def _setting(config: TrainConfig) -> str:
    attack = config.attack
    return (
        f"{config.model} on {config.data}, norm {config.norm}, {length_text(config)}, seed {config.seed}; "
        f"{attack.norm} perturbations of at most {eps_text(attack.eps)}."
    )


def _later_evaluation(report: Path) -> list[tuple[str, Record]]:
    """The last evaluation by `robustsabn evaluate`, with its title."""
    later = report / "evaluation.json"
    if not later.is_file():
        return []
    record = json.loads(later.read_text(encoding="utf-8"))
    step = f" (step {record['step']})" if "step" in record else ""
    return [(f"robustsabn evaluate, {record.get('checkpoint', 'best')} checkpoint{step}", record)]


def _tiles(evaluations: Sequence[tuple[str, Record]], report: Path) -> list[Tile]:
    rows = []
    for _, record in evaluations[:1]:
        clean, robust = record["clean"], record["robust"]
        last = list(robust)[-1]
        rows.append(Tile(f"{record['attack']} accuracy", percent(robust[last][last]), _through(last)))
        first = next(iter(clean))
        rows.append(Tile("Clean accuracy", percent(clean[first]), _through(first)))
    for name, content in _reports(report):
        rows.append(Tile(f"{name} accuracy", percent(content["robust_accuracy"]), f"{content['n']} images"))
    return rows


def _through(route: str) -> str:
    return "" if route == "all" else f"{route} route"


def _overfitting(points: Sequence[Reading], config: TrainConfig) -> list[Remark]:
    if isinstance(config.method, Standard):  # standard training has no robustness to lose
        return []
    kept, remarks = config.by_robustness, list[Remark]()
    if fallen := collapse(points, kept):
        remarks.append(Remark("warning", "Catastrophic overfitting.", f"{fallen[0].upper()}{fallen[1:]}."))
    if len(points) >= 2 and not points[-1].collapsed:
        lost = decline(points, kept)
        if lost:
            text = f"{lost[0].upper()}{lost[1:]}. Train for fewer epochs, or with AWP."
            remarks.append(Remark("warning", "Robust overfitting.", text))
        else:
            best, last = max(points, key=lambda point: point.robust), points[-1]
            summary = (
                f"Robust validation accuracy was best at step {best.step} with {percent(best.robust, 1)} and "
                f"ended at {percent(last.robust, 1)}."
            )
            remarks.append(Remark("good", "No robust overfitting.", summary))
    return remarks


def _charts(records: Sequence[Record]) -> list[tuple[Plot, str]]:
    validation = [record for record in records if record["kind"] == "validation"]
    held_out: Series = {}
    for point in course(validation):
        measured = {"robust": point.robust, "FGSM": point.fgsm, "robust, training images": point.train_robust}
        for name, value in measured.items():
            if value is not None:
                held_out.setdefault(name, []).append((point.step, value))
    for average in average_names(records):
        if averaged := robust_course(records, average):
            held_out[f"robust, {average.upper()}"] = averaged
    for record in validation:
        for name, value in record["clean"].items():
            held_out.setdefault(f"clean, {name}", []).append((record["step"], value))
    held_out = _in_percent(held_out)
    accuracies = _in_percent(series(records, "train", lambda name: name.endswith("accuracy")))
    best = max(held_out["robust"], key=lambda point: point[1]) if held_out else None
    accuracy = "accuracy in %"
    held_out_plot = lines(held_out, "validation accuracy", "step", accuracy, y_range=(0, 100), ring=best)
    training_plot = lines(accuracies, "training accuracy", "step", accuracy, y_range=(0, 100))
    caption = "Accuracy on held-out images unless stated otherwise; the ring is the best robust accuracy."
    return [
        *([(held_out_plot, caption)] if held_out_plot else []),
        *loss_chart(records),
        *([(training_plot, "Accuracy on training images.")] if training_plot else []),
    ]


def _in_percent(series: Series) -> Series:
    return {name: [(step, 100 * share) for step, share in points] for name, points in series.items()}


def _table(title: str, record: Record) -> PageTable:
    routes = list(record["clean"])
    head = ["accuracy", *(f"{name} route" if name != "all" else "model" for name in routes)]
    rows = [["clean images", *(percent(record["clean"][name]) for name in routes)]]
    for source, row in record["robust"].items():
        through = f" through {source}" if source != "all" else ""
        rows.append([f"{record['attack']}{through}", *(percent(row[name]) for name in routes)])
    what = f"{record['n']} test images, {record['norm']} eps {eps_text(record['eps'])}"
    return PageTable(title=title, head=head, rows=rows, note=what)


def _reports(report: Path) -> list[tuple[str, Record]]:
    files = sorted(report.glob("*/report.json"))
    return [(path.parent.name, json.loads(path.read_text(encoding="utf-8"))) for path in files]


def _attacks(report: Path) -> list[Report]:
    """Links to the reports of attacks, with their results."""
    rows = []
    for name, content in _reports(report):
        low, high = content["robust_accuracy_95"]
        text = (
            f"{percent(content['robust_accuracy'])} (95 % interval {100 * low:.1f} to {100 * high:.1f} %) on "
            f"{content['n']} images, {content['norm']} eps {eps_text(content['eps'])}, {content['engine']} "
            f"{content['version']}"
        )
        warnings = ", ".join(flag["name"] for flag in content["flags"] if flag["severity"] == "warning")
        rows.append(Report(name=name, link=f"{quote(name)}/report.html", text=text, warnings=warnings))
    return rows


def _pictures(tb: Path) -> list[Picture]:
    """The last grid of clean images, adversarial images and differences that the run logged."""
    what = "clean images, adversarial images, and their difference (grey is zero)"
    return [
        Picture("Adversarial images", picture.source, f"{picture.caption}: {what}.")
        for picture in last_pictures(tb)[:1]
    ]
