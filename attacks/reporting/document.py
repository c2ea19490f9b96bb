"""A report as one HTML page."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from robustsabn.attacks.report import Report
from robustsabn.attacks.reporting.pictures import Example, drawable, examples
from robustsabn.attacks.reporting.words import cite, comparable, threat_text, verdicts
from robustsabn.report.numbers import duration, eps_text, percent
from robustsabn.report.page import render
from robustsabn.report.plots import Plot, bars, histogram, pairs
from robustsabn.report.provenance import labelled

__all__ = ["document"]

SHOWN_IDS = 20
MOST_CLASSES = 20

Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def document(
    report: Report,
    *,
    classes: Sequence[str] | None = None,
    x: Tensor | None = None,
    about: Mapping[str, str] | None = None,
    title: str | None = None,
    made: Mapping[str, str] | None = None,
    files: Sequence[str] = (),
) -> str:
    """The page as self-contained HTML.

    `x` (N, ...): the clean images, in the order of the report. `about` and `made`: what was evaluated, and
    with what; `files`: names of files beside the page.
    """
    about, made = dict(about or {}), dict(made or {})
    versions = {name: text for name, text in report.versions.items() if name not in made}
    command = about.pop("command", "")
    heading = " on ".join(about[key] for key in ("model", "data") if key in about) or "Robustness report"
    return render(
        "autoattack.html",
        title=title or f"{heading}: robust accuracy {percent(report.robust_accuracy)}",
        heading=title or heading,
        setting=_setting(report),
        numbers=_numbers(report),
        flags=_flags(report),
        course=_course(report),
        costs=_costs(report),
        margins=_margins(report),
        by_class=_by_class(report, classes),
        class_chart=_class_chart(report, classes),
        examples=_gallery(report, classes, x),
        comparable=comparable(report),
        papers=cite(report),
        command=command,
        made=[*labelled(about), ("seed", str(report.seed)), *labelled(made | versions)],
        files=[(name, name) for name in files],
    )


def _setting(report: Report) -> str:
    made = {"robustsabn": "AutoAttack", "official": "The official AutoAttack code"}
    return f"{made.get(report.engine, report.engine)}, version {report.version}. {threat_text(report)}."


def _numbers(report: Report) -> list[tuple[str, str, str]]:
    low, high = report.confidence
    wrong = report.n - int(report.clean.sum())
    broken = int(report.clean.sum()) - int(report.robust.sum())
    interval = f"95 % interval {100 * low:.1f} to {100 * high:.1f} %"
    return [
        ("Robust accuracy", percent(report.robust_accuracy), interval),
        ("Clean accuracy", percent(report.clean_accuracy), ""),
        ("Images", str(report.n), f"{wrong} misclassified without an attack, {broken} broken"),
        ("Time", duration(report.seconds), f"{report.forwards:,} forwards"),
    ]


def _flags(report: Report) -> list[tuple[str, str, str]]:
    if not report.flags:
        if report.engine == "official":
            return [("good", "No flags.", "The official code gave no warning.")]
        return [("good", "No flags.", "No check found a reason to doubt the number.")]
    order = sorted(report.flags, key=lambda flag: flag.severity != "warning")
    remarks: list[tuple[str, str, str]] = []
    for flag in order:
        where = ", ".join(map(str, flag.ids[:SHOWN_IDS])) + (", …" if len(flag.ids) > SHOWN_IDS else "")
        text = flag.message + (f" Image numbers: {where}." if where else "")
        remarks.append((flag.severity, f"{flag.severity.capitalize()}: {flag.name}.", text))
    return remarks


def _course(report: Report) -> Plot:
    rows = [("clean", report.clean_accuracy, percent(report.clean_accuracy))]
    rows += [(a.name, a.robust_accuracy, percent(a.robust_accuracy)) for a in report.attacks]
    return bars(rows, "accuracy after each attack")


def _costs(report: Report) -> Table:
    head = ["attack", "images", "broken", "robust accuracy", "forwards", "backwards", "time"]
    rows = [
        [
            a.name,
            str(a.points),
            str(a.broken),
            percent(a.robust_accuracy),
            f"{a.forwards:,}",
            f"{a.backwards:,}",
            duration(a.seconds),
        ]
        for a in report.attacks
    ]
    total = ["all", "", "", "", f"{report.forwards:,}", f"{report.backwards:,}", duration(report.seconds)]
    return head, [*rows, total]


def _margins(report: Report) -> Plot | None:
    groups: dict[str, list[float]] = {"robust": [], "broken": [], "wrong": []}
    for verdict, margin in zip(verdicts(report), report.margin.tolist(), strict=True):
        groups[verdict].append(margin)
    return histogram({k: v for k, v in groups.items() if v}, "histogram of margins", "margin")


def _by_class(report: Report, classes: Sequence[str] | None) -> Table | None:
    """The classes in order, or the least robust ones if they are many; None for a single class."""
    head = ["class", "images", "clean accuracy", "robust accuracy"]
    rows = [
        [name, str(n), percent(clean), percent(robust)] for name, n, clean, robust in _shown(report, classes)
    ]
    return (head, rows) if rows else None


def _class_chart(report: Report, classes: Sequence[str] | None) -> tuple[Plot, str] | None:
    shown, known = _shown(report, classes), len(set(report.y.tolist()))
    if not shown:
        return None
    few = f", the {len(shown)} least robust of {known} classes" if len(shown) < known else ""
    rows = [(name, clean, robust) for name, _, clean, robust in shown]
    return pairs(rows, ("clean", "robust"), "accuracy by class"), f"Accuracy by class{few}."


def _shown(report: Report, classes: Sequence[str] | None) -> list[tuple[str, int, float, float]]:
    """Name, number of images, clean and robust accuracy in [0, 1] of each class that is shown."""
    rows = []
    for label in sorted(set(report.y.tolist())):
        own = report.y == label
        clean, robust = (float(verdict[own].double().mean()) for verdict in (report.clean, report.robust))
        rows.append((_name(label, classes), int(own.sum()), clean, robust))
    if len(rows) > MOST_CLASSES:
        rows = sorted(rows, key=lambda row: (row[3], row[2]))[:MOST_CLASSES]
    return rows if len(rows) > 1 else []


def _gallery(report: Report, classes: Sequence[str] | None, x: Tensor | None) -> list[dict[str, Any]]:
    if x is None or not drawable(x):
        return []
    return [_example(report, example, classes) for example in examples(report, x)]


def _example(report: Report, example: Example, classes: Sequence[str] | None) -> dict[str, Any]:
    row = example.row
    distance = f"{report.norm} distance {eps_text(float(report.distance[row]))}"
    return {
        "clean": example.clean,
        "adversarial": example.adversarial,
        "difference": example.difference,
        "before": _name(int(report.clean_prediction[row]), classes),
        "after": _name(int(report.adversarial_prediction[row]), classes),
        "caption": f"{report.attacks[int(report.broken_by[row])].name}, {distance}, difference times "
        f"{example.gain:.3g}, image {int(report.ids[row])}",
    }


def _name(label: int, classes: Sequence[str] | None) -> str:
    return classes[label] if classes is not None and 0 <= label < len(classes) else f"class {label}"
