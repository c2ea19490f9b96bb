"""Routed layers against nn.BatchNorm2d and against three passes over the activation.

    python benchmarks/layers.py [--rounds 30] [--compiled] [--out benchmarks/results/layers.md]

Ratios are those of forward plus backward to nn.BatchNorm2d on the same input, from alternating runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from timing import alternate, saved_bytes, write_table
from torch import Tensor, nn

from robustsabn import SaAuxBN2d, SaBN2d, Split, route
from robustsabn.routing import Selection

SHAPES = ((64, 64, 32, 32), (64, 256, 8, 8))


class ThreePasses(nn.Module):
    """Normalise, shared affine and route affine in three passes, one row per sample, as in published code."""

    def __init__(self, channels: int, routes: int, per_route: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(channels, affine=False) for _ in range(routes if per_route else 1)
        )
        self.shared = nn.Parameter(torch.cat([torch.ones(1, channels), torch.zeros(1, channels)], 1))
        self.table = nn.Embedding(routes, 2 * channels)

    def forward(self, x: Tensor, index: int | Tensor) -> Tensor:
        route_index = index if isinstance(index, int) and len(self.norms) > 1 else 0
        x = self.norms[route_index](x)
        rows = torch.full((len(x),), index) if isinstance(index, int) else index
        for affine in (self.shared.expand(len(x), -1), self.table(rows)):
            scale, shift = affine.chunk(2, 1)
            x = scale[:, :, None, None] * x + shift[:, :, None, None]
        return x


def step(forward: Callable[[Tensor], Tensor], x: Tensor, g: Tensor) -> Callable[[], object]:
    """Forward and backward into input and parameters."""

    def run() -> object:
        x.grad = None
        forward(x).backward(g)
        return None

    return run


def routed(layer: nn.Module, selection: Selection) -> Callable[[Tensor], Tensor]:
    """Forward of a routed layer under a selection."""

    def forward(x: Tensor) -> Tensor:
        with route(layer, selection):
            out: Tensor = layer(x)
        return out

    return forward


def measure(
    shape: tuple[int, int, int, int], fmt: torch.memory_format, train: bool, rounds: int, compiled: bool
) -> list[list[object]]:
    """Rows of the table for one shape, memory format and mode."""
    n, c = shape[:2]
    x = torch.randn(shape).contiguous(memory_format=fmt).requires_grad_()
    g = torch.randn(shape).contiguous(memory_format=fmt)
    index = torch.arange(n) % 10
    sabn, saaux, many = SaBN2d(c), SaAuxBN2d(c), SaBN2d(c, routes=10)
    three, three_many = ThreePasses(c, 2, True), ThreePasses(c, 10, False)
    forwards: dict[str, Callable[[Tensor], Tensor]] = {
        "nn.BatchNorm2d": nn.BatchNorm2d(c).train(train),
        "SaBN, whole batch": routed(sabn.train(train), 1),
        "SaAuxBN, whole batch": routed(saaux.train(train), 1),
        "three passes, whole batch": lambda t: three.train(train)(t, 1),
        "SaBN, 10 routes per sample": routed(many.train(train), index),
        "three passes, 10 routes per sample": lambda t: three_many.train(train)(t, index),
        "SaAuxBN, Split": routed(saaux, Split(clean=n // 2, adv=n - n // 2)),
    }
    if compiled:
        fast = torch.compile(many, fullgraph=True)

        def compiled_forward(t: Tensor) -> Tensor:
            with route(many, index):
                out: Tensor = fast(t)
            return out

        forwards["SaBN, 10 routes per sample, compiled"] = compiled_forward
    times = alternate({name: step(f, x, g) for name, f in forwards.items()}, rounds)
    base = times["nn.BatchNorm2d"]
    layout = "channels_last" if fmt == torch.channels_last else "contiguous"
    return [
        [
            "x".join(map(str, shape)),
            layout,
            "train" if train else "eval",
            name,
            f"{ms:.2f}",
            f"{ms / base:.2f}",
            f"{saved_bytes(lambda f=forwards[name]: f(x)) / x.nbytes:.2f}",
        ]
        for name, ms in times.items()
    ]


def main() -> None:
    """Measure every combination and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument(
        "--compiled", action="store_true", help="also the per-sample route under torch.compile"
    )
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    rows = []
    for shape in SHAPES:
        for fmt in (torch.contiguous_format, torch.channels_last):
            for train in (True, False):
                rows += measure(shape, fmt, train, args.rounds, args.compiled)
    header = ("shape", "layout", "mode", "layer", "ms", "ratio to BN", "saved activations / input")
    write_table("Routed layers, forward + backward, fp32", header, rows, args.out)


if __name__ == "__main__":
    main()
