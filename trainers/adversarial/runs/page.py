"""The page of a run of adversarial training: its course, results and attack reports."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from urllib.parse import quote

from robustsabn.errors import CheckpointError
from robustsabn.report.numbers import eps_text, percent
from robustsabn.report.plots import Plot, lines
from robustsabn.trainers.adversarial.config import TrainConfig
from robustsabn.trainers.adversarial.evaluation.accuracies import Evaluation
from robustsabn.trainers.adversarial.evaluation.curves import read_curves
from robustsabn.trainers.adversarial.evaluation.metrics import robust_course
from robustsabn.trainers.adversarial.evaluation.overfitting import course
from robustsabn.trainers.adversarial.evaluation.tables import accuracy_rows
from robustsabn.trainers.adversarial.runs.curves_shown import curve_charts, curve_tables
from robustsabn.trainers.adversarial.runs.remarks import remarks
from robustsabn.trainers.checkpoints.files import read_facts
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.metrics import Record, average_names, understood
from robustsabn.trainers.runs.pages.page import (
    Page,
    PageTable,
    Picture,
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

CONFUSION = "Confusion under attack"


def run_page(config: TrainConfig, folder: RunFolder, records: Sequence[Record]) -> Page:
    """The page of a run of adversarial training."""
    report = folder.path / "report"
    with understood(report):
        titled = closing_records(records) + _later_evaluation(report, config.data)
        evaluations = [(name, _read(record)) for name, record in titled]
        contents, curves = _reports(report), read_curves(report)
        measured = [evaluation for _, evaluation in evaluations]
        tables = [_table(name, evaluation) for name, evaluation in evaluations]
        return Page(
            setting=_setting(config),
            tiles=_tiles(measured, contents),
            remarks=remarks(config, folder, records, measured, contents, curves, _classes(folder)),
            charts=[*_charts(records), *curve_charts(curves, config.data)],
            tables=[*tables, *curve_tables(curves, config.data)],
            reports=_attacks(contents),
            pictures=_pictures(folder.tb),
        )


def _read(record: Record) -> Evaluation:
    names = {field.name for field in fields(Evaluation)}
    return Evaluation(**{name: record[name] for name in names & record.keys()})


def _classes(folder: RunFolder) -> int | None:
    """The number of classes, None before the first checkpoint."""
    for name in ("last", "best"):
        try:
            return len(read_facts(folder.checkpoints, name)["classes"])
        except (CheckpointError, KeyError):
            continue
    return None


def _setting(config: TrainConfig) -> str:
    attack = config.attack
    return (
        f"{config.model} on {config.data}, norm {config.norm}, {length_text(config)}, seed {config.seed}; "
        f"{attack.norm} perturbations of at most {eps_text(attack.eps)}."
    )


def _later_evaluation(report: Path, data: str) -> list[tuple[str, Record]]:
    """The last evaluation by `robustsabn evaluate`, with its title, which names other data than the run's."""
    later = report / "evaluation.json"
    if not later.is_file():
        return []
    record = json.loads(later.read_text(encoding="utf-8"))
    step = f" (step {record['step']})" if "step" in record else ""
    other = f" on {record['data']}" if record.get("data", data) != data else ""
    return [(f"robustsabn evaluate, {record.get('checkpoint', 'best')} checkpoint{step}{other}", record)]


def _tiles(evaluations: Sequence[Evaluation], reports: Mapping[str, Record]) -> list[Tile]:
    rows = []
    for measured in evaluations[:1]:
        last, first = list(measured.robust)[-1], measured.routes[0]
        rows.append(Tile(f"{measured.attack} accuracy", percent(measured.robust_accuracy), _through(last)))
        if measured.autoattack:
            route = measured.routes[-1]
            where = ", ".join(filter(None, (_through(route), f"{measured.autoattack_n} images")))
            rows.append(Tile("AutoAttack accuracy", percent(measured.autoattack[route]), where))
        rows.append(Tile("Clean accuracy", percent(measured.clean_accuracy), _through(first)))
    for name, content in reports.items():
        rows.append(Tile(f"{name} accuracy", percent(content["robust_accuracy"]), f"{content['n']} images"))
    return rows


def _through(route: str) -> str:
    return "" if route == "all" else f"{route} route"


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


def _table(title: str, evaluation: Evaluation) -> PageTable:
    routes, rows = accuracy_rows(evaluation)
    cells = [[name, *map(percent, row)] for name, row in rows]
    note = ". ".join([evaluation.setting, *evaluation.notes])
    return PageTable(title=title, head=["accuracy", *routes], rows=cells, note=note)


def _reports(report: Path) -> dict[str, Record]:
    files = sorted(report.glob("*/report.json"))
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in files}


def _attacks(reports: Mapping[str, Record]) -> list[Report]:
    """Links to the reports of attacks, with their results."""
    rows = []
    for name, content in reports.items():
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
    """The last grid of clean images, adversarial images and differences, and the confusion under attack."""
    described = {
        CONFUSION: "labels as rows, predictions as columns",
        "Adversarial images": "clean images, adversarial images, and their difference (grey is zero)",
    }
    found: dict[str, Picture] = {}
    for picture in last_pictures(tb):
        heading = picture.heading if picture.heading == CONFUSION else "Adversarial images"
        text = f"{picture.caption}: {described[heading]}."
        found.setdefault(heading, picture._replace(heading=heading, caption=text))
    return list(found.values())
