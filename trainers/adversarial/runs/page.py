"""A run as one page: how it trained, what it reached, where its attacks' reports are."""

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import robustsabn.config
from robustsabn.files import write_text
from robustsabn.locks import locked
from robustsabn.report.numbers import eps_text, percent
from robustsabn.report.page import render
from robustsabn.report.plots import Plot, lines
from robustsabn.trainers.adversarial.config import TrainConfig
from robustsabn.trainers.adversarial.evaluation.metrics import AVERAGES, robust_course
from robustsabn.trainers.adversarial.evaluation.overfitting import Reading, collapse, course, decline
from robustsabn.trainers.adversarial.runs.models import load_run_config
from robustsabn.trainers.methods import Standard
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.metrics import Point, Record, read_records, understood

__all__ = ["write_run_page"]

Series = dict[str, list[Point]]

MOST_POINTS = 400


def write_run_page(folder: str | Path) -> Path:
    """Write report/index.html in a run folder and return its path; CheckpointError where there is no run."""
    config, place = load_run_config(folder), RunFolder(folder)
    with locked(place.path / "report"):
        return _written(config, place)


def _written(config: TrainConfig, place: RunFolder) -> Path:
    found = list(read_records(place.metrics))
    target = place.path / "report" / "index.html"
    with understood(place.metrics):
        overfitting, curves = _overfitting(course(found), config), _curves(found)
    with understood(target.parent):
        evaluations = _evaluations(found, target.parent)
        numbers, attacks = _numbers(evaluations, target.parent), _attacks(target.parent)
        tables = [_table(name, record) for name, record in evaluations]
    title = f"Run {place.path.resolve().name}"
    page = render(
        "run.html",
        title=title,
        setting=_setting(config),
        numbers=numbers,
        overfitting=overfitting,
        curves=curves,
        evaluations=tables,
        attacks=attacks,
        picture=_picture(place.tb),
        configuration=robustsabn.config.dump(config),
    )
    write_text(target, page)
    return target


def _setting(config: TrainConfig) -> str:
    attack = config.attack
    length = f"{config.steps} steps" if config.steps else f"{config.epochs} epochs"
    return (
        f"{config.model} on {config.data}, norm {config.norm}, {length}, seed {config.seed}; "
        f"{attack.norm} perturbations of at most {eps_text(attack.eps)}."
    )


def _evaluations(records: Sequence[Record], report: Path) -> list[tuple[str, Record]]:
    """Closing evaluations with their titles, the newest measurement last."""
    found = []
    kinds = {"test": "best checkpoint", "test_last": "last checkpoint"}
    kinds |= {f"test_{name}": f"averaged weights ({word})" for name, word in AVERAGES.items()}
    for kind, which in kinds.items():
        for record in [record for record in records if record["kind"] == kind][-1:]:
            went_on = any(other["step"] > record["step"] for other in records)
            when = (
                f"After {record['step']} steps, before training went on"
                if went_on
                else "At the end of training"
            )
            found.append((f"{when}, {which}", record))
    later = report / "evaluation.json"
    if later.is_file():
        record = json.loads(later.read_text(encoding="utf-8"))
        step = f" (step {record['step']})" if "step" in record else ""
        found.append((f"robustsabn evaluate, {record.get('checkpoint', 'best')} checkpoint{step}", record))
    return found


def _numbers(evaluations: Sequence[tuple[str, Record]], report: Path) -> list[tuple[str, str, str]]:
    rows = []
    for _, found in evaluations[:1]:
        clean, robust = found["clean"], found["robust"]
        last = list(robust)[-1]
        rows.append((f"{found['attack']} accuracy", percent(robust[last][last]), _through(last)))
        first = next(iter(clean))
        rows.append(("Clean accuracy", percent(clean[first]), _through(first)))
    for name, content in _reports(report):
        rows.append((f"{name} accuracy", percent(content["robust_accuracy"]), f"{content['n']} images"))
    return rows


def _through(route: str) -> str:
    return "" if route == "all" else f"{route} route"


def _overfitting(points: Sequence[Reading], config: TrainConfig) -> list[tuple[str, str, str]]:
    if isinstance(config.method, Standard):  # which has no robustness to lose
        return []
    kept, found = config.by_robustness, []
    if fallen := collapse(points, kept):
        found.append(("warning", "Catastrophic overfitting.", f"{fallen[0].upper()}{fallen[1:]}."))
    if len(points) >= 2 and not points[-1].collapsed:
        lost = decline(points, kept)
        if lost:
            found.append(
                (
                    "warning",
                    "Robust overfitting.",
                    f"{lost[0].upper()}{lost[1:]}. Train it shorter, or with AWP.",
                )
            )
        else:
            best, last = max(points, key=lambda point: point.robust), points[-1]
            said = (
                f"Robust validation accuracy was best at step {best.step} with {percent(best.robust, 1)} and ended at "
                f"{percent(last.robust, 1)}."
            )
            found.append(("good", "No robust overfitting.", said))
    return found


def _curves(records: Sequence[Record]) -> list[tuple[Plot, str]]:
    train = [r for r in records if r["kind"] == "train"]
    validation = [r for r in records if r["kind"] == "validation"]
    losses = _series(train, lambda name: name == "loss" or name.endswith("_loss"))
    held_out: Series = {}
    for point in course(validation):
        measured = {"robust": point.robust, "FGSM": point.fgsm, "robust, training images": point.train_robust}
        for name, value in measured.items():
            if value is not None:
                held_out.setdefault(name, []).append((point.step, value))
    for name, word in AVERAGES.items():
        if averaged := robust_course(records, name):
            held_out[f"robust, {word}"] = averaged
    for record in validation:
        for name, value in record["clean"].items():
            held_out.setdefault(f"clean, {name}", []).append((record["step"], value))
    accuracies = _series(train, lambda name: name.endswith("accuracy"))
    held_out, accuracies = _in_percent(held_out), _in_percent(accuracies)
    best = max(held_out["robust"], key=lambda point: point[1]) if held_out else None
    accuracy = "accuracy in %"
    plots = [
        (
            lines(held_out, "validation accuracy", "step", accuracy, y_range=(0, 100), ring=best),
            "Accuracy on held-out images unless said otherwise; the ring is the best robust accuracy.",
        ),
        (lines(losses, "training loss", "step", "loss"), "Loss on training images."),
        (
            lines(accuracies, "training accuracy", "step", accuracy, y_range=(0, 100)),
            "Accuracy on training images.",
        ),
    ]
    return [(plot, caption) for plot, caption in plots if plot is not None]


def _in_percent(series: Series) -> Series:
    return {name: [(step, 100 * share) for step, share in points] for name, points in series.items()}


def _series(records: Sequence[Record], wanted: Callable[[str], bool]) -> Series:
    thin = records[:: max(1, len(records) // MOST_POINTS)]
    found: Series = {}
    for record in thin:
        for name, value in record.items():
            if wanted(name) and isinstance(value, (int, float)):
                found.setdefault(name.replace("_", " "), []).append((record["step"], value))
    return found


def _table(title: str, found: Record) -> tuple[str, list[str], list[list[str]], str]:
    routes = list(found["clean"])
    head = ["accuracy", *(f"{name} route" if name != "all" else "model" for name in routes)]
    rows = [["clean images", *(percent(found["clean"][name]) for name in routes)]]
    for source, row in found["robust"].items():
        through = f" through {source}" if source != "all" else ""
        rows.append([f"{found['attack']}{through}", *(percent(row[name]) for name in routes)])
    what = f"{found['n']} test images, {found['norm']} eps {eps_text(found['eps'])}"
    return title, head, rows, what


def _reports(report: Path) -> list[tuple[str, Record]]:
    found = sorted(report.glob("*/report.json"))
    return [(path.parent.name, json.loads(path.read_text(encoding="utf-8"))) for path in found]


def _attacks(report: Path) -> list[tuple[str, str, str, str]]:
    """Name, link, what it found, and its warnings, of every report of an attack."""
    rows = []
    for name, content in _reports(report):
        low, high = content["robust_accuracy_95"]
        text = (
            f"{percent(content['robust_accuracy'])} (95 % interval {100 * low:.1f} to {100 * high:.1f} %) on "
            f"{content['n']} images, {content['norm']} eps {eps_text(content['eps'])}, {content['engine']} "
            f"{content['version']}"
        )
        warnings = ", ".join(flag["name"] for flag in content["flags"] if flag["severity"] == "warning")
        rows.append((name, f"{quote(name)}/report.html", text, warnings))
    return rows


def _picture(tb: Path) -> dict[str, Any] | None:
    """The last grid of clean images, adversarial images and differences that the run logged."""
    if not tb.is_dir():
        return None
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tb), size_guidance={"images": 1, "scalars": 1}, purge_orphaned_data=False)
    events.Reload()
    tags = events.Tags()["images"]
    if not tags:
        return None
    last = events.Images(tags[0])[-1]
    source = "data:image/png;base64," + base64.b64encode(last.encoded_image_string).decode()
    return {"step": last.step, "source": source}
