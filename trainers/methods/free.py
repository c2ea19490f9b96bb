"""Free adversarial training: one gradient for weights and perturbation."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from robustsabn.attacks import ThreatModel
from robustsabn.trainers.methods.base import Bench, Losses, Method, score
from robustsabn.trainers.methods.registry import check, method

__all__ = ["Free"]


@method("free")
@dataclass(frozen=True)
class Free(Method):
    """CE(f_adv(x + delta), y); one backward pass updates both the weights and delta.

    delta moves by eps along the steepest ascent. Every batch is used in `replays` consecutive steps, and
    delta is carried from batch to batch. An epoch counts all replays: 200 published epochs are 25 here. Uses
    `norm` and `eps` of the configured attack; the network is in train mode whatever `bn_mode` is. Shafahi et
    al., NeurIPS 2019, algorithm 1.
    """

    replays: int = 8
    """Updates with each batch."""
    trains: ClassVar[Literal["clean", "adv"] | None] = "adv"
    mixes: ClassVar[bool] = True
    whole_batch: ClassVar[bool] = True  # the weights change between the replays

    def __post_init__(self) -> None:
        check(self.replays >= 1, f"replays must be at least 1, got {self.replays}")

    def losses(self, bench: Bench, x: Tensor, y: Tensor) -> Losses:
        threat = bench.threat
        low, high = threat.bounds
        ball = ThreatModel(threat.norm, threat.eps_max, (low - high, high - low))
        delta = bench.carried.get("delta")
        delta = torch.zeros_like(x) if delta is None else delta.to(x).requires_grad_(False)
        delta = delta.clone().requires_grad_()

        def ascend(gradient: Tensor) -> None:
            step = threat.eps_max * threat.ascent(gradient.nan_to_num(0.0))
            bench.carried["delta"] = ball.project(delta.detach() + step, torch.zeros_like(delta))

        delta.register_hook(ascend)  # type: ignore[no-untyped-call]
        adv = score("adv", bench.forward((x + delta).clamp(low, high), bench.adv), y)
        return {"loss": adv["adv_loss"], **adv}
