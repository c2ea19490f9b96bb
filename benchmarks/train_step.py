"""Seconds of our training steps, against reference steps written as in published scripts.

python benchmarks/train_step.py [--networks resnet-small] [--batch 64] [--rounds 5] [--threads 2] [--out
FILE.md] python benchmarks/train_step.py --compile    compare compiled steps with our eager ones instead

The reference steps find the perturbation by `loss.backward()`, which also computes gradients of the weights.
PGD and AWP evaluate the last perturbation once more to keep the strongest, and the clean images once for the
log. TRADES passes the clean images through the network in every iteration. AWP perturbs a second network. The
paired references have a batch norm for each route, apply normalisation, shared affine and route affine one
after the other, and send clean and adversarial images through the network separately. Both sides start from
the same weights and alternate. A row names the mode of batch norms during the attack, which is the same on
both sides: `train` is that of the published code of pgd, pgd-awp and paired, `eval` that of TRADES and our
default, in which the attack runs on a folded copy."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from timing import alternate, write_table
from torch import Tensor, nn

from robustsabn import convert
from robustsabn.models import build
from robustsabn.trainers.adversarial.config import Attack
from robustsabn.trainers.adversarial.step.adversarial_step import AdversarialStep
from robustsabn.trainers.loop.compiling import compile_network
from robustsabn.trainers.methods import Method, Paired, Pgd, PgdAwp, Trades

EPS, ALPHA = 8 / 255, 2 / 255
Step = Callable[[], object]
Reference = Callable[[nn.Module, torch.optim.Optimizer, Tensor, Tensor], None]


class ThreeSteps(nn.Module):
    """Batch norm of the selected route, then a shared affine, then that of the route."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels, affine=False) for _ in range(2))
        self.scale, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.table = nn.Embedding(2, 2 * channels)
        self.table.weight.data[:, :channels], self.table.weight.data[:, channels:] = 1, 0
        self.route = 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.norms[self.route](x) * self.scale[:, None, None] + self.shift[:, None, None]
        rows = torch.full((len(x),), self.route, device=x.device)
        scale, shift = self.table(rows).chunk(2, 1)
        out: Tensor = scale[:, :, None, None] * x + shift[:, :, None, None]
        return out


def in_three_steps(model: nn.Module) -> nn.Module:
    """`model` with every batch norm replaced by `ThreeSteps`."""
    for name, child in model.named_children():
        setattr(
            model,
            name,
            ThreeSteps(child.num_features) if isinstance(child, nn.BatchNorm2d) else in_three_steps(child),
        )
    return model


def select(model: nn.Module, index: int) -> None:
    for module in model.modules():
        if isinstance(module, ThreeSteps):
            module.route = index


def started(x: Tensor) -> Tensor:
    return (x + torch.empty_like(x).uniform_(-EPS, EPS)).clamp(0, 1) - x


def by_backward(model: nn.Module, x: Tensor, y: Tensor, steps: int, keep_strongest: bool) -> Tensor:
    """Adversarial images by `loss.backward()`."""
    delta = started(x).requires_grad_()
    for _ in range(steps):
        torch.autograd.backward(F.cross_entropy(model(x + delta), y))
        assert delta.grad is not None
        moved = (delta.detach() + ALPHA * delta.grad.sign()).clamp(-EPS, EPS)
        delta.data = (x + moved).clamp(0, 1) - x
        delta.grad.zero_()
    if keep_strongest:
        with torch.no_grad():
            F.cross_entropy(model(x + delta), y, reduction="none")
    return (x + delta).detach()


def by_input(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    """Adversarial images by gradients of the images only."""
    x_adv = x + started(x)
    for _ in range(steps):
        x_adv.requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(model(x_adv), y), x_adv)
        x_adv = torch.min(torch.max(x_adv.detach() + ALPHA * grad.sign(), x - EPS), x + EPS).clamp(0, 1)
    return x_adv.detach()


def pgd_reference(evaluates: bool) -> Reference:
    def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        model.train(not evaluates)
        x_adv = by_backward(model, x, y, 10, keep_strongest=True)
        model.train()
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(x_adv), y))
        optimizer.step()
        with torch.no_grad():
            model(x)

    return step


def trades_reference(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    model.eval()
    x_adv = x + 0.001 * torch.randn_like(x)
    for _ in range(10):
        x_adv.requires_grad_()
        loss = F.kl_div(F.log_softmax(model(x_adv), 1), F.softmax(model(x), 1), reduction="sum")
        (grad,) = torch.autograd.grad(loss, x_adv)
        x_adv = torch.min(torch.max(x_adv.detach() + ALPHA * grad.sign(), x - EPS), x + EPS).clamp(0, 1)
    model.train()
    optimizer.zero_grad()
    logits = model(x)
    robust = F.kl_div(F.log_softmax(model(x_adv.detach()), 1), F.softmax(model(x), 1), reduction="batchmean")
    torch.autograd.backward(F.cross_entropy(logits, y) + 6 * robust)
    optimizer.step()


class AwpReference:
    """A second network makes the ascent step; its rescaled difference is added and later subtracted."""

    def __init__(self, model: nn.Module, evaluates: bool) -> None:
        self.evaluates, self.proxy = evaluates, copy.deepcopy(model)
        self.ascent = torch.optim.SGD(self.proxy.parameters(), lr=0.01)

    def __call__(self, model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        model.train(not self.evaluates)
        x_adv = by_backward(model, x, y, 10, keep_strongest=True)
        model.train()
        self.proxy.load_state_dict(model.state_dict())
        self.proxy.train()
        self.ascent.zero_grad()
        torch.autograd.backward(-F.cross_entropy(self.proxy(x_adv), y))
        self.ascent.step()
        there = self.proxy.state_dict()
        moves = {}
        for name, old in model.named_parameters():
            if old.ndim > 1:
                difference = there[name] - old.detach()
                moves[name] = 0.01 * old.detach().norm() / (difference.norm() + 1e-20) * difference
        for name, parameter in model.named_parameters():
            if name in moves:
                parameter.data.add_(moves[name])
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(x_adv), y))
        optimizer.step()
        for name, parameter in model.named_parameters():
            if name in moves:
                parameter.data.sub_(moves[name])
        with torch.no_grad():
            model(x)


def paired_reference(evaluates: bool) -> Reference:
    """The attack by `loss.backward()` in eval mode, or as published: input gradients in train mode."""

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        select(model, 1)
        model.train(not evaluates)
        x_adv = by_backward(model, x, y, 7, False) if evaluates else by_input(model, x, y, 7)
        model.train()
        optimizer.zero_grad()
        select(model, 0)
        clean = F.cross_entropy(model(x), y)
        select(model, 1)
        torch.autograd.backward((clean + F.cross_entropy(model(x_adv), y)) / 2)
        optimizer.step()

    return step


def ours(
    method: Method,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    steps: int,
    mode: Any,
    channels_last: bool = False,
    compiled: bool = False,
) -> Step:
    """A step of the trainer: losses, backward, optimiser."""
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    if channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = x.contiguous(memory_format=torch.channels_last)
    if compiled:
        compile_network(model)
    attack = Attack(eps=EPS, step_size=ALPHA, steps=steps, bn_mode=mode)
    bench = AdversarialStep(
        accelerator,
        model,
        model,
        attack,
        seed=0,
        batch_size=len(x),
        share=slice(0, len(x)),
        classes=10,
        fold=not compiled,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    count = 0

    def step() -> None:
        nonlocal count
        with bench.at(count):
            accelerator.backward(method.losses(bench, x, y)["loss"])
        optimizer.step()
        optimizer.zero_grad()
        count += 1

    return step


def cases() -> dict[str, tuple[Callable[[nn.Module], Reference], Method, int, str, str]]:
    """Reference for a network, method, attack steps, bn_mode and norm of each row."""
    found: dict[str, tuple[Callable[[nn.Module], Reference], Method, int, str, str]] = {
        "trades": (lambda model: trades_reference, Trades(), 10, "eval", "none")
    }
    for mode in ("eval", "train"):
        still = mode == "eval"
        found |= {
            f"pgd, {mode}": (lambda model, still=still: pgd_reference(still), Pgd(), 10, mode, "none"),
            f"pgd-awp, {mode}": (
                lambda model, still=still: AwpReference(model, still),
                PgdAwp(),
                10,
                mode,
                "none",
            ),
            f"paired, {mode}": (
                lambda model, still=still: paired_reference(still),
                Paired(),
                7,
                mode,
                "saauxbn",
            ),
        }
    return found


def measure(name: str, network: str, batch: int, rounds: int, compiled: bool) -> list[object]:
    reference, method, steps, mode, norm = cases()[name]
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    plain = build(network, 10, in_channels=3).to(device).train()
    x, y = torch.rand(batch, 3, 32, 32, device=device), torch.randint(10, (batch,), device=device)
    theirs = copy.deepcopy(plain) if norm == "none" else in_three_steps(copy.deepcopy(plain))
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    run = reference(theirs)
    twins = [
        copy.deepcopy(plain) if norm == "none" else convert(copy.deepcopy(plain), norm=norm) for _ in range(2)
    ]
    step = ours(method, twins[0].train(), x, y, steps, mode)
    if compiled:
        sides: dict[str, Step] = {
            "eager": step,
            "compiled": ours(method, twins[1].train(), x, y, steps, mode, compiled=True),
        }
    else:
        sides = {
            "reference": lambda: run(theirs, optimizer, x, y),
            "ours": step,
            "channels_last": ours(method, twins[1].train(), x, y, steps, mode, channels_last=True),
        }
    base, *others = found = list(alternate(sides, rounds, warmup=1).values())
    times = (f"{value / 1000:.2f}" for value in found)
    return [network, batch, name, *times, *(f"{base / value:.2f}" for value in others)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=["resnet-small"])
    parser.add_argument("--methods", nargs="+", default=list(cases()))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true", help="compare compiled steps with eager ones")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [
        measure(m, network, args.batch, args.rounds, args.compile)
        for network in args.networks
        for m in args.methods
    ]
    head: tuple[str, ...] = ("reference s", "ours s", "ours channels_last s", "ratio", "ratio channels_last")
    if args.compile:
        head = ("eager s", "compiled s", "ratio")
    write_table("A training step", ("network", "batch", "method", *head), rows, args.out)


if __name__ == "__main__":
    main()
