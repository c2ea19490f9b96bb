"""What an evaluation looks like: a table of accuracies, a grid of attacked images."""

import torch
from rich.table import Table
from torch import Tensor

from robustsabn.trainers.adversarial.evaluation.evaluation import Evaluation

__all__ = ["image_grid", "results_table"]


def image_grid(x: Tensor, x_adv: Tensor, eps: float) -> Tensor:
    """Rows of images, adversarial images and differences (grey is 0, full range 2 eps): (C, 3 H, N W) in [0, 1]."""
    difference = (0.5 + (x_adv - x) / (2 * eps)).clamp(0, 1)
    return torch.cat([torch.cat(list(row), dim=2) for row in (x, x_adv, difference)], dim=1).cpu()


def results_table(evaluation: Evaluation, title: str) -> Table:
    """Clean accuracy per route, and accuracy under attack per route attacked (rows) and scored (columns)."""
    table = Table(title=title)
    table.add_column("accuracy %")
    for name in evaluation.routes:
        table.add_column(f"{name} route" if name != "all" else "model", justify="right")
    table.add_row("clean images", *(f"{100 * v:.2f}" for v in evaluation.clean.values()))
    for source, row in evaluation.robust.items():
        through = f" through {source}" if source != "all" else ""
        table.add_row(f"{evaluation.attack}{through}", *(f"{100 * v:.2f}" for v in row.values()))
    if evaluation.autoattack:
        through = f" through {evaluation.routes[-1]}" if evaluation.routes[-1] != "all" else ""
        fewer = f", {evaluation.autoattack_n} images" if evaluation.autoattack_n < evaluation.n else ""
        both = {evaluation.attack: evaluation.same_images, "autoattack": evaluation.autoattack}
        for name, row in both.items():
            if row:
                table.add_row(f"{name}{through}{fewer}", *(f"{100 * v:.2f}" for v in row.values()))
    return table
