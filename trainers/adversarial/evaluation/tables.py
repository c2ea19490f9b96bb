"""What an evaluation looks like: a table of accuracies, a grid of attacked images."""

from collections.abc import Mapping

import torch
from rich.table import Table
from torch import Tensor

from robustsabn.report.console import result_table
from robustsabn.trainers.adversarial.evaluation.evaluation import Evaluation

__all__ = ["image_grid", "results_table"]


def image_grid(x: Tensor, x_adv: Tensor, eps: float) -> Tensor:
    """Rows of images, adversarial images and differences (grey is 0, full range 2 eps): (C, 3 H, N W) in [0,
    1].
    """
    difference = (0.5 + (x_adv - x) / (2 * eps)).clamp(0, 1)
    return torch.cat([torch.cat(list(row), dim=2) for row in (x, x_adv, difference)], dim=1).cpu()


def results_table(found: Evaluation, title: str) -> Table:
    """Clean accuracy per route, and accuracy under attack per route attacked (rows) and scored (columns)."""
    head = ["accuracy %", *(f"{name} route" if name != "all" else "model" for name in found.routes)]
    rows = [["clean images", *_percents(found.clean)]]
    for source, row in found.robust.items():
        through = f" through {source}" if source != "all" else ""
        rows.append([f"{found.attack}{through}", *_percents(row)])
    if found.autoattack:
        through = f" through {found.routes[-1]}" if found.routes[-1] != "all" else ""
        fewer = f", {found.autoattack_n} images" if found.autoattack_n < found.n else ""
        both = {found.attack: found.same_images, "autoattack": found.autoattack}
        rows += [[f"{name}{through}{fewer}", *_percents(row)] for name, row in both.items() if row]
    return result_table(title, head, rows)


def _percents(accuracies: Mapping[str, float]) -> list[str]:
    return [f"{100 * value:.2f}" for value in accuracies.values()]
