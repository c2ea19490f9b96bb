"""One step of a GAN, discriminator then generator, against a reference written as in published code.

The reference is SNGAN-32: conditional norms as batch norm, then scale and shift; upsampling and pooling apart
from convolutions; real and generated images through the discriminator one after the other; generated images
made with a graph that is not used; gradients of the discriminator computed in the generator's step and not
used. `lean step` is the same networks with one forward of the discriminator, without that graph and those
gradients. `ours` is the step of the trainer. All alternate; each has its own networks, with hinge loss, Adam
and random latents and classes. On one thread, seconds are CPU seconds of the process, which other processes
do not change."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from timing import alternate, write_table
from torch import Tensor, nn
from torch.nn.functional import relu
from torch.utils.flop_counter import FlopCounterMode

from robustsabn.models.gan import build
from robustsabn.trainers.gan.config import GanConfig
from robustsabn.trainers.gan.step import GanStep
from robustsabn.trainers.loop.run import Run
from robustsabn.trainers.loop.updates import build_optimizer

sys.path.append(
    str(Path(__file__).resolve().parent.parent)
)  # the plain networks are those that tests compare with
from tests.helpers.published_gans import SNGANDis, SNGANGen

Step = Callable[[], object]


def published(norm: str, width: int, d_width: int, x: Tensor, y: Tensor, lean: bool) -> Step:
    g: Any = SNGANGen([width] * 4, 10, norm).to(x.device)
    d: Any = SNGANDis([d_width] * 4, 2, 10).to(x.device)
    for layer in (*g.modules(), *d.modules()):
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
    g_optimizer, d_optimizer = (
        torch.optim.Adam(network.parameters(), 2e-4, (0.0, 0.9)) for network in (g, d)
    )

    def generate() -> tuple[Tensor, Tensor]:
        classes = torch.randint(10, (len(x),), device=x.device)
        return g(torch.randn(len(x), 128, device=x.device), classes), classes

    def step() -> None:
        d_optimizer.zero_grad()
        with torch.set_grad_enabled(not lean):
            fake, classes = generate()
        if lean:
            on_real, on_fake = d(torch.cat([x, fake]), torch.cat([y, classes])).chunk(2)
        else:
            on_real, on_fake = d(x, y), d(fake.detach(), classes)
        torch.autograd.backward(relu(1 - on_real).mean() + relu(1 + on_fake).mean())
        d_optimizer.step()
        g_optimizer.zero_grad()
        d.requires_grad_(not lean)
        torch.autograd.backward(-d(*generate()).mean())
        d.requires_grad_()
        g_optimizer.step()

    return step


def ours(norm: Any, width: int, d_width: int, x: Tensor, y: Tensor, channels_last: bool) -> Step:
    """A step of the trainer."""
    config = GanConfig(model="sngan-32", norm=norm, batch_size=len(x), channels_last=channels_last)
    pair = dict(
        zip(
            ("generator", "discriminator"),
            build("sngan-32", 10, norm, width=width, d_width=d_width),
            strict=True,
        )
    )
    run: Run[GanConfig] = Run(
        config=config, accelerator=Accelerator(cpu=not x.is_cuda), folder=None, signals=None
    )  # type: ignore[arg-type]
    chosen = {"generator": config.generator, "discriminator": config.discriminator}
    for network in pair.values():
        if channels_last:
            network.to(memory_format=torch.channels_last)
    optimizers = {
        name: (build_optimizer(network, chosen[name]), chosen[name], config.schedule)
        for name, network in pair.items()
    }
    networks, updates = run.prepare(pair, optimizers)
    bench = GanStep(run, networks, 128, torch.arange(10))
    count = 0

    def step() -> None:
        nonlocal count
        bench.discriminator_loss(count, x, y)
        updates["discriminator"](count, 1_000_000)
        bench.generator_loss(count)
        updates["generator"](count, 1_000_000)
        count += 1

    return step


def sides(norm: str, width: int, d_width: int, batch: int) -> dict[str, Step]:
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, y = torch.rand(batch, 3, 32, 32, device=device) * 2 - 1, torch.randint(10, (batch,), device=device)
    return {
        "published": published(norm, width, d_width, x, y, lean=False),
        "lean": published(norm, width, d_width, x, y, lean=True),
        "ours": ours(norm, width, d_width, x, y, channels_last=False),
        "channels_last": ours(norm, width, d_width, x, y, channels_last=True),
    }


def operations(step: Step) -> float:
    """Billions of floating-point operations of a step, in convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9


def measure(norm: str, width: int, d_width: int, batch: int, rounds: int, warmup: int) -> list[object]:
    alone = not torch.cuda.is_available() and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    found = alternate(sides(norm, width, d_width, batch), rounds, warmup, clock)
    base, *others = found.values()
    times = (f"{value / 1000:.2f}" for value in found.values())
    small = sides(norm, width, d_width, 2)
    counted = (f"{operations(small[name]) * batch / 2:.0f}" for name in ("published", "lean", "ours"))
    ratios = (f"{base / value:.2f}" for value in others)
    return [norm, f"{width}, {d_width}", batch, rounds, *times, *ratios, *counted]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--norms", nargs="+", default=["ccbn", "sabn"])
    parser.add_argument("--width", type=int, default=64, help="of the generator; 256 in the paper")
    parser.add_argument("--d-width", type=int, default=64, help="of the discriminator; 128 in the paper")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [
        measure(norm, args.width, args.d_width, args.batch, args.rounds, args.warmup) for norm in args.norms
    ]
    columns = (
        "published s",
        "lean step s",
        "ours s",
        "channels_last s",
        "lean step",
        "ours",
        "channels_last",
    )
    counts = ("published GFLOP", "lean step GFLOP", "ours GFLOP")
    header = ("norm", "widths", "batch", "rounds", *columns, *counts)
    write_table("A step of SNGAN-32 beside code as it is published", header, rows, args.out)


if __name__ == "__main__":
    main()
