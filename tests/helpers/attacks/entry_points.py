"""Every way to call a model: attacks, the ensemble, attacks of other libraries, verdicts, evaluation."""

from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from robustsabn.attacks import (
    APGD,
    APGDT,
    FAB,
    FABT,
    FGSM,
    PGD,
    AutoAttack,
    Square,
    ThreatModel,
    accuracy,
    verify,
)
from robustsabn.attacks.adapters import foreign, foreign_report

THREAT = ThreatModel("Linf", 0.1)


class Step:
    """An attack shaped like those of torchattacks: one step along the gradient."""

    def __init__(self, model: nn.Module, eps: float = 0.1) -> None:
        self.model, self.eps = model, eps

    def set_device(self, device: torch.device) -> None: ...

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        leaf = x.clone().requires_grad_()
        loss = nn.functional.cross_entropy(self.model(leaf), y)
        return (x + self.eps * torch.autograd.grad(loss, leaf)[0].sign()).clamp(0, 1)


def _of_a_library(model: Any, x: Tensor, y: Tensor) -> Any:
    module: Any = ModuleType("torchattacks")
    module.Step = Step
    adapters = "robustsabn.attacks.adapters"
    loaded = patch(f"{adapters}.libraries._load", return_value=module)
    with loaded, patch(f"{adapters}.foreign_attack.version_of", return_value="0"):
        return foreign_report(foreign("torchattacks:Step", THREAT), model, x, y).robust


def _ensemble(name: str) -> Callable[..., Any]:
    return lambda model, x, y: AutoAttack(THREAT, version="custom", attacks=[name])(model, x, y).x_adv


def _pgd(**options: Any) -> Callable[..., Any]:
    return lambda model, x, y: PGD(THREAT, steps=2, start="none", **options)(model, x, y)


ENTRIES: dict[str, Callable[[Any, Tensor, Tensor], Any]] = {
    "pgd": _pgd(),
    "pgd-last-unchecked": _pgd(keep="last", check=False),
    "fgsm": FGSM(THREAT),
    "apgd": APGD(THREAT, steps=3),
    "apgd-t": APGDT(THREAT, targets=1, steps=3),
    "fab": FAB(THREAT, steps=2),
    "fab-t": FABT(THREAT, targets=1, steps=2),
    "square": Square(THREAT, steps=3),
    "autoattack apgd-t": _ensemble("apgd-t"),
    "library": _of_a_library,
    "accuracy": accuracy,
    "verify": lambda model, x, y: verify(model, x, x, y, THREAT),
}
