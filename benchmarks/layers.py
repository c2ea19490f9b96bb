"""Routed layers beside nn.BatchNorm2d and beside separate layers with elementwise operations.

    python benchmarks/layers.py [--rounds 30] [--compiled] [--clock wall|cpu] [--out FILE]

Forward plus backward; gradients are set to None before each run, as optimisers do. All layers of one shape,
layout and mode take turns, and a ratio is the median over the rounds of the ratio to nn.BatchNorm2d in the
same round. `--clock cpu` measures the CPU time of the process, for machines on which other programs run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from timing import ratios, saved_bytes, write_table
from torch import Tensor, nn

from robustsabn import Condition, SaAuxBN2d, SaBN2d, Split, route
from robustsabn.routing import Selection

SHAPES = ((64, 64, 32, 32), (64, 256, 8, 8))
CLASSES = (10, 143, 1000)
LENGTH = 148
"""Of the vector that a block of BigGAN for 128x128 takes: an embedding of 128 and 20 of the latent."""
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

Forward = Callable[[Tensor], Tensor]


class SeparateLayers(nn.Module):
    """Conditional batch norm as it is usually written: gain and bias from two layers, then two operations.

    `source(rows, channels)` makes a layer: `nn.Embedding` for classes, `nn.Linear` for vectors (BigGAN).
    """

    def __init__(self, channels: int, source: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain, self.bias = source(channels), source(channels)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        gain, bias = 1 + self.gain(y), self.bias(y)
        out: Tensor = self.norm(x) * gain[:, :, None, None] + bias[:, :, None, None]
        return out


def step(layer: nn.Module, forward: Forward, x: Tensor, g: Tensor) -> Callable[[], object]:
    """Forward and backward into input and parameters."""
    leaves = [x, *layer.parameters()]

    def run() -> None:
        for leaf in leaves:
            leaf.grad = None
        forward(x).backward(g)

    return run


def routed(layer: nn.Module, selection: Selection, call: Forward | None = None) -> Forward:
    """Forward of a routed layer, or of its compiled `call`, under a selection."""

    def forward(x: Tensor) -> Tensor:
        with route(layer, selection):
            out: Tensor = (layer if call is None else call)(x)
        return out

    return forward


def layers_of(n: int, c: int, train: bool) -> dict[str, tuple[nn.Module, Forward]]:
    """Every layer of the table with its forward."""
    found: dict[str, tuple[nn.Module, Forward]] = {}

    def add(name: str, layer: nn.Module, selection: Selection) -> None:
        found[name] = (layer.train(train), routed(layer, selection))

    bn = nn.BatchNorm2d(c).train(train)
    found["nn.BatchNorm2d"] = (bn, bn)
    add("SaBN, whole batch", SaBN2d(c), 1)
    add("SaAuxBN, whole batch", SaAuxBN2d(c), 1)
    for name, inside in {"SaBN": SaBN2d(c).train(train), "SaAuxBN": SaAuxBN2d(c).train(train)}.items():
        route(inside, 1).__enter__()
        found[f"{name}, whole batch, inside one route block"] = (inside, inside)
    add("SaAuxBN, Split", SaAuxBN2d(c), Split(clean=n // 2, adv=n - n // 2))
    for routes in CLASSES:
        y = torch.randint(routes, (n,))
        add(f"SaBN, {routes} classes by sample", SaBN2d(c, routes=routes, init="paper"), y)
        separate = SeparateLayers(c, lambda width, routes=routes: nn.Embedding(routes, width)).train(train)
        found[f"separate embeddings, {routes} classes"] = (separate, lambda x, m=separate, y=y: m(x, y))
    vectors = torch.randn(n, LENGTH)
    add(f"SaBN, vectors of {LENGTH}", SaBN2d(c, condition=LENGTH, init="paper"), Condition(vectors))
    linear = SeparateLayers(c, lambda width: nn.Linear(LENGTH, width, bias=False)).train(train)
    found[f"separate linear maps, vectors of {LENGTH}"] = (linear, lambda x: linear(x, vectors))
    return found


def compiled_layers_of(n: int, c: int, train: bool) -> dict[str, tuple[nn.Module, Forward]]:
    """Plain batch norm, and routes by sample and vectors under torch.compile."""
    bn = nn.BatchNorm2d(c).train(train)
    found: dict[str, tuple[nn.Module, Forward]] = {"nn.BatchNorm2d": (bn, bn)}
    classes, vectors = SaBN2d(c, routes=10, init="paper"), SaBN2d(c, condition=LENGTH, init="paper")
    selections: dict[str, tuple[nn.Module, Selection]] = {
        "SaBN, 10 classes by sample": (classes, torch.randint(10, (n,))),
        f"SaBN, vectors of {LENGTH}": (vectors, Condition(torch.randn(n, LENGTH))),
    }
    torch._dynamo.reset()
    for name, (layer, selection) in selections.items():
        call = torch.compile(layer.train(train), fullgraph=True)
        found[f"{name}, compiled"] = (layer, routed(layer, selection, call))
    return found


def measure(
    shape: tuple[int, int, int, int],
    fmt: torch.memory_format,
    train: bool,
    rounds: int,
    compiled: bool,
    clock: str,
) -> list[list[object]]:
    """Rows of the table for one shape, memory format and mode."""
    x = torch.randn(shape).contiguous(memory_format=fmt).requires_grad_()
    g = torch.randn(shape).contiguous(memory_format=fmt)
    layers = (compiled_layers_of if compiled else layers_of)(*shape[:2], train)
    runs = {name: step(layer, forward, x, g) for name, (layer, forward) in layers.items()}
    layout = "channels_last" if fmt == torch.channels_last else "contiguous"
    return [
        [
            "x".join(map(str, shape)),
            layout,
            "train" if train else "eval",
            name,
            f"{ms:.2f}",
            f"{ratio:.2f}",
            f"{saved_bytes(lambda f=layers[name][1]: f(x)) / x.nbytes:.2f}",
        ]
        for name, (ms, ratio) in ratios(runs, rounds, clock=CLOCKS[clock]).items()
    ]


def main() -> None:
    """Measure every combination and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument(
        "--compiled", action="store_true", help="routes by sample under torch.compile instead"
    )
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    rows = []
    for shape in SHAPES:
        for fmt in (torch.contiguous_format, torch.channels_last):
            for train in (True, False):
                rows += measure(shape, fmt, train, args.rounds, args.compiled, args.clock)
    header = ("shape", "layout", "mode", "layer", "ms", "ratio to BN", "saved activations / input")
    write_table(
        f"Routed layers{', compiled' * args.compiled}, forward + backward, fp32", header, rows, args.out
    )


if __name__ == "__main__":
    main()
