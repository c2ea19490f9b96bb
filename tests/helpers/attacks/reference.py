"""Slow references for attacks: linear models with known optima, and PGD one sample at a time in float64."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn.attacks import ThreatModel

NORMS = ("Linf", "L2", "L1")
EPS = {"Linf": 0.1, "L2": 0.5, "L1": 1.2}


def threat_of(norm: Any, eps: Any = None) -> ThreatModel:
    return ThreatModel(norm, EPS[norm] if eps is None else eps)


class Linear2(nn.Module):
    """Logits (0, w.x + b): attacking label 0 climbs along w."""

    def __init__(self, w: Tensor, b: float = 0.0) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(w), b

    def forward(self, x: Tensor) -> Tensor:
        z = (x * self.w).flatten(1).sum(1) + self.b
        return torch.stack([torch.zeros_like(z), z], 1)


class Counted(nn.Module):
    """Counts forwards and backwards of the inner model."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.forwards, self.backwards = inner, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += 1
        if x.requires_grad:
            x.register_hook(self._count)  # type: ignore[no-untyped-call]
        out = self.inner(x)
        assert isinstance(out, Tensor)
        return out

    def _count(self, grad: Tensor) -> None:
        self.backwards += 1


def small_cnn(classes: int = 5, width: int = 4) -> nn.Sequential:
    """A convolution, batch norm with its own statistics, dropout and a linear layer, for (N, 3, 6, 6)."""
    model = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.Tanh(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(width * 36, classes),
    )
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(32, 3, 6, 6))
        model[5].weight.mul_(4)  # type: ignore[operator]
    return model.eval()


def best_linear(w: Tensor, x: Tensor, eps: float, norm: str) -> Tensor:
    """argmax of w.d over the ball and the box [0, 1], for one sample, float64."""
    room = torch.where(w > 0, 1 - x, x)
    if norm == "Linf":
        return w.sign() * room.clamp_max(eps)
    if norm == "L1":
        d, left = torch.zeros_like(x), eps
        for j in w.abs().argsort(descending=True).tolist():
            move = min(left, float(room[j]))
            d[j], left = w[j].sign() * move, left - move
        return d
    low, high = 0.0, 1e6
    for _ in range(200):  # d = clip(lam w) with the largest lam that fits
        lam = (low + high) / 2
        size = torch.minimum(lam * w.abs(), room).square().sum().sqrt()
        low, high = (lam, high) if size <= eps else (low, lam)
    return w.sign() * torch.minimum(low * w.abs(), room)


def project_one(v: Tensor, x: Tensor, eps: float, norm: str) -> Tensor:
    """Onto ball and box, flat and for one sample, float64."""
    if norm == "Linf":
        return torch.minimum(torch.maximum(v, x - eps), x + eps).clamp(0, 1)
    d = v - x
    if norm == "L2":
        return (x + d * min(1.0, eps / max(float(d.norm()), 1e-300))).clamp(0, 1)
    room = torch.where(d > 0, 1 - x, x)
    low, high = 0.0, float(d.abs().max())
    if torch.minimum(room, d.abs()).sum() <= eps:
        high = 0.0
    for _ in range(200 if high else 0):
        lam = (low + high) / 2
        too_long = torch.minimum(room, (d.abs() - lam).clamp_min(0)).sum() > eps
        low, high = (lam, high) if too_long else (low, lam)
    return x + d.sign() * torch.minimum(room, (d.abs() - high).clamp_min(0))


def step_one(g: Tensor, x_adv: Tensor, norm: str, fraction: float) -> Tensor:
    """Unit step for one flat sample, float64."""
    if norm == "Linf":
        return g.sign()
    if norm == "L2":
        unit: Tensor = g / g.norm()
        return unit
    g = torch.tensor(
        [
            0.0 if (s > 0 and v >= 1) or (s < 0 and v <= 0) else s
            for s, v in zip(g.tolist(), x_adv.tolist(), strict=True)
        ],
        dtype=g.dtype,
    )
    threshold = sorted(g.abs().tolist())[int((1 - fraction) * len(g))]
    step = torch.where(g.abs() >= threshold, g.sign(), 0.0)
    return step / max(float(step.abs().sum()), 1.0)


def pgd_loop(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    norm: str,
    eps: list[float],
    steps: int,
    size: list[float],
    delta0: Tensor,
    fraction: float = 0.05,
) -> list[list[Tensor]]:
    """All iterates of every sample, of PGD on a float64 model."""
    paths = []
    for i in range(len(x)):
        centre = x[i].flatten()
        here = project_one(centre + delta0[i].flatten(), centre, eps[i], norm)
        path = [here]
        for _ in range(steps):
            leaf = here.clone().requires_grad_()
            value = loss(model(leaf.view_as(x[i : i + 1])), y[i : i + 1]).sum()
            (g,) = torch.autograd.grad(value, leaf)
            here = project_one(here + size[i] * step_one(g, here, norm, fraction), centre, eps[i], norm)
            path.append(here)
        paths.append([p.view_as(x[i]) for p in path])
    return paths
