"""The second-order gradient of DARTS: the validation loss after one virtual step of the weights.

With w' = w - rate (1 + nesterov momentum) grad_w L_train(w, a) + terms that do not depend on a,

    d L_val(w'(a), a) / d a = grad_a L_val(w', a) - grad_a grad_w L_train(w, a) u,
    u = rate (1 + nesterov momentum) grad_w' L_val(w', a),

and the product with the Hessian is a difference of two gradients at w + h u and w - h u with
h = 0.01 / |u|, which is cheaper than to differentiate twice (benchmarks/results/nas_step.md).
Source: Liu et al., ICLR 2019, "DARTS", eq. 7 and 8, and its code, which leaves out Nesterov.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from robustsabn.trainers.processes.distributed import average_over_processes

__all__ = ["STEP", "unrolled_gradient"]

STEP = 0.01
"""Length of the difference step in the space of weights."""

Loss = Callable[[bool], Tensor]
"""The loss at the present weights; the argument says whether it depends on the architecture."""


def unrolled_gradient(
    training_loss: Loss,
    validation_loss: Callable[[], Tensor],
    weights: Sequence[nn.Parameter],
    architecture: nn.Parameter,
    optimizer: Optimizer,
) -> tuple[Tensor, Tensor]:
    """The validation loss after the virtual step, and its gradient by the architecture, over all processes.

    `optimizer` is the SGD of the weights, of which rate, momentum, its buffers and weight decay are read.
    Takes four forward and backward passes: one for the virtual step, one after it, two for the difference.
    Weights, their `.grad` and the optimiser are unchanged afterwards.
    """
    virtual, factors = _virtual_step(_gradients(training_loss(False), weights), weights, optimizer)
    with _moved(weights, virtual, 1.0):
        loss = validation_loss()
        direct, *ahead = _gradients(loss, [architecture, *weights])
    u = [factor * gradient for factor, gradient in zip(factors, ahead, strict=True)]
    length = torch.stack([part.square().sum() for part in u]).sum().sqrt()
    step = STEP / length.clamp(min=torch.finfo(length.dtype).tiny)
    sides = []
    for sign in (1.0, -1.0):
        with _moved(weights, u, sign * step):
            sides += _gradients(training_loss(True), [architecture])
    return loss.detach(), direct - (sides[0] - sides[1]) / (2 * step)


def _gradients(loss: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Gradients averaged over the processes; zeros for what the loss does not depend on."""
    found = torch.autograd.grad(loss, inputs, allow_unused=True)
    filled = [torch.zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True)]
    return average_over_processes(filled)


@torch.no_grad()
def _virtual_step(
    gradients: Sequence[Tensor], weights: Sequence[nn.Parameter], optimizer: Optimizer
) -> tuple[list[Tensor], list[float]]:
    """What SGD would add to each weight, and how much of its gradient it would subtract."""
    group_of = {p: group for group in optimizer.param_groups for p in group["params"]}
    changes, factors = [], []
    for weight, gradient in zip(weights, gradients, strict=True):
        group = group_of[weight]
        momentum, nesterov = group["momentum"], group["nesterov"]
        change = gradient + group["weight_decay"] * weight
        buffer = optimizer.state.get(weight, {}).get("momentum_buffer")
        moving = change if buffer is None else change + momentum * buffer
        changes.append(-group["lr"] * (change + momentum * moving if nesterov else moving))
        factors.append(group["lr"] * (1 + momentum if nesterov else 1.0))
    return changes, factors


@contextmanager
def _moved(weights: Sequence[nn.Parameter], changes: Sequence[Tensor], by: float | Tensor) -> Iterator[None]:
    """Add `by` times the changes to the weights inside the block."""
    kept = [weight.detach().clone() for weight in weights]
    try:
        with torch.no_grad():
            for weight, change in zip(weights, changes, strict=True):
                weight.add_(change * by)
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, kept, strict=True):
                weight.copy_(value)
