"""The averages of the weights in a run of adversarial training."""

from torch import nn

from robustsabn.trainers.adversarial.config import TrainConfig
from robustsabn.trainers.loop.averages import Average, Ema, Swa

__all__ = ["averages"]


def averages(config: TrainConfig, model: nn.Module, per_epoch: int, total: int) -> dict[str, Average]:
    """The averages for a run of `total` steps, by the names of their checkpoints."""
    chosen: dict[str, Average] = {}
    if config.ema is not None:
        chosen["ema"] = Ema(model, config.ema)
    if config.swa is not None:
        chosen["swa"] = Swa(
            model=model, start=config.swa.start * total, stride=config.swa.every * per_epoch, total=total
        )
    return chosen
