"""Per-sample losses that attacks maximise, computed in float32, or in float64 for float64 logits."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from robustsabn.attacks.model.outputs import wide

__all__ = [
    "LOSSES",
    "Loss",
    "LossName",
    "cross_entropy",
    "dlr",
    "kl",
    "margin",
    "overconfidence",
    "targeted_dlr",
]

Loss = Callable[[Tensor, Tensor], Tensor]
LossName = Literal["ce", "kl", "margin", "dlr"]
_TINY = 1e-12


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """-log softmax(z)_y; logits (N, K), y (N,) -> (N,).

    Mixed labels y (N, K), whose rows sum to 1, give the weighted mean over the classes.
    """
    return F.cross_entropy(wide(logits), y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """max_{j != y} z_j - z_y, which is positive when misclassified; logits (N, K), y (N,) -> (N,)."""
    return _margin(wide(logits), y)


def overconfidence(logits: Tensor, y: Tensor, most: float) -> Tensor:
    """The label's lead z_y - max_{j != y} z_j where it is above `most`, placed at the label; zeros elsewhere.

    With so large a lead the probability of the label rounds to 1 and the others to 0, and the gradient of the
    cross entropy vanishes. If L (N, K) is the returned tensor, cross_entropy(z - L, y) - sum L increases
    whenever the cross entropy does, and has a gradient.
    """
    lead = -margin(logits, y)
    lead = torch.where((lead > most) & (lead < torch.inf), lead, 0.0).unsqueeze(1)
    return torch.zeros_like(logits).scatter_(1, y[:, None], lead.to(logits.dtype))


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio: (max_{j != y} z_j - z_y) / (s1 - s3), s being the logits in falling order.

    It is positive when misclassified. With two classes there is no s3, and s1 - s2 would make the ratio
    constant: the loss is then the margin. The same holds where fewer than three logits are above -inf.
    Logits (N, K), y (N,) -> (N,). Source: Croce and Hein, AutoAttack, ICML 2020, equation 6.
    """
    z = wide(logits)
    if z.shape[1] < 3:
        return _margin(z, y)
    top = z.topk(3, dim=1).values
    return _margin(z, y) / _spread(top, top[:, 2])


def targeted_dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """(z_t - z_y) / (s1 - (s3 + s4) / 2), s being the logits in falling order.

    With fewer than four classes, or fewer than four logits above -inf, there is no denominator: s1 - s3 would
    make the loss constant when t is the third class.
    Logits (N, K), true labels y (N,), targets (N,) -> (N,). Source: AutoAttack, ICML 2020, equation 7.
    """
    z = wide(logits)
    difference = z.gather(1, target[:, None])[:, 0] - z.gather(1, y[:, None])[:, 0]
    if z.shape[1] < 4:
        return difference
    top = z.topk(4, dim=1).values
    return difference / _spread(top, top[:, 2:].mean(1))


def kl(logits: Tensor, reference: Tensor) -> Tensor:
    """KL(softmax(reference) || softmax(logits)); both (N, K) -> (N,).

    Classes whose reference logit is -inf do not count. Source: TRADES, ICML 2019, equation 5.
    """
    target = F.log_softmax(wide(reference), dim=1)
    absent = target == -torch.inf  # 0 log 0 is 0, with gradient 0
    predicted, target = (z.masked_fill(absent, 0.0) for z in (F.log_softmax(wide(logits), dim=1), target))
    return F.kl_div(predicted, target, reduction="none", log_target=True).sum(1)


def _margin(z: Tensor, y: Tensor) -> Tensor:
    index = y[:, None]
    return z.scatter(1, index, float("-inf")).amax(1) - z.gather(1, index)[:, 0]


def _spread(top: Tensor, low: Tensor) -> Tensor:
    """The largest logit minus `low`; 1 where one of the `top` logits is -inf, which rules a class out."""
    return torch.where(top[:, -1] == -torch.inf, 1.0, top[:, 0] - low + _TINY)


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "margin": margin, "dlr": dlr}
"""Losses of (logits, labels) by name."""
