"""Verdicts of the original model on adversarial images."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from robustsabn.attacks.counts import positive
from robustsabn.attacks.habits import answered, gathered
from robustsabn.attacks.model.inputs import check_batch, check_classes, check_threat, usable
from robustsabn.attacks.model.logits import Gate, Model
from robustsabn.attacks.model.mode import attack_mode
from robustsabn.attacks.threat import ThreatModel
from robustsabn.errors import InputError

__all__ = ["accuracy", "broken", "logits_in_batches", "verify"]


def logits_in_batches(model: Model, x: Tensor, batch_size: int = 256, *, single: bool = False) -> Tensor:
    """Logits (N, K) of images (N, ...) in eval mode, float32 or wider, without autocast or gradients."""
    (batch_size,) = positive(batch_size=batch_size)
    if not x.shape[0]:
        raise InputError("there are no images; give at least one")
    plain = torch.autocast(x.device.type, enabled=False)
    with torch.no_grad(), plain, attack_mode(model):
        logits_of = Gate(model, x, single=single)
        return torch.cat([logits_of(part) for part in torch.split(x, batch_size)])


def verify(
    model: Model, x_adv: Tensor, x: Tensor, y: Tensor, threat: ThreatModel, *, batch_size: int = 256
) -> Tensor:
    """Bool (N,): `x_adv` is misclassified, finite, inside the box and inside the ball around `x`.

    Takes adversarial images x_adv and clean images x (N, ...) in the units of the threat model, and true
    labels y (N,). The model runs in eval mode, in float32. NaN and +inf logits are no success. For the
    tolerance of the ball see `ThreatModel.contains`. Raises InputError for images of another shape and for
    unusable images, labels or logits.

    Example:

        >>> import torch
        >>> from robustsabn.attacks import ThreatModel, verify
        >>> model = lambda x: torch.stack([x.sum(1), 1 - x.sum(1)], 1)
        >>> x, y = torch.tensor([[0.3, 0.3]]), torch.tensor([0])
        >>> verify(model, x - 0.1, x, y, ThreatModel("Linf", 0.1))
        tensor([True])
    """
    check_threat(threat)
    check_batch(model, x, y)
    check_batch(model, x_adv, y)
    if x_adv.shape != x.shape:
        raise InputError(
            f"adversarial images are {tuple(x_adv.shape)}, clean ones {tuple(x.shape)}; give pairs"
        )
    logits = logits_in_batches(model, x_adv, batch_size)
    check_classes(int(y.max()), logits)
    return broken(logits, x_adv, x, y, threat)


def broken(logits: Tensor, x_adv: Tensor, x: Tensor, y: Tensor, threat: ThreatModel) -> Tensor:
    """The verdicts of `verify`, bool (N,), given the logits (N, K) of `x_adv`."""
    return (logits.argmax(1) != y) & usable(logits) & threat.fit(x).contains(x_adv, x)


@answered("accuracy(model, x, y)")
def accuracy(
    model: Model, x: Tensor | Iterable[Any], y: Tensor | None = None, batch_size: int = 256
) -> float:
    """Share of the images x (N, ...) whose label y (N,) is predicted, in [0, 1].

    A DataLoader may take the place of x and y. The model runs in eval mode, in float32. NaN and +inf
    logits count as wrong. Raises InputError for unusable images, labels or logits.

    Example:

        >>> import torch
        >>> from robustsabn.attacks import accuracy
        >>> accuracy(lambda x: x, torch.eye(3), torch.tensor([0, 1, 1]))
        0.6666666666666666
    """
    x, y = gathered(x, y)
    check_batch(model, x, y)
    logits = logits_in_batches(model, x, batch_size)
    check_classes(int(y.max()), logits)
    return ((logits.argmax(1) == y) & usable(logits)).double().mean().item()
