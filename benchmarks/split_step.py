"""One Split forward of clean and adversarial images against two forwards, each with one backward.

python benchmarks/split_step.py [--rounds 15] [--out benchmarks/results/split_step.md]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from timing import alternate, write_table
from torch import Tensor, nn

from robustsabn import Split, convert, route
from robustsabn.models import build

NETWORKS = (
    ("resnet-digits", 64, (1, 8, 8)),
    ("resnet-small", 64, (3, 32, 32)),
    ("preact-resnet18-sabn", 32, (3, 32, 32)),
)


def steps(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> dict[str, Callable[[], object]]:
    """Both forms of the paired training step, without the optimiser."""

    def split() -> None:
        with route(model, Split(clean=len(x), adv=len(x))):
            z, z_adv = model(torch.cat([x, x_adv])).chunk(2)
        finish(z, z_adv)

    def separate() -> None:
        with route(model, "clean"):
            z = model(x)
        with route(model, "adv"):
            z_adv = model(x_adv)
        finish(z, z_adv)

    def finish(z: Tensor, z_adv: Tensor) -> None:
        model.zero_grad()
        torch.autograd.backward((F.cross_entropy(z, y) + F.cross_entropy(z_adv, y)) / 2)

    return {"two forwards": separate, "split": split}


def main() -> None:
    """Measure every network and layout and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    for name, batch, shape in NETWORKS:
        for layout in (torch.contiguous_format, torch.channels_last):
            model = convert(build(name, 10, shape[0]), norm="saauxbn").to(device, memory_format=layout)
            x = torch.rand(batch, *shape, device=device).contiguous(memory_format=layout)
            x_adv = (x + 0.03 * torch.randn_like(x)).clamp(0, 1)
            y = torch.arange(batch, device=device) % 10
            times = alternate(steps(model, x, x_adv, y), args.rounds)
            ratio = times["split"] / times["two forwards"]
            rows.append(
                [
                    name,
                    f"{batch} + {batch}",
                    "channels_last" if layout == torch.channels_last else "contiguous",
                ]
                + [f"{times[key]:.1f}" for key in ("two forwards", "split")]
                + [f"{ratio:.2f}"]
            )
    header = ("network, SaAuxBN", "batch", "layout", "two forwards ms", "split ms", "ratio")
    write_table("Clean + adversarial training step, fp32", header, rows, args.out)


if __name__ == "__main__":
    main()
