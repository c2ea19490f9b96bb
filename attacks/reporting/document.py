"""A report as one page for a reader in a hurry."""

from collections.abc import Mapping, Sequence
from html import escape

from torch import Tensor

from robustsabn.attacks.report import Report
from robustsabn.attacks.reporting.page import boxes, definitions, figure, page, table, tiles
from robustsabn.attacks.reporting.pictures import Example, drawable, examples
from robustsabn.attacks.reporting.svg import bars, histogram
from robustsabn.attacks.reporting.words import (
    cite,
    comparable,
    duration,
    eps_text,
    percent,
    threat_text,
    verdicts,
)

__all__ = ["document"]

SHOWN_IDS = 20


def document(
    report: Report,
    *,
    classes: Sequence[str] | None = None,
    x: Tensor | None = None,
    about: Mapping[str, str] | None = None,
) -> str:
    """The page as HTML, with everything in it. `x` (N, ...): the clean images, in the order of the report."""
    about = dict(about or {})
    command = about.pop("command", "")
    title = " on ".join(about[key] for key in ("model", "data") if key in about) or "Robustness report"
    return page(
        f"{title}: robust accuracy {percent(report.robust_accuracy)}",
        [
            f"<h1>{escape(title)}</h1>",
            f"<p>{escape(_setting(report))}</p>",
            _numbers(report),
            _flags(report),
            "<h2>Accuracy after each attack</h2>",
            _course(report),
            _costs(report),
            _margins(report),
            _by_class(report, classes),
            _gallery(report, classes, x),
            "<h2>How to read and cite this</h2>",
            f"<p>{escape(comparable(report))}</p>",
            f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in cite(report))}</ul>",
            "<h2>How it was made</h2>",
            f"<pre>{escape(command)}</pre>" if command else "",
            definitions([*about.items(), ("seed", str(report.seed)), *report.versions.items()]),
        ],
    )


def _setting(report: Report) -> str:
    made = {"robustsabn": "AutoAttack", "official": "The official AutoAttack code"}
    return f"{made.get(report.engine, report.engine)}, version {report.version}. {threat_text(report)}."


def _numbers(report: Report) -> str:
    low, high = report.confidence
    wrong = report.n - int(report.clean.sum())
    broken = int(report.clean.sum()) - int(report.robust.sum())
    return tiles(
        [
            (
                "Robust accuracy",
                percent(report.robust_accuracy),
                f"95 % interval {100 * low:.1f} to {100 * high:.1f} %",
            ),
            ("Clean accuracy", percent(report.clean_accuracy), ""),
            ("Images", str(report.n), f"{wrong} wrong from the start, {broken} broken"),
            ("Time", duration(report.seconds), f"{report.forwards:,} forwards"),
        ]
    )


def _flags(report: Report) -> str:
    if not report.flags:
        if report.engine == "official":
            return boxes([("good", "No flags.", "The official code gave no warning.")])
        return boxes([("good", "No flags.", "Nothing that was checked speaks against the number.")])
    order = sorted(report.flags, key=lambda flag: flag.severity != "warning")
    found = []
    for flag in order:
        where = ", ".join(map(str, flag.ids[:SHOWN_IDS])) + (", …" if len(flag.ids) > SHOWN_IDS else "")
        text = flag.message + (f" Image numbers: {where}." if where else "")
        found.append((flag.severity, f"{flag.severity.capitalize()}: {flag.name}.", text))
    return boxes(found)


def _course(report: Report) -> str:
    rows = [("clean", report.clean_accuracy, percent(report.clean_accuracy))]
    rows += [(a.name, a.robust_accuracy, percent(a.robust_accuracy)) for a in report.attacks]
    return figure(
        bars(rows, "accuracy after each attack"), "Each attack gets the images that all before it left."
    )


def _costs(report: Report) -> str:
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
    return table(head, [*rows, total])


def _margins(report: Report) -> str:
    groups: dict[str, list[float]] = {"robust": [], "broken": [], "wrong": []}
    for verdict, margin in zip(verdicts(report), report.margin.tolist(), strict=True):
        groups[verdict].append(margin)
    chart = histogram({k: v for k, v in groups.items() if v}, "histogram of margins", "margin")
    caption = (
        "Logit of the true class minus the largest other logit: on the adversarial image where one was found, else "
        "on the clean image. Below zero is misclassified."
    )
    return "<h2>Margins</h2>" + figure(chart, caption) if chart else ""


def _by_class(report: Report, classes: Sequence[str] | None) -> str:
    present = sorted(set(report.y.tolist()))
    if len(present) < 2 or len(present) > 20:
        return ""
    rows = []
    for label in present:
        own = report.y == label
        clean, robust = report.clean[own].double().mean(), report.robust[own].double().mean()
        rows.append(
            [_name(label, classes), str(int(own.sum())), percent(float(clean)), percent(float(robust))]
        )
    head = ["class", "images", "clean accuracy", "robust accuracy"]
    return "<h2>By class</h2>" + table(head, rows)


def _gallery(report: Report, classes: Sequence[str] | None, x: Tensor | None) -> str:
    if x is None or not drawable(x):
        return ""
    found = examples(report, x)
    if not found:
        return ""
    shown = "".join(_example(report, example, classes) for example in found)
    heading = "<h2>Examples</h2><p class=muted>Clean image, adversarial image, and their difference (grey is zero).</p>"
    return f'{heading}<div class="pictures">{shown}</div>'


def _example(report: Report, example: Example, classes: Sequence[str] | None) -> str:
    row = example.row
    before = _name(int(report.clean_prediction[row]), classes)
    after = _name(int(report.adversarial_prediction[row]), classes)
    attack = report.attacks[int(report.broken_by[row])].name
    pictures = "".join(
        f'<img src="{source}" alt="{kind}">'
        for kind, source in (
            ("clean", example.clean),
            ("adversarial", example.adversarial),
            ("difference", example.difference),
        )
    )
    caption = (
        f"<b>{escape(before)} → {escape(after)}</b> by {escape(attack)}, {escape(report.norm)} distance "
        f"{eps_text(float(report.distance[row]))}, difference times {example.gain:.3g}, image {int(report.ids[row])}"
    )
    return f"<figure>{pictures}<figcaption>{caption}</figcaption></figure>"


def _name(label: int, classes: Sequence[str] | None) -> str:
    return classes[label] if classes is not None and 0 <= label < len(classes) else f"class {label}"
