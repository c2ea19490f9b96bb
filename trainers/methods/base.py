"""What a training method is, and what it works with during one step."""

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
"""`loss` to be minimised, and what else is to be logged: scalars, means over the batch."""

Forward = Literal["split", "separate"]
"""Clean and adversarial images in one forward of a Split, or in a forward each."""


class Bench(Protocol):
    """What a method works with during one step. Without routes in the model, selections make no difference.

    All randomness is a function of (seed, step, purpose), drawn for the batch of all processes and sliced.
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
        """What a method keeps from step to step, (N, ...) per image of the batch; saved in checkpoints."""
        ...

    @property
    def epoch(self) -> float:
        """Passes over the training set so far."""
        ...

    @property
    def threat(self) -> ThreatModel:
        """The ball of the perturbations."""
        ...

    @property
    def smoothing(self) -> float:
        """Label smoothing of the loss to be minimised, for methods that say `smooths`; attacks know the
        labels.
        """
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

        What the configuration's `attack` leaves open is as said here: the `loss` per sample to maximise, a
        function of logits and y; the random start; the number of steps. `targeted`: y are the classes to
        reach. y may be mixed labels (N, K).
        """
        ...

    def pick(self, values: Sequence[float]) -> float:
        """One of `values` at random, the same on every process."""
        ...

    def blend(self, share: float) -> Selection:
        """The mix of the clean route and `share` of the adversarial one."""
        ...

    def other_classes(self, y: Tensor) -> Tensor:
        """A random class other than y for each image, (N,)."""
        ...

    def noise(self, x: Tensor, start: Start = "uniform", purpose: str = "attack") -> Tensor:
        """A random perturbation like x, inside the ball; another one for another `purpose`."""
        ...

    def gradient(self, x: Tensor, y: Tensor, *, create_graph: bool = False) -> Tensor:
        """Gradient (N, C, H, W) of each image's cross-entropy, as the attack takes it: adversarial route,
        `bn_mode`.

        With `create_graph` it can be part of a loss.
        """
        ...

    def predict(self, x: Tensor, selection: Selection) -> Tensor:
        """Logits (N, K) as the attack sees them, without gradient."""
        ...

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        """Logits (N, K) in float32, with gradients that are averaged over the processes."""
        ...

    def perturb_weights(self, loss: Callable[[], Tensor], gamma: float) -> None:
        """Move each layer's weights by gamma of their norm along the gradient of `loss()`, until backward
        has run.

        `loss` calls `forward`, which then moves no running statistics; its gradient is averaged over the
        processes.
        """
        ...

    def ascend(self, loss: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of `loss(x)` with respect to x, and its value to be part of the step's loss.

        Gradients of the weights are taken along in the same backward, and come out again with the step's.
        """
        ...

    def scale_routes(self, factors: dict[str | int, float]) -> None:
        """Multiply the gradients of the named routes' own parameters in this step's backward."""
        ...


class Method(Traits, ABC):
    """A frozen dataclass of hyperparameters that says what is lost on one batch; what it is like, its class
    says.

    `trains` is the one route that it trains, "clean" (the first) or "adv" (the last), where it leaves others
    untrained. `smooths`: takes `bench.smoothing` into its loss. `mixes`: takes mixed labels (N, K).
    `whole_batch`: takes more than one gradient of a batch, so that a batch cannot be taken in parts.
    `replays`: steps that see the same batch.
    """

    @abstractmethod
    def losses(self, bench: Bench, x: Tensor, y: Tensor) -> Losses:
        """`x` (N, C, H, W) in [0, 1], `y` (N,), or where images are mixed (N, K) that sum to 1."""


class Crafting(Method):
    """A method in two parts: adversarial images, then what is lost on them. Others can be wrapped around the
    second.
    """

    def __post_init__(self) -> None:
        """Check the ranges of the fields."""

    def losses(self, bench: Bench, x: Tensor, y: Tensor) -> Losses:
        return self.objective(bench, x, self.craft(bench, x, y), y)

    def craft(self, bench: Bench, x: Tensor, y: Tensor) -> Tensor:
        """Adversarial images like x (N, C, H, W): by default PGD on the cross-entropy."""
        return bench.attack(x, y)

    @abstractmethod
    def objective(self, bench: Bench, x: Tensor, x_adv: Tensor, y: Tensor) -> Losses:
        """What is lost on the pair."""


def checked(losses: Losses, method: Method) -> Losses:
    """`losses` of `method`; TrainingError where they are not what a method has to return."""
    given: object = losses
    name = type(method).__name__
    if not isinstance(given, dict) or "loss" not in given:
        what = f"the keys {', '.join(map(str, given))}" if isinstance(given, dict) else type(given).__name__
        raise TrainingError(
            f"{name}.losses returned {what}; give a dict with `loss`, to be minimised, and what else is to be"
            " logged"
        )
    for key, value in given.items():
        if not isinstance(value, Tensor) or value.ndim:
            what = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise TrainingError(
                f"{name}.losses returned {what} as {quote(key)}; give tensors (), means over the batch"
            )
    if not given["loss"].requires_grad:
        raise TrainingError(
            f"{name}.losses returned a `loss` without gradient; take logits from bench.forward, and detach "
            "nothing of it"
        )
    return losses


def need_routes(bench: Bench, name: str) -> None:
    """ConfigError where one route would have to do for both kinds of image: that would be another method."""
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
    """Mean cross-entropy, with labels smoothed by `smoothing`, and accuracy as `KIND_loss` and
    `KIND_accuracy`.

    Of mixed labels (N, K) the accuracy counts the largest.
    """
    hard = y if y.ndim == 1 else y.argmax(1)
    accuracy = (logits.detach().argmax(1) == hard).float().mean()
    return {
        f"{kind}_loss": F.cross_entropy(logits, y, label_smoothing=smoothing),
        f"{kind}_accuracy": accuracy,
    }
