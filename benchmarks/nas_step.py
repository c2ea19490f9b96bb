"""Forward and backward of the supernet of NAS-Bench-201: routed norms beside plain ones and the usual way.

`bn` and `sabn` are our supernets. `usual` is a supernet written as in published code: for each cell and edge
one draw that the host waits for, a batch norm for each route, the affine of a route looked up for each image
and applied to activations after the shared one, the products of weights and outputs kept by autograd. It is
in this file. `all gradients`: one forward and backward for weights and architecture. `step`: an update of the
weights, then one of the architecture, each with the gradients that it uses; the usual way computes all twice.
The sides take turns. On one thread, seconds are CPU seconds of the process, which other processes do not
change. Memory is what autograd keeps of one forward."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from timing import ratios, saved_bytes, write_table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

from robustsabn.models.nas import supernet
from robustsabn.models.nas.blocks import reduction_block
from robustsabn.nas import EDGES
from robustsabn.trainers.nas.search.step import SearchStep
from robustsabn.trainers.processes.distributed import accelerator

Batch = tuple[Tensor, Tensor]
Run = Callable[[], object]


class UsualNorm(nn.Module):
    """SaBN of a search as it is usually written, with a batch norm for each route."""

    def __init__(self, channels: int, node: int) -> None:
        super().__init__()
        routes = 5**node
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(channels, affine=False, track_running_stats=False) for _ in range(routes)
        )
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.affine = nn.Embedding(routes, 2 * channels)
        self.affine.weight.data[:, :channels].normal_(1, 0.02)
        self.affine.weight.data[:, channels:].zero_()

    def forward(self, x: Tensor, operations: list[int]) -> Tensor:
        route = sum(5**k * operation for k, operation in enumerate(operations))
        y = self.norms[route](x)
        y = y * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        rows = self.affine(torch.full((len(x),), route, dtype=torch.long, device=x.device))
        scale, shift = rows.chunk(2, 1)
        return y * scale[:, :, None, None] + shift[:, :, None, None]


class PlainNorm(nn.BatchNorm2d):
    """Batch norm without affine, called as `UsualNorm` is."""

    def __init__(self, channels: int, node: int) -> None:
        super().__init__(channels, affine=False, track_running_stats=False)

    def forward(self, x: Tensor, operations: list[int]) -> Tensor:  # type: ignore[override]
        return super().forward(x)


class UsualEdge(nn.Module):
    """All operations of an edge."""

    def __init__(self, channels: int, source: int, norm: Any) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, k, padding=k // 2, bias=False) for k in (1, 3)
        )
        self.norms = nn.ModuleList(norm(channels, source) for _ in range(2))
        self.pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)

    def forward(self, x: Tensor, weights: Tensor, operations: list[int]) -> Tensor:
        outputs = [x.mul(0.0), x]
        outputs += [
            norm(conv(relu(x)), operations) for conv, norm in zip(self.convs, self.norms, strict=True)
        ]
        outputs.append(self.pool(x))
        return sum(weight * y for weight, y in zip(weights, outputs, strict=True))  # type: ignore[return-value]


class UsualCell(nn.Module):
    def __init__(self, channels: int, norm: Any) -> None:
        super().__init__()
        self.edges = nn.ModuleList(UsualEdge(channels, source, norm) for _, source in EDGES)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        nodes, drawn = [x], list[list[int]]([[]])
        for node in range(1, 4):
            total, operations = 0, []
            for edge, row, (target, source) in zip(self.edges, weights, EDGES, strict=True):
                if target == node:
                    operations.append(int(row.multinomial(1).item()))
                    total = total + edge(nodes[source], row, drawn[source])
            nodes.append(total)  # type: ignore[arg-type]
            drawn.append(operations)
        return nodes[-1]


class UsualNet(nn.Module):
    def __init__(self, classes: int, channels: int, cells: int, norm: Any) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.layers = nn.ModuleList()
        for stage in range(3):
            width = channels * 2**stage
            if stage:
                self.layers.append(reduction_block(width // 2, width, "resnet"))
            self.layers.extend(UsualCell(width, norm) for _ in range(cells))
        self.norm, self.linear = nn.BatchNorm2d(4 * channels), nn.Linear(4 * channels, classes)
        self.architecture = nn.Parameter(1e-3 * torch.randn(6, 5))

    def forward(self, x: Tensor) -> Tensor:
        weights = self.architecture.softmax(1)
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x, weights) if isinstance(layer, UsualCell) else layer(x)
        z: Tensor = self.linear(relu(self.norm(x)).mean((2, 3)))
        return z


class Side:
    """One supernet: its forward for all gradients, its forward and backward, and its step of a search."""

    def __init__(self, forward: Callable[[], Tensor], step: Run, network: nn.Module) -> None:
        self.forward, self.step, self.network = forward, step, network

    def all_gradients(self) -> None:
        self.network.zero_grad()
        self.forward().backward()


def usual(norm: Any, args: Any, batches: list[Batch]) -> Side:
    network = UsualNet(100, args.channels, args.cells, norm).to(batches[0][0].device)

    def loss(batch: Batch = batches[0]) -> Tensor:
        return cross_entropy(network(batch[0]), batch[1])

    def step() -> None:
        for batch in batches:
            network.zero_grad()
            loss(batch).backward()

    return Side(loss, step, network)


def ours(norm: str, routes: Any, args: Any, batches: list[Batch], channels_last: bool) -> Side:
    network = supernet(100, norm=norm, channels=args.channels, cells=args.cells)
    network.to(batches[0][0].device)
    if channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        batches = [(x.contiguous(memory_format=torch.channels_last), y) for x, y in batches]
    run: Any = SimpleNamespace(
        config=SimpleNamespace(seed=0), accelerator=accelerator(not batches[0][0].is_cuda)
    )
    bench = SearchStep(run, network, "darts", routes=routes)
    count = 0

    def loss() -> Tensor:
        nonlocal count
        count += 1
        return bench._loss(batches[0], bench._way("weights", count, 10**6, network.architecture))

    def step() -> None:
        nonlocal count
        count += 1
        network.zero_grad()
        bench.weights_loss(count, 10**6, batches[0])
        network.zero_grad()
        bench.architecture_loss(count, 10**6, batches[1], batches[0], None)  # type: ignore[arg-type]

    return Side(loss, step, network)


def sides(args: Any) -> dict[str, Side]:
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shape = (args.batch, 3, args.size, args.size)
    batches = [
        (torch.rand(shape, device=device), torch.randint(100, (args.batch,), device=device)) for _ in range(2)
    ]
    return {
        "bn": ours("bn", "sampled", args, batches, False),
        "bn-affine": ours("bn-affine", "sampled", args, batches, False),
        "sabn, sampled": ours("sabn", "sampled", args, batches, False),
        "sabn, blended": ours("sabn", "blended", args, batches, False),
        "bn, channels_last": ours("bn", "sampled", args, batches, True),
        "sabn, sampled, channels_last": ours("sabn", "sampled", args, batches, True),
        "usual bn": usual(PlainNorm, args, batches),
        "usual sabn": usual(UsualNorm, args, batches),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    alone = not torch.cuda.is_available() and args.threads == 1
    clock = time.process_time if alone else time.perf_counter
    made = sides(args)
    memory = {name: saved_bytes(side.forward) for name, side in made.items()}
    whole = ratios({name: side.all_gradients for name, side in made.items()}, args.rounds, args.warmup, clock)
    steps = ratios({name: side.step for name, side in made.items()}, args.rounds, args.warmup, clock)
    rows = [
        (
            name,
            f"{whole[name][0] / 1000:.2f}",
            f"{whole[name][1]:.2f}",
            f"{steps[name][0] / 1000:.2f}",
            f"{steps[name][1]:.2f}",
            f"{memory[name] / 2**20:.0f}",
            f"{memory[name] / memory['bn']:.2f}",
        )
        for name in made
    ]
    header = ("supernet", "all gradients s", "to bn", "step s", "to bn", "kept MiB", "to bn")
    write_table("The supernet of NAS-Bench-201, forward and backward", header, rows, args.out)


if __name__ == "__main__":
    main()
