"""The network as attacks see it: logits and input gradients in float32, and a count of both."""

from collections.abc import Callable

import torch
from torch import Tensor

from robustsabn.attacks.model.inputs import usable
from robustsabn.attacks.model.logits import Gate, Model, gradient_scale, scaled_gradient

__all__ = ["CountedModel", "mistaken"]


def mistaken(logits: Tensor, y: Tensor) -> Tensor:
    """Bool (N,): the prediction is not y, or the logits hold NaN or +inf."""
    return (logits.argmax(1) != y) | ~usable(logits)


class CountedModel:
    """A classifier under attack; counts the images that went forward and backward through it.

    With `eot` > 1 a gradient is the mean over that many forwards of a random network; loss and logits are
    those of the last forward (Athalye et al., "Synthesizing robust adversarial examples", ICML 2018).
    `single`: the network gives one logit per image, see `Gate`."""

    def __init__(self, model: Model, *, eot: int = 1, single: bool = False) -> None:
        self.model, self.eot, self._single = model, eot, single
        self.forwards = self.backwards = 0
        self._logits_of: Gate | None = None
        self._scale = 1.0

    @property
    def precision(self) -> torch.dtype:
        """The lowest-precision dtype on the way to the last logits; float32 before the first forward."""
        return self._logits_of.precision if self._logits_of else torch.float32

    @property
    def single(self) -> bool:
        """Whether the network gives one logit per image."""
        return self._logits_of.single if self._logits_of else self._single

    def _evaluate(self, x: Tensor) -> Tensor:
        if self._logits_of is None:
            self._logits_of = Gate(self.model, x, single=self._single)
            self._scale = gradient_scale(self.model, x)
        self.forwards += len(x)
        return self._logits_of(x).float()

    def logits(self, x: Tensor) -> Tensor:
        """Logits (N, K) of images (N, ...), without a graph."""
        with torch.no_grad():
            return self._evaluate(x)

    def gradient(self, x: Tensor, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Loss (N,), logits (N, K), input gradient (N, ...) of the per-image loss, and `undefined` (N,) bool.

        The gradient is zero where autograd sees no dependence of the logits on the input, and its entries
        that are not finite become zero. `undefined` marks the images with such entries and usable logits."""
        value, logits, total = self._draw(x, loss)
        for _ in range(self.eot - 1):
            value, logits, grad = self._draw(x, loss)
            total = total + grad
        if self.eot > 1:
            total = total / self.eot
        return value, logits, torch.nan_to_num(total, 0.0, 0.0, 0.0), _undefined(total[None], logits)

    def _draw(self, x: Tensor, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        grad = None
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            logits = self._evaluate(leaf)
            value = loss(logits)
            if value.requires_grad:
                self.backwards += len(x)
                grad = scaled_gradient(value.sum(), leaf, self._scale, allow_unused=True)
        return value.detach(), logits.detach(), torch.zeros_like(x) if grad is None else grad

    def jacobian(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, K), the gradient of each logit (K, N, ...), and `undefined` (N,) bool, as in `gradient`.

        Takes one backward per class.
        """
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            logits = self._evaluate(leaf)
            classes = logits.shape[1]
            if not logits.requires_grad:
                return (
                    logits,
                    x.new_zeros(classes, *x.shape),
                    torch.zeros_like(logits[:, 0], dtype=torch.bool),
                )
            self.backwards += len(x) * classes
            options = {"retain_graph": True, "allow_unused": True}
            each = [
                scaled_gradient(column.sum(), leaf, self._scale, **options) for column in logits.unbind(1)
            ]
        logits, rows = logits.detach(), torch.stack([torch.zeros_like(x) if g is None else g for g in each])
        return logits, torch.nan_to_num(rows, 0.0, 0.0, 0.0), _undefined(rows, logits)


def _undefined(gradients: Tensor, logits: Tensor) -> Tensor:
    """Bool (N,): some of `gradients` (K, N, ...) is not finite though the logits (N, K) are usable."""
    others = (0, *range(2, gradients.ndim))
    return ~gradients.abs().amax(others).isfinite() & usable(logits)
