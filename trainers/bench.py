"""What a training method works with: attack on the raw network, forward through the wrapped one."""

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from robustsabn.attacks import PGD, ThreatModel
from robustsabn.routing import Selection, maybe_route, routes_of
from robustsabn.trainers.config import Attack
from robustsabn.trainers.randomness import generator

__all__ = ["StepBench", "build_attack"]


def build_attack(config: Attack, steps: int | None = None) -> PGD:
    """The attack that a configuration describes, with other `steps` if given: the last iterate of PGD."""
    threat = ThreatModel(config.norm, config.eps)
    return PGD(
        threat,
        steps=steps or config.steps,
        step_size=config.step_size,
        start=config.start,
        loss=config.loss,
        bn_mode=config.bn_mode if steps is None else "eval",
        keep="last",
        check=False,  # would wait for the device at every step; the data sets give what it checks
    )


class StepBench:
    """The bench of step `step`; `share` of a batch of `batch_size` is this process's."""

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
    ) -> None:
        self.accelerator, self.raw, self.wrapped = accelerator, raw, wrapped
        self.config, self.pgd = attack, build_attack(attack)
        self.seed, self.batch_size, self.share, self.step = seed, batch_size, share, 0
        names: Sequence[str | int] = routes_of(raw) or (0,)
        self.clean, self.adv = names[0], names[-1]

    def noise(self, x: Tensor) -> Tensor:
        """The starting perturbation of this step, drawn for the whole batch."""
        whole = x[:1].expand(self.batch_size, *x.shape[1:])
        source = generator(x.device, self.seed, "attack", self.step)
        return self.pgd.threat.noise(whole, self.config.start, source)[self.share]

    def attack(self, x: Tensor, y: Tensor) -> Tensor:
        with maybe_route(self.raw, self.adv), self.accelerator.autocast():
            return self.pgd(self.raw, x, y, delta0=torch.empty_like(x).copy_(self.noise(x)))

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        with maybe_route(self.raw, selection), self.accelerator.autocast():
            logits: Tensor = self.wrapped(x)
        return logits.float()
