"""The network of style transfer: encoder, norm and decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustsabn.errors import InputError
from robustsabn.layers import AdaIN, instance_moments
from robustsabn.layers.adain import Pair, renormalise
from robustsabn.models.style.decoder import build_decoder
from robustsabn.models.style.encoders import Encoder
from robustsabn.models.style.norms import IlmIN, Mix, Style, StyleRoutes, StyleStatistics, build_norm
from robustsabn.routing import route
from robustsabn.routing.selections import Selection
from robustsabn.text import nearest, quote

__all__ = ["Stylizer", "build_stylizer"]


class Stylizer(nn.Module):
    """Pictures in the style of others, or in one of the fixed styles of the network.

    The features of the content at the tap are normalised to mean 0 and deviation 1 in every channel, get the
    gain and shift of the style, and are decoded. `styles` are the names of the fixed styles, if any. Only
    `norm` and `decoder` are trained.
    """

    def __init__(
        self, encoder: Encoder, norm: AdaIN | IlmIN | StyleRoutes, decoder: nn.Module, tap: str
    ) -> None:
        super().__init__()
        encoder.check_tap(tap)
        self.encoder, self.norm, self.decoder, self.tap = encoder, norm, decoder, tap

    @property
    def styles(self) -> tuple[str, ...]:
        """The fixed styles, which are routes; empty if styles are given as pictures."""
        return self.norm.router.names if isinstance(self.norm, StyleRoutes) else ()

    @property
    def stride(self) -> int:
        """Pixels per position of the features at the tap, in each direction."""
        return self.encoder.stride[self.tap]

    def encode(self, x: Tensor) -> Tensor:
        """Features (N, C, h, w) at the tap, of pictures (N, 3, H, W) in [0, 1]."""
        return self.encoder(x, self.tap)[self.tap]  # type: ignore[no-any-return]

    def style_statistics(self, picture: Tensor) -> StyleStatistics:
        """What the norm needs of style pictures (N, 3, H, W) in [0, 1]."""
        mean, std = instance_moments(self.encode(self.padded(picture)))
        return StyleStatistics(mean.flatten(1), std.flatten(1))

    def affine(self, style: Style = None) -> Pair:
        """Gain and shift (N or 1, C, 1, 1) of a style; those of a mix are the weighted sums.

        None is the route of the surrounding `with route(stylizer, …):`. Raises InputError if the network
        needs a name and gets statistics, or the other way round.
        """
        if isinstance(style, StyleStatistics):
            if isinstance(self.norm, StyleRoutes):
                raise InputError(
                    f"this network has fixed styles; give one of their names: {', '.join(self.styles)}"
                )
            mean, std = (value[..., None, None] for value in style)
            return self.norm.affine(mean, std)
        if isinstance(style, Sequence) and not isinstance(style, str):
            return self._mixed(cast("Mix", style))
        if not isinstance(self.norm, StyleRoutes):
            raise InputError(
                f"style is {quote(style)}, but this network takes a style from a picture; give "
                "style_statistics(picture)"
            )
        if style is None:
            return self.norm.selected()
        if isinstance(style, str) and style not in self.styles:
            allowed = ", ".join(self.styles)
            raise InputError(
                f"no style is called {quote(style)}{nearest(style, self.styles)}; there are: {allowed}"
            )
        with route(self, cast("Selection", style)):
            return self.norm.selected()

    def normalise(
        self, features: Tensor, moments: StyleStatistics | None = None, style: Style = None
    ) -> Tensor:
        """Content features (N, C, h, w) in a style.

        `moments` are those of the features of the whole picture if `features` are a part of it.
        """
        own = instance_moments(features) if moments is None else (moments.mean, moments.std)
        mean, std = (value.view(*value.shape[:2], 1, 1) for value in own)
        return renormalise(features, (mean, std), self.affine(style))

    def forward(self, features: Tensor, style: Style = None, alpha: float = 1.0) -> tuple[Tensor, Tensor]:
        """For training: the decoded picture (N, 3, H, W), and the features that it was decoded from."""
        target = torch.lerp(features, self.normalise(features, None, style), alpha)
        return self.decoder(target), target

    @torch.no_grad()
    def stylize(
        self,
        content: Tensor,
        style: Style,
        alpha: float = 1.0,
        moments: StyleStatistics | None = None,
    ) -> Tensor:
        """Content pictures (N, 3, H, W) in [0, 1] in a style, of the same size.

        With `alpha` below 1 the features are mixed with those of the content; 0 reconstructs it.
        `moments` are those of `normalise`.
        """
        features = self.encode(self.padded(content))
        if alpha:
            features = torch.lerp(features, self.normalise(features, moments, style), float(alpha))
        picture: Tensor = self.decoder(features)[..., : content.shape[2], : content.shape[3]]
        return picture.clamp(0, 1)

    def padded(self, x: Tensor) -> Tensor:
        """Pictures whose sizes are multiples of the stride, at least two positions, by repeated edges."""
        if not isinstance(x, Tensor) or x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
            shown = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else quote(x)
            raise InputError(f"pictures are {shown}; give floats (N, 3, H, W) in [0, 1]")
        if 0 in x.shape:
            raise InputError(f"pictures of shape {tuple(x.shape)} have no pixels")
        height, width = (max(2, -(-size // self.stride)) * self.stride for size in x.shape[2:])
        more = (0, width - x.shape[3], 0, height - x.shape[2])
        return F.pad(x, more, mode="replicate") if any(more) else x

    def _mixed(self, parts: Mix) -> Pair:
        gain, shift = (torch.zeros(()) for _ in range(2))
        for style, weight in parts:
            own = self.affine(style)
            gain, shift = gain.to(own[0]) + weight * own[0], shift.to(own[1]) + weight * own[1]
        return gain, shift


def build_stylizer(
    encoder: Encoder, norm: str = "adain", tap: str | None = None, styles: Sequence[str] = ()
) -> Stylizer:
    """A network with new weights for `norm`, one of `NORMS`, and decoder.

    `tap` is that of the norm, by default the last one; `styles` names the fixed styles of norm "routes".
    """
    tap = encoder.taps[-1] if tap is None else tap
    layout = encoder.layout(tap)
    built = build_norm(norm, encoder.channels[tap], styles)
    return Stylizer(encoder, cast("AdaIN", built), build_decoder(layout), tap)
