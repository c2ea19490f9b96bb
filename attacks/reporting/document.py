"""A report as one HTML page."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from robustsabn.attacks.report import Report
from robustsabn.attacks.reporting.pictures import Example, drawable, examples
from robustsabn.attacks.reporting.words import cite, comparable, threat_text, verdicts
from robustsabn.report.numbers import duration, eps_text, percent
from robustsabn.report.page import render
from robustsabn.report.plots import Plot, bars, histogram

__all__ = ["document"]

SHOWN_IDS = 20

Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def document(
    report: Report,
    *,
    classes: Sequence[str] | None = None,
    x: Tensor | None = None,
    about: Mapping[str, str] | None = None,
) -> str:
    """The page as self-contained HTML. `x` (N, ...): the clean images, in the order of the report."""
    about = dict(about or {})
    command = about.pop("command", "")
    heading = " on ".join(about[key] for key in ("model", "data") if key in about) or "Robustness report"
    return render(
        "autoattack.html",
        title=f"{heading}: robust accuracy {percent(report.robust_accuracy)}",
        heading=heading,
        setting=_setting(report),
        numbers=_numbers(report),
        flags=_flags(report),
        course=_course(report),
        costs=_costs(report),
        margins=_margins(report),
        by_class=_by_class(report, classes),
        examples=_gallery(report, classes, x),
        comparable=comparable(report),
        papers=cite(report),
        command=command,
        made=[*about.items(), ("seed", str(report.seed)), *report.versions.items()],
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
    present = sorted(set(report.y.tolist()))
    if len(present) < 2 or len(present) > 20:
        return None
    rows = []
    for label in present:
        own = report.y == label
        clean, robust = report.clean[own].double().mean(), report.robust[own].double().mean()
        rows.append(
            [_name(label, classes), str(int(own.sum())), percent(float(clean)), percent(float(robust))]
        )
    head = ["class", "images", "clean accuracy", "robust accuracy"]
    return head, rows


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
