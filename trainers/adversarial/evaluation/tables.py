"""Shows an evaluation: a table of accuracies, and a grid of attacked images."""

from collections.abc import Mapping

import torch
from rich.table import Table
from torch import Tensor

from robustsabn.report.console import result_table
from robustsabn.trainers.adversarial.evaluation.evaluation import Evaluation

__all__ = ["image_grid", "results_table"]


def image_grid(x: Tensor, x_adv: Tensor, eps: float) -> Tensor:
    """Rows of images, adversarial images and their differences: (C, 3 H, N W) in [0, 1].

    Grey is a difference of 0, the full range is 2 eps.
    """
    difference = (0.5 + (x_adv - x) / (2 * eps)).clamp(0, 1)
    return torch.cat([torch.cat(list(row), dim=2) for row in (x, x_adv, difference)], dim=1).cpu()


def results_table(evaluation: Evaluation, title: str) -> Table:
    """Accuracy on clean images and under each attack (rows) through each scored route (columns)."""
    head = ["accuracy %", *(f"{name} route" if name != "all" else "model" for name in evaluation.routes)]
    rows = [["clean images", *_percents(evaluation.clean)]]
    for source, row in evaluation.robust.items():
        through = f" through {source}" if source != "all" else ""
        rows.append([f"{evaluation.attack}{through}", *_percents(row)])
    if evaluation.autoattack:
        through = f" through {evaluation.routes[-1]}" if evaluation.routes[-1] != "all" else ""
        fewer = f", {evaluation.autoattack_n} images" if evaluation.autoattack_n < evaluation.n else ""
        both = {evaluation.attack: evaluation.same_images, "autoattack": evaluation.autoattack}
        rows += [[f"{name}{through}{fewer}", *_percents(row)] for name, row in both.items() if row]
    return result_table(title, head, rows)


def _percents(accuracies: Mapping[str, float]) -> list[str]:
    return [f"{100 * value:.2f}" for value in accuracies.values()]
