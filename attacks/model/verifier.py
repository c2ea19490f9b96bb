"""Verifies claimed successes with the original model in float32, in batches of a fixed number of rows."""

import torch
from torch import Tensor, nn

from robustsabn.attacks.losses import margin
from robustsabn.attacks.model.counted import mistaken
from robustsabn.attacks.model.inputs import usable
from robustsabn.attacks.model.logits import Gate, Model
from robustsabn.attacks.model.rows import ROWS, slots_for
from robustsabn.attacks.threat import ThreatModel

__all__ = ["Verifier", "device_of"]


def device_of(model: Model, x: Tensor) -> torch.device:
    """The device of the model's first parameter or buffer; without any, that of the images."""
    tensors = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    return tensors[0].device if tensors else x.device


class Verifier:
    """Logits and verdicts of the original model in float32, without autocast, `batch_size` rows at a time.

    A batch is filled to a multiple of 16 rows by repeating one, so that the logits of a row do not depend on
    the number of other rows. If memory runs out, `batch_size` is halved from then on, down to 16. For random
    models see `majority.py`."""

    def __init__(self, model: Model, x: Tensor, *, batch_size: int) -> None:
        self.device = device_of(model, x)
        self.batch_size = slots_for(batch_size, len(x))
        self._logits_of = Gate(model, x[:1].to(self.device))

    @property
    def precision(self) -> torch.dtype:
        """The lowest-precision dtype on the way to the logits."""
        return self._logits_of.precision

    @property
    def single(self) -> bool:
        """Whether the model gives one logit per image."""
        return self._logits_of.single

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Logits (N, K), float32, of images (N, ...), on the model's device; `x` may be on another one."""
        parts: list[Tensor] = []
        done = 0
        with torch.autocast(self.device.type, enabled=False):
            while not parts or done < len(x):
                part = x[done : done + self.batch_size]
                try:
                    parts.append(self._padded(part))
                except torch.OutOfMemoryError:
                    tried = slots_for(self.batch_size, len(part))
                    if tried <= ROWS:
                        raise
                    self.batch_size = slots_for(tried // 2, tried)
                else:
                    done += len(part)
                    continue
                torch.cuda.empty_cache()
        return torch.cat(parts)

    def differentiable(self, x: Tensor) -> Tensor:
        """As `logits`, with a graph, for at most the first 16 images."""
        with torch.autocast(self.device.type, enabled=False):
            return self._padded(x[:ROWS])

    def _padded(self, x: Tensor) -> Tensor:
        count, x = len(x), x.to(self.device)
        if missing := -count % ROWS:
            x = torch.cat([x, x[:1].expand(missing, *x.shape[1:])])
        return self._logits_of(x)[:count].float()

    def broken(self, x_adv: Tensor, x: Tensor, y: Tensor, threat: ThreatModel) -> Tensor:
        """Bool (N,): `x_adv` is misclassified with usable logits, inside the box and the ball around `x`."""
        logits = self.logits(x_adv)
        return mistaken(logits, y) & usable(logits) & threat.contains(x_adv, x)

    def margins(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions (N,) and z_y - max_{j != y} z_j (N,), both on the CPU."""
        logits = self.logits(x)
        return logits.argmax(1).cpu(), -margin(logits, y.to(logits.device)).float().cpu()
