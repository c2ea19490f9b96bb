"""Shows an evaluation as a table of accuracies."""

from rich.table import Table

from robustsabn.report.console import result_table
from robustsabn.trainers.adversarial.evaluation.evaluation import Evaluation

__all__ = ["accuracy_rows", "results_table"]


def results_table(evaluation: Evaluation, title: str) -> Table:
    """Accuracy on clean images and under each attack (rows) through each scored route (columns)."""
    routes, rows = accuracy_rows(evaluation)
    cells = [[name, *(f"{100 * value:.2f}" for value in row)] for name, row in rows]
    return result_table(title, ["accuracy %", *routes], cells)


def accuracy_rows(evaluation: Evaluation) -> tuple[list[str], list[tuple[str, list[float]]]]:
    """The headings of the scored routes, and a row of accuracies in [0, 1] for each kind of images.

    AutoAttack's row follows where it was measured, with the same images under the other attack if fewer.
    """
    rows = [("clean images", list(evaluation.clean.values()))]
    for source, row in evaluation.robust.items():
        rows.append((f"{evaluation.attack}{_through(source)}", list(row.values())))
    if evaluation.autoattack:
        through = _through(evaluation.routes[-1])
        fewer = f", {evaluation.autoattack_n} images" if evaluation.autoattack_n < evaluation.n else ""
        both = {evaluation.attack: evaluation.same_images, "autoattack": evaluation.autoattack}
        rows += [(f"{name}{through}{fewer}", list(row.values())) for name, row in both.items() if row]
    return [f"{name} route" if name != "all" else "model" for name in evaluation.routes], rows


def _through(route: str) -> str:
    return f" through {route}" if route != "all" else ""
