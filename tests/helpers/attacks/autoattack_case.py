"""A quick AutoAttack, and networks that change what another one says."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn.attacks import (
    APGD,
    APGDT,
    FABT,
    AutoAttack,
    Report,
    Square,
    ThreatModel,
)
from robustsabn.attacks.model.logits import Model
from robustsabn.attacks.search.base import Search

__all__ = ["THREAT", "Wrapped", "attack", "broken_for_some", "noisy", "quick"]

THREAT = ThreatModel("Linf", 0.02)


def quick(threat: ThreatModel = THREAT) -> list[Search[Any]]:
    return [
        APGD(threat, steps=4),
        APGDT(threat, steps=4, targets=2),
        FABT(threat, steps=3, targets=2),
        Square(threat, steps=12),
    ]


def attack(model: Model, x: Tensor, y: Tensor, threat: ThreatModel = THREAT, **options: Any) -> Report:
    own: dict[str, Any] = {"version": "custom", "attacks": quick(threat)} if "version" not in options else {}
    ids = options.pop("ids", None)
    return AutoAttack(threat, **own, **options)(model, x, y, ids=ids)


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module, how: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.how = inner, how

    def forward(self, x: Tensor) -> Any:
        return self.how(self.inner(x), x)


def noisy(z: Tensor, x: Tensor) -> Tensor:
    return z + 0.1 * torch.randn_like(z)


def broken_for_some(z: Tensor, x: Tensor) -> Tensor:
    dark = x.flatten(1).mean(1, keepdim=True) < 0.5
    return torch.where(dark, z * torch.nan, z)
