"""The averages of weights that a run of adversarial training keeps."""

from torch import nn

from robustsabn.trainers.adversarial.config import TrainConfig
from robustsabn.trainers.loop.averages import Average, Ema, Swa

__all__ = ["averages"]


def averages(config: TrainConfig, model: nn.Module, per_epoch: int, total: int) -> dict[str, Average]:
    """The averages of a run of `total` steps, by the names of their checkpoints."""
    found: dict[str, Average] = {}
    if config.ema is not None:
        found["ema"] = Ema(model, config.ema)
    if config.swa is not None:
        found["swa"] = Swa(
            model=model, start=config.swa.start * total, stride=config.swa.every * per_epoch, total=total
        )
    return found
