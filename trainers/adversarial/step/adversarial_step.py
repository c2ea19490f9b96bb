"""The bench of training methods: attacks the raw network, trains through the wrapped one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from robustsabn.attacks import PGD, ThreatModel, attack_mode
from robustsabn.attacks.losses import LOSSES, Loss, LossName
from robustsabn.attacks.model.logits import gradient_scale, scaled_gradient
from robustsabn.attacks.model.mode import frozen_statistics
from robustsabn.attacks.model.outputs import logits_in, wide
from robustsabn.attacks.noise import Start
from robustsabn.devices import vector
from robustsabn.errors import InputError
from robustsabn.routing import Blend, Selection, maybe_route, routers_of, routes_of
from robustsabn.trainers.adversarial.config import Attack
from robustsabn.trainers.adversarial.step.folded_copies import FoldedCopies
from robustsabn.trainers.adversarial.step.taken_gradients import taken
from robustsabn.trainers.adversarial.step.weight_perturbation import layer_weights, moved
from robustsabn.trainers.loop.compiling import images_alone, uncompiled
from robustsabn.trainers.loop.draws import derive, generator
from robustsabn.trainers.processes.distributed import reduced

__all__ = ["AdversarialStep", "build_attack"]


def build_attack(config: Attack, steps: int) -> PGD:
    """The attack for evaluating a run: the last iterate of PGD with `steps` steps, in eval mode."""
    return PGD(
        ThreatModel(config.norm, config.eps),
        steps=steps,
        step_size=config.step_size,
        start=config.start or "uniform",
        loss=config.loss or "ce",
        bn_mode="eval",
        keep="last",
        check=False,  # checks would synchronise the device at every step; data sets are checked already
    )


class AdversarialStep:
    """The bench of one step.

    `batch_size` counts all processes. `share` is the part of the batch that a method gets: that of this
    process or a part of it.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        raw: nn.Module,
        wrapped: nn.Module,
        attack: Attack,
        *,
        seed: int,
        batch_size: int,
        share: slice,
        per_epoch: int = 1,
        smoothing: float = 0.0,
        classes: int = 2,
        fold: bool = False,
    ) -> None:
        self.accelerator, self.raw, self.wrapped = accelerator, raw, wrapped
        self.config, self.pgd = attack, replace(build_attack(attack, 1), bn_mode=attack.bn_mode)
        self.threat, self.smoothing = self.pgd.threat, smoothing
        self.seed, self.batch_size, self.share, self.step = seed, batch_size, share, 0
        names: Sequence[str | int] = routes_of(raw) or (0,)
        self.routes, self.clean, self.adv = names, names[0], names[-1]
        self.classes = classes
        exact = attack.bn_mode == "eval" and accelerator.mixed_precision == "no"
        self.folded_copies = FoldedCopies(raw, fold and attack.fold and exact)
        self.carried: dict[str, Tensor] = {}
        self.per_epoch, self._network, self._until_backward = per_epoch, wrapped, ExitStack()

    @property
    def epoch(self) -> float:
        return self.step / self.per_epoch

    @contextmanager
    def at(self, step: int, share: slice | None = None) -> Iterator[None]:
        """Set the step and the share; perturbed weights are restored after the block.

        The block includes the backward pass.
        """
        self.step, self.share = step, share or self.share
        with ExitStack() as self._until_backward:
            yield

    def draw(self, x: Tensor, purpose: str, make: Callable[[Tensor, torch.Generator], Tensor]) -> Tensor:
        """This process's share of `make(whole, generator)`, drawn for a whole batch like `x`."""
        size = self.share.stop - self.share.start
        if len(x) != size:
            raise InputError(
                f"the bench was given {len(x)} of the {size} images that a method gets at a time; its "
                "random numbers belong to positions in the batch: give it all images and take rows of "
                "the result, as in bench.attack(x, y)[rows]"
            )
        whole = x[:1].expand(self.batch_size, *x.shape[1:])
        return make(whole, generator(x.device, self.seed, purpose, self.step))[self.share]

    def noise(self, x: Tensor, start: Start = "uniform", purpose: str = "attack") -> Tensor:
        drawn = self.draw(x, purpose, lambda whole, source: self.threat.noise(whole, start, source))
        return torch.empty_like(x).copy_(drawn)  # in the memory format of x

    def other_classes(self, y: Tensor) -> Tensor:
        def draw(whole: Tensor, source: torch.Generator) -> Tensor:
            return torch.randint(1, self.classes, (len(whole),), generator=source, device=y.device)

        return (y + self.draw(y, "target", draw)) % self.classes

    def pick(self, values: Sequence[float]) -> float:
        return values[derive(self.seed, "pick", self.step) % len(values)]

    def blend(self, share: float) -> Selection:
        if share in (0, 1):  # the route itself, without the cost of mixing
            return self.adv if share else self.clean
        last = len(self.routes) - 1
        return Blend(vector(last + 1, 0.0, {0: 1 - share, last: share}, self.accelerator.device))

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
        config = self.config
        chosen, labels = _for_labels(config.loss or loss, y)
        pgd = replace(self.pgd, steps=config.steps or steps, loss=chosen, targeted=targeted)
        delta0 = self.noise(x, config.start or start)
        selection = self.adv if through is None else through
        network = self.folded_copies.network(selection, x)
        with maybe_route(self.raw, selection), images_alone(self.raw), self.accelerator.autocast():
            return pgd(network, x, labels, delta0=delta0)

    def gradient(self, x: Tensor, y: Tensor, *, create_graph: bool = False) -> Tensor:
        leaf = x.detach().requires_grad_()
        # compiled code has no second derivatives
        code = uncompiled(self.raw) if create_graph else images_alone(self.raw)
        mode = attack_mode(self.raw, self.config.bn_mode)
        with maybe_route(self.raw, self.adv), mode, code, self.accelerator.autocast():
            logits = _logits(self.raw, leaf)
            scale = gradient_scale(self.raw, leaf)
        loss = F.cross_entropy(logits, y, reduction="sum")
        gradient = scaled_gradient(loss, leaf, scale, create_graph=create_graph)
        assert gradient is not None
        return gradient

    def predict(self, x: Tensor, selection: Selection) -> Tensor:
        mode = attack_mode(self.raw, self.config.bn_mode)
        # with gradients: autocast may keep the weights that it casts here for other forwards
        with maybe_route(self.raw, selection), mode, self.accelerator.autocast(), torch.enable_grad():
            logits = _logits(self.raw, x)
        return logits.detach()

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        with maybe_route(self.raw, selection), self.accelerator.autocast():
            return _logits(self._network, x)

    def perturb_weights(self, loss: Callable[[], Tensor], gamma: float) -> None:
        weights = layer_weights(self.raw)
        with self._unwrapped(), frozen_statistics(self.raw):
            value = loss()
        directions = self._averaged(self._gradients(value, weights)[0])
        self._until_backward.enter_context(moved(weights, directions, gamma))

    def ascend(self, loss: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        leaf = x.detach().requires_grad_()
        weights = [p for p in self.raw.parameters() if p.requires_grad]
        with self._unwrapped():
            value = loss(leaf)
        (gradient, *gradients), scale = self._gradients(value, [leaf, *weights])
        return gradient / scale, taken(value.detach(), weights, [g / scale for g in gradients])

    def scale_routes(self, factors: dict[str | int, float]) -> None:
        for router, layers in routers_of(self.raw).items():
            entries = {router.index(chosen): factor for chosen, factor in factors.items()}
            rows = vector(len(router), 1.0, entries, self.accelerator.device)
            for layer in layers:
                for name in ("route_weight", "route_bias"):
                    table = layer._parameters.get(name)
                    if table is not None and table.requires_grad:
                        shaped = rows.to(table).repeat_interleave(table.numel() // len(rows)).view_as(table)
                        handle = table.register_hook(partial(torch.mul, shaped))  # type: ignore[no-untyped-call]
                        self._until_backward.callback(handle.remove)

    @contextmanager
    def _unwrapped(self) -> Iterator[None]:
        """Inside the block, forward passes use the raw network, so their gradients are not averaged."""
        self._network = self.raw
        try:
            yield
        finally:
            self._network = self.wrapped

    def _gradients(self, loss: Tensor, inputs: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Gradients of `loss`, times the loss scale of half precision, and that scale.

        The gradient is zero if the loss does not depend on an input. Overflows become zero, because NaN would
        stay in running statistics.
        """
        scale, scaler = loss.new_ones(()), self.accelerator.scaler
        if scaler is None:
            gradients = torch.autograd.grad(loss, inputs, materialize_grads=True)
            return list(gradients), scale
        gradients = torch.autograd.grad(scaler.scale(loss), inputs, materialize_grads=True)
        return [g.nan_to_num(0, 0, 0) for g in gradients], scaler.scale(scale)

    def _averaged(self, tensors: list[Tensor]) -> list[Tensor]:
        if self.accelerator.num_processes == 1:
            return tensors
        whole = reduced(self.accelerator, torch.cat([t.flatten() for t in tensors]), "mean")
        parts = whole.split_with_sizes([t.numel() for t in tensors])
        return [part.view_as(t) for part, t in zip(parts, tensors, strict=True)]


def _for_labels(loss: LossName | Loss, y: Tensor) -> tuple[LossName | Loss, Tensor]:
    """A loss and labels (N,) for an attack; for mixed labels (N, K), the loss uses the mixture."""
    if y.ndim == 1:
        return loss, y
    mixed = LOSSES[loss] if isinstance(loss, str) else loss
    return lambda logits, _: mixed(logits, y), y.argmax(1)


def _logits(network: nn.Module, x: Tensor) -> Tensor:
    """Logits (N, K), at least float32; `network` gets a copy of the images, which it may change."""
    return wide(logits_in(network(x.clone()), x))
