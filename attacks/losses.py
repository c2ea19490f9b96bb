"""Per-sample losses that attacks maximise; computed in float32 (float64 logits keep their precision)."""

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
    """-log softmax(z)_y; logits (N, K), y (N,) -> (N,). Of mixed labels y (N, K), which sum to 1, their mean by weight."""
    return F.cross_entropy(wide(logits), y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """max_{j != y} z_j - z_y, positive when misclassified; logits (N, K), y (N,) -> (N,)."""
    return _margin(wide(logits), y)


def overconfidence(logits: Tensor, y: Tensor, most: float) -> Tensor:
    """Logits (N, K) of zeros, but for z_y - max_{j != y} z_j at the label where that is above `most`.

    There the probability of the label is rounded to 1 and those of the others to 0 in the end: the gradient of cross entropy
    loses the label's part, then all. With L what is returned, cross_entropy(z - L, y) - sum L rises wherever the cross entropy
    does, and has a gradient.
    """
    lead = -margin(logits, y)
    lead = torch.where((lead > most) & (lead < torch.inf), lead, 0.0).unsqueeze(1)
    return torch.zeros_like(logits).scatter_(1, y[:, None], lead.to(logits.dtype))


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio (max_{j != y} z_j - z_y) / (s1 - s3), s the logits in falling order.

    Positive when misclassified, at most 1 before that. For two classes, where no third logit exists and
    s1 - s2 would make it constant, it is the plain margin, as it is where fewer than three logits are above -inf.
    Logits (N, K), y (N,) -> (N,). Source: Croce and Hein, AutoAttack, ICML 2020, equation 6.
    """
    z = wide(logits)
    if z.shape[1] < 3:
        return _margin(z, y)
    top = z.topk(3, dim=1).values
    return _margin(z, y) / _spread(top, top[:, 2])


def targeted_dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """(z_t - z_y) / (s1 - (s3 + s4) / 2), s the logits in falling order.

    With fewer than four classes, or logits above -inf, the denominator is left out: s1 - s3 would make the loss
    constant for t third.
    Logits (N, K), true labels y (N,), targets (N,) -> (N,). Source: AutoAttack, ICML 2020, equation 7.
    """
    z = wide(logits)
    difference = z.gather(1, target[:, None])[:, 0] - z.gather(1, y[:, None])[:, 0]
    if z.shape[1] < 4:
        return difference
    top = z.topk(4, dim=1).values
    return difference / _spread(top, top[:, 2:].mean(1))


def kl(logits: Tensor, reference: Tensor) -> Tensor:
    """KL(softmax(reference) || softmax(logits)); both (N, K) -> (N,); classes that the reference rules
    out with -inf are left out. Source: TRADES, ICML 2019, equation 5."""
    target = F.log_softmax(wide(reference), dim=1)
    absent = target == -torch.inf  # 0 log 0 is 0, and has the gradient 0
    found, target = (z.masked_fill(absent, 0.0) for z in (F.log_softmax(wide(logits), dim=1), target))
    return F.kl_div(found, target, reduction="none", log_target=True).sum(1)


def _margin(z: Tensor, y: Tensor) -> Tensor:
    index = y[:, None]
    return z.scatter(1, index, float("-inf")).amax(1) - z.gather(1, index)[:, 0]


def _spread(top: Tensor, low: Tensor) -> Tensor:
    """From the largest logit down to `low`; 1 where -inf, a class that is ruled out, is among the `top`."""
    return torch.where(top[:, -1] == -torch.inf, 1.0, top[:, 0] - low + _TINY)


LOSSES: dict[str, Loss] = {
    "ce": cross_entropy,
    "margin": margin,
    "dlr": dlr,
}  # those that compare with labels
