"""The folded copy that AutoAttack searches on, against the network: forward, and forward with input gradient.

    python benchmarks/folding.py [--rounds 15] [--out benchmarks/results/folding.md]

Both are in eval mode, and both gradients are those of the input only. `rows` says whether a row of the copy's
output is equal bit for bit in batches of 16, 32, 48 and 64."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from timing import alternate, write_table
from torch import Tensor, nn

from robustsabn.attacks.folding.folded_copy import folded
from robustsabn.models import build

NETWORKS = (
    ("three convolutions", 64, (3, 32, 32)),
    ("resnet-digits", 64, (1, 8, 8)),
    ("resnet-small", 64, (3, 32, 32)),
    ("resnet18", 32, (3, 32, 32)),
    ("preact-resnet18-sabn", 32, (3, 32, 32)),
)


def network(name: str, channels: int) -> nn.Module:
    """A named network, or three convolutions with norm and ReLU and a linear head; random statistics."""
    if name != "three convolutions":
        model = build(name, 10, channels)
    else:
        widths = (channels, 32, 64, 128)
        layers: list[nn.Module] = []
        for i in range(3):
            layers += [nn.Conv2d(widths[i], widths[i + 1], 3, 1 + (i > 0), 1, bias=False)]
            layers += [nn.BatchNorm2d(widths[i + 1]), nn.ReLU()]
        model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, 0, 0.1)
    return model.eval()


def forward(model: nn.Module, x: Tensor) -> Tensor:
    """Logits without a graph."""
    with torch.no_grad():
        logits: Tensor = model(x)
    return logits


def gradient(model: nn.Module, x: Tensor) -> Tensor:
    """The gradient of the input only."""
    leaf = x.detach().requires_grad_()
    (found,) = torch.autograd.grad(model(leaf).logsumexp(1).sum(), leaf)
    return found


def same_rows(run: Callable[[nn.Module, Tensor], Tensor], model: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a row's result is the same in batches of every multiple of 16 rows."""
    x = torch.rand(64, *shape)
    parts = torch.cat([run(model, part) for part in x.split(16)])
    return all(torch.equal(run(model, x[:rows]), parts[:rows]) for rows in (32, 48, 64))


def main() -> None:
    """Measure every network and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    rows: list[list[object]] = []
    for name, batch, shape in NETWORKS:
        model, x = network(name, shape[0]), torch.rand(batch, *shape)
        copy, why = folded(model, x[:16])
        if copy is None or why:
            raise SystemExit(f"{name} was not folded: {why}")
        for kind, run in (("forward", forward), ("forward + input gradient", gradient)):
            runs = {which: partial(run, m, x) for which, m in (("model", model), ("copy", copy))}
            times = alternate(runs, args.rounds)
            faster = f"{times['model'] / times['copy']:.2f}x"
            row = [name, batch, kind, f"{times['model']:.1f}", f"{times['copy']:.1f}", faster]
            rows.append([*row, "same" if same_rows(run, copy, shape) else "differ"])
    header = ("network", "batch", "pass", "model ms", "folded ms", "faster", "rows")
    write_table("Folded copies, fp32", header, rows, args.out)


if __name__ == "__main__":
    main()
