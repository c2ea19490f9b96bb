"""One step of style transfer: content and style loss of stylised crops, and their gradients."""

import torch
import torch.nn.functional as F
from torch import Tensor

from robustsabn.layers import AdaIN, instance_moments
from robustsabn.layers.adain import renormalise
from robustsabn.models.style import StyleStatistics, Stylizer
from robustsabn.models.style.norms import Style
from robustsabn.routing import route
from robustsabn.trainers.loop.run import Run
from robustsabn.trainers.processes.distributed import Network
from robustsabn.trainers.style.config import StyleConfig
from robustsabn.trainers.style.losses import Moments, moments, style_losses

__all__ = ["StyleStep"]


class StyleStep:
    """The losses of a batch; `taps` are those of the style loss."""

    def __init__(self, run: Run[StyleConfig], network: Network, taps: tuple[str, ...]) -> None:
        self.run, self.config, self.network, self.taps = run, run.config, network, taps
        self.stylizer: Stylizer = network.raw  # type: ignore[assignment]
        encoder, tap = self.stylizer.encoder, self.stylizer.tap
        self.tap, self.last = tap, max((*taps, tap), key=encoder.taps.index)

    def backward(
        self, content: Tensor, style: Tensor, routes: Tensor | None, reconstruct: bool
    ) -> dict[str, Tensor]:
        """Scalars to log of crops (n, 3, H, W) in [0, 1], after the backward pass.

        `routes` (n,) are the routes of the style crops in a network with fixed styles. With `reconstruct` the
        content itself is the aim, also in its pixels.
        """
        config = self.config
        with torch.no_grad(), self._autocast():
            features = self.stylizer.encode(content)
            wanted = moments(self.stylizer.encoder(style, self.last), (*self.taps, self.tap))
        picture, target = self._decoded(features, wanted, routes, 0.0 if reconstruct else 1.0)
        result, content_loss, by_tap = self.compared(picture, target, wanted)
        style_loss = torch.stack(list(by_tap.values())).sum()
        aim = config.style_weight * style_loss
        if reconstruct:
            aim = config.pixel_weight * F.mse_loss(picture, content)
        loss = config.content_weight * content_loss + aim
        self.run.accelerator.backward(loss)
        plain = F.mse_loss(result.detach(), adain_target(features.float(), wanted[self.tap]))
        logged = {"loss": loss, "content_loss": content_loss, "content_loss_adain": plain}
        logged |= {"style_loss": style_loss} | {f"style_loss_{tap}": v for tap, v in by_tap.items()}
        return {name: value.detach() for name, value in logged.items()}

    def compared(
        self, picture: Tensor, target: Tensor, wanted: Moments
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Features of `picture` at the tap, its content loss, and its style loss at each of `taps`."""
        with self._autocast():
            found = self.stylizer.encoder(picture, self.last)
        result = found[self.tap].float()
        content_loss = F.mse_loss(result, target if self.config.faithful else target.detach())
        by_tap = style_losses(moments(found, self.taps), {tap: wanted[tap] for tap in self.taps})
        return result, content_loss, by_tap

    def _decoded(
        self, features: Tensor, wanted: Moments, routes: Tensor | None, alpha: float
    ) -> tuple[Tensor, Tensor]:
        """The decoded picture and the features it comes from, in float32."""
        mean, std = wanted[self.tap]
        style: Style = StyleStatistics(mean.flatten(1), std.flatten(1)) if routes is None else None
        with self._autocast():
            if routes is None:
                picture, target = self.network.wrapped(features, style, alpha)
            else:
                with route(self.stylizer, routes):
                    picture, target = self.network.wrapped(features, None, alpha)
        return picture.float(), target.float()

    def _autocast(self) -> torch.autocast:
        return self.run.accelerator.autocast()  # type: ignore[no-any-return]


def adain_target(features: Tensor, style: tuple[Tensor, Tensor]) -> Tensor:
    """Content features (N, C, h, w) with the moments of the style, by plain AdaIN."""
    return renormalise(features, instance_moments(features), AdaIN().affine(*style))
