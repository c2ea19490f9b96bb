"""The curves of a run on its page: charts against eps and steps, and accuracies by class."""

from collections.abc import Sequence

from robustsabn.analysis import ClassAccuracy, RobustnessCurves, SweepPoint
from robustsabn.report.numbers import eps_text, percent
from robustsabn.report.plots import Plot, lines, pairs
from robustsabn.text import counted
from robustsabn.trainers.adversarial.evaluation.curves import RunCurves
from robustsabn.trainers.runs.pages.page import PageTable

__all__ = ["curve_charts", "curve_tables"]

MOST_CLASSES = 20
WIDEST = 4
"""Multiples of eps up to which the radius is drawn; the last radius may be many times larger."""


def curve_charts(curves: RunCurves | None, data: str) -> list[tuple[Plot, str]]:
    """Accuracy against the radius and against the steps of PGD, a line for each attacked route; by class.

    `data` is that of the run; captions name other data.
    """
    if curves is None or not curves.routes:
        return []
    routes = _apart(curves)
    first = next(iter(routes.values()))
    radii = {name: [(p.setting, 100 * p.accuracy) for p in _near(own)] for name, own in routes.items()}
    halves = {p.setting: 2 * p.setting / first.eps for p in _near(first)}
    ticks = {at: eps_text(at) for at, half in halves.items() if abs(half - round(half)) < 1e-6}
    places = {p.setting: i for i, p in enumerate(first.steps)}
    steps = {
        name: [(float(places[p.setting]), 100 * p.accuracy) for p in own.steps]
        for name, own in routes.items()
    }
    accuracy, percents = "accuracy in %", (0.0, 100.0)
    what = f"{_images(curves, data)}, {curves.checkpoint} checkpoint (step {curves.step})"
    by_eps = lines(
        radii, "accuracy against eps", f"{first.norm} eps", accuracy, y_range=percents, ticks=ticks
    )
    by_steps = lines(
        steps,
        "accuracy against steps",
        f"steps of PGD at eps {eps_text(first.eps)}; 0: no attack",
        accuracy,
        y_range=percents,
        ticks={place: f"{setting:g}" for setting, place in places.items()},
    )
    charts = [
        (by_eps, f"Accuracy against eps, PGD-{first.attack_steps}, {what}. A sound curve falls to guessing."),
        (by_steps, f"Accuracy against the steps of the attack, {what}. A sound curve falls and flattens."),
    ]
    route, last = list(curves.routes.items())[-1]
    if len(last.classes) > 1:
        shown = _worst(last)
        bars = pairs(
            [(_name(curves, c), c.clean, c.robust) for c in shown], ("clean", "robust"), "accuracy by class"
        )
        through = "" if route == "all" else f", through {route}"
        few = f", the {len(shown)} least robust classes" if len(shown) < len(last.classes) else ""
        charts.append((bars, f"Accuracy by class, clean and under PGD-{last.attack_steps}{through}{few}."))
    return [(plot, caption) for plot, caption in charts if plot is not None]


def curve_tables(curves: RunCurves | None, data: str) -> list[PageTable]:
    """The numbers of the charts; `data` as there."""
    if curves is None or not curves.routes:
        return []
    routes = _apart(curves)
    first = next(iter(routes.values()))

    def rows(name: str, words: Sequence[str]) -> list[list[str]]:
        sweeps: list[tuple[SweepPoint, ...]] = [getattr(own, name) for own in routes.values()]
        columns = ([percent(point.accuracy) for point in sweep] for sweep in sweeps)
        return [list(row) for row in zip(words, *columns, strict=True)]

    radii = rows("radii", [f"eps {eps_text(p.setting)}" for p in first.radii])
    steps = rows("steps", [counted(int(p.setting), "step") for p in first.steps])[1:]
    noise = ["random images in the ball", *(percent(own.noise) for own in routes.values())]
    note = (
        f"{_images(curves, data)}, PGD-{first.attack_steps} where the radius is given, else eps "
        f"{eps_text(first.eps)}; the largest radius lets every image become grey."
    )
    head = ["attack", *routes]
    tables = [PageTable("Accuracy against eps and steps", head, [*radii, *steps, noise], note, folded=True)]
    route, last = list(curves.routes.items())[-1]
    if len(last.classes) > 1:
        cells = [[_name(curves, c), str(c.n), percent(c.clean), percent(c.robust)] for c in _worst(last)]
        heading = "Accuracy by class" + ("" if route == "all" else f", through {route}")
        tables.append(PageTable(heading, ["class", "images", "clean", "robust"], cells, folded=True))
    return tables


def _images(curves: RunCurves, data: str) -> str:
    n = next(iter(curves.routes.values())).n
    return f"{n} test images" + (f" of {curves.data}" if curves.data != data else "")


def _apart(curves: RunCurves) -> dict[str, RobustnessCurves]:
    """The curves by the words for their route; routes that compute the same are one."""
    found: dict[str, RobustnessCurves] = {}
    for route, own in curves.routes.items():
        same = next((words for words, other in found.items() if other == own), None)
        words = "accuracy" if route == "all" else f"through {route}"
        if same is not None:
            words = f"{same} and {route}"
            del found[same]
        found[words] = own
    return found


def _near(curves: RobustnessCurves) -> list[SweepPoint]:
    return [point for point in curves.radii if point.setting <= WIDEST * curves.eps]


def _worst(curves: RobustnessCurves) -> list[ClassAccuracy]:
    """All classes in order, or the least robust ones if they are many."""
    if len(curves.classes) <= MOST_CLASSES:
        return list(curves.classes)
    return sorted(curves.classes, key=lambda c: (c.robust, c.clean))[:MOST_CLASSES]


def _name(curves: RunCurves, own: ClassAccuracy) -> str:
    return curves.classes[own.label] if own.label < len(curves.classes) else f"class {own.label}"
