"""The interface of training methods, and of the bench that they use during one step."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from robustsabn.attacks import ThreatModel
from robustsabn.attacks.losses import Loss
from robustsabn.attacks.noise import Start
from robustsabn.errors import TrainingError
from robustsabn.routing import Selection, Split
from robustsabn.text import quote
from robustsabn.trainers.methods.registry import Traits, check

__all__ = [
    "Bench",
    "Crafting",
    "Forward",
    "Losses",
    "Method",
    "both",
    "need_routes",
    "score",
]

Losses = dict[str, Tensor]
"""`loss`, which is minimised, and further scalars to log; all are means over the batch."""

Forward = Literal["split", "separate"]
"""Clean and adversarial images in one forward pass with a Split, or in one pass each."""


class Bench(Protocol):
    """The operations that a method uses during one step.

    If the model has no routes, selections have no effect. All randomness depends only on (seed, step,
    purpose); it is drawn for the batch of all processes and then sliced.
    """

    @property
    def clean(self) -> str | int:
        """The route of clean images: the first."""
        ...

    @property
    def adv(self) -> str | int:
        """The route of adversarial images: the last."""
        ...

    @property
    def carried(self) -> dict[str, Tensor]:
        """Tensors that a method keeps from step to step, (N, ...) per image; saved in checkpoints."""
        ...

    @property
    def epoch(self) -> float:
        """The number of passes over the training set so far."""
        ...

    @property
    def threat(self) -> ThreatModel:
        """The threat model: the ball of allowed perturbations."""
        ...

    @property
    def smoothing(self) -> float:
        """Label smoothing of the loss, for methods with `smooths`; attacks use the exact labels."""
        ...

    def attack(
        self,
        x: Tensor,
        y: Tensor,
        *,
        loss: Literal["ce"] | Loss = "ce",
        start: Start = "uniform",
        steps: int = 10,
        targeted: bool = False,
        through: Selection = None,
    ) -> Tensor:
        """Adversarial images (N, C, H, W) by PGD, through the adversarial route or another selection.

        The arguments apply where the configuration's `attack` sets nothing: the `loss` per sample to
        maximise, a function of logits and y; the random `start`; the number of `steps`. With `targeted`, y
        are the target classes. y may be mixed labels (N, K).
        """
        ...

    def pick(self, values: Sequence[float]) -> float:
        """A random one of `values`, the same on every process."""
        ...

    def blend(self, share: float) -> Selection:
        """The Blend with weight 1 - `share` for the clean route and `share` for the adversarial one."""
        ...

    def other_classes(self, y: Tensor) -> Tensor:
        """A random class different from y for each image, (N,)."""
        ...

    def noise(self, x: Tensor, start: Start = "uniform", purpose: str = "attack") -> Tensor:
        """A random perturbation like x inside the ball; a different `purpose` gives different noise."""
        ...

    def gradient(self, x: Tensor, y: Tensor, *, create_graph: bool = False) -> Tensor:
        """Gradient (N, C, H, W) of each image's cross-entropy, computed as in the attack.

        It goes through the adversarial route with `bn_mode`. With `create_graph` it can be part of a loss.
        """
        ...

    def predict(self, x: Tensor, selection: Selection) -> Tensor:
        """Logits (N, K) as the attack computes them, without gradient."""
        ...

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        """Logits (N, K) in float32, whose gradients are averaged over the processes."""
        ...

    def perturb_weights(self, loss: Callable[[], Tensor], gamma: float) -> None:
        """Perturb each layer's weights along the gradient of `loss()`, until the end of the step.

        The perturbation has `gamma` times the norm of the weights. `loss` calls `forward`, which then updates
        no running statistics; its gradient is averaged over the processes.
        """
        ...

    def ascend(self, loss: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of `loss(x)` with respect to x, and its value, to be added to the step's loss.

        The same backward pass computes the gradients of the weights, which the step's backward pass then
        adds.
        """
        ...

    def scale_routes(self, factors: dict[str | int, float]) -> None:
        """Multiply the gradients of the named routes' own parameters by these factors in this step."""
        ...


class Method(Traits, ABC):
    """A training method: a frozen dataclass of hyperparameters that computes the losses of one batch.

    Class attributes describe it. `trains`: the only route that it trains, "clean" (the first) or "adv" (the
    last); None if it trains all. `smooths`: its loss uses `bench.smoothing`. `mixes`: it accepts mixed labels
    (N, K). `whole_batch`: it needs several gradients of a batch, so the batch cannot be split. `replays`: the
    number of consecutive steps with the same batch.
    """

    @abstractmethod
    def losses(self, bench: Bench, x: Tensor, y: Tensor) -> Losses:
        """The losses for images x (N, C, H, W) in [0, 1].

        y are labels (N,), or (N, K) that sum to 1 for mixed images.
        """


class Crafting(Method):
    """A method in two parts: adversarial images, then their loss; wrappers can change the second."""

    def __post_init__(self) -> None:
        """Check the ranges of the fields."""

    def losses(self, bench: Bench, x: Tensor, y: Tensor) -> Losses:
        return self.objective(bench, x, self.craft(bench, x, y), y)

    def craft(self, bench: Bench, x: Tensor, y: Tensor) -> Tensor:
        """Adversarial images like x (N, C, H, W): by default PGD on the cross-entropy."""
        return bench.attack(x, y)

    @abstractmethod
    def objective(self, bench: Bench, x: Tensor, x_adv: Tensor, y: Tensor) -> Losses:
        """The losses of clean images x and adversarial images x_adv."""


def checked(losses: Losses, method: Method) -> Losses:
    """Return `losses` of `method`; raise TrainingError if they are not what a method must return."""
    returned: object = losses
    name = type(method).__name__
    if not isinstance(returned, dict) or "loss" not in returned:
        problem = (
            f"the keys {', '.join(map(str, returned))}"
            if isinstance(returned, dict)
            else type(returned).__name__
        )
        raise TrainingError(
            f"{name}.losses returned {problem}; give a dict with `loss`, which is minimised, and "
            "further values to log"
        )
    for key, value in returned.items():
        if not isinstance(value, Tensor) or value.ndim:
            problem = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise TrainingError(
                f"{name}.losses returned {problem} as {quote(key)}; give tensors (), means over the batch"
            )
    if not returned["loss"].requires_grad:
        raise TrainingError(
            f"{name}.losses returned a `loss` without gradient; take logits from bench.forward, and do "
            "not detach them"
        )
    return losses


def need_routes(bench: Bench, name: str) -> None:
    """Raise ConfigError unless clean and adversarial images have separate routes, which `name` needs."""
    check(
        bench.clean != bench.adv,
        f"method {name} needs a route for clean and one for adversarial images; convert with norm=auxbn or "
        "norm=saauxbn",
    )


def both(bench: Bench, x: Tensor, x_adv: Tensor, forward: Forward) -> tuple[Tensor, Tensor]:
    """Logits of clean images through the clean route and of adversarial ones through theirs."""
    if forward == "split" and bench.clean != bench.adv:
        halves = Split((bench.clean, len(x)), (bench.adv, len(x_adv)))
        logits = bench.forward(torch.cat([x, x_adv]), halves)
        return logits[: len(x)], logits[len(x) :]
    return bench.forward(x, bench.clean), bench.forward(x_adv, bench.adv)


def score(kind: str, logits: Tensor, y: Tensor, smoothing: float = 0.0) -> Losses:
    """Mean cross-entropy `KIND_loss` with label smoothing, and accuracy `KIND_accuracy`.

    With mixed labels (N, K), the accuracy uses the class with the largest share.
    """
    hard = y if y.ndim == 1 else y.argmax(1)
    accuracy = (logits.detach().argmax(1) == hard).float().mean()
    return {
        f"{kind}_loss": F.cross_entropy(logits, y, label_smoothing=smoothing),
        f"{kind}_accuracy": accuracy,
    }
