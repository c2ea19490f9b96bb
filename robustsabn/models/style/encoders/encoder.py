"""The encoder: a frozen network with named taps, whose channels are scaled to a mean of 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn.errors import ModelError
from robustsabn.text import nearest, quote

__all__ = ["FLOOR", "Encoder", "freeze", "means_with_floor"]

FLOOR = 0.2
"""The smallest divisor of a channel, as a share of the mean over the channels."""


class Encoder(nn.Module):
    """Features of pictures (N, 3, H, W) in [0, 1] at named taps.

    `body` computes them: a module with `taps` (names in order), `channels` and `stride` (numbers by tap), and
    a forward that returns a dictionary. Nothing of it is trained or saved with the weights of a run; saved
    are the `scale_…` of the taps (C,), which `calibrate` sets, and what the body marks as calibration.
    `digest` is the SHA-256 of the weights, if any. Raises ModelError for a body without taps.
    """

    def __init__(self, body: nn.Module, spec: str, *, digest: str = "", scaled: bool = True) -> None:
        super().__init__()
        taps: Any = getattr(body, "taps", ())
        channels, stride = (getattr(body, name, None) for name in ("channels", "stride"))
        if not taps or not isinstance(channels, Mapping) or not isinstance(stride, Mapping):
            raise ModelError(
                f"the encoder {spec} has no taps; give a module with the attributes taps, such as "
                "('relu1', 'relu2'), channels, {'relu1': 32, …}, and stride, {'relu1': 1, …}"
            )
        self.spec, self.digest, self.scaled = spec, digest, scaled
        self.taps: tuple[str, ...] = tuple(taps)
        self.channels = {tap: int(channels[tap]) for tap in self.taps}
        self.stride = {tap: int(stride[tap]) for tap in self.taps}
        self.body = freeze(body)
        for i, tap in enumerate(self.taps):
            self.register_buffer(f"scale_{i}", torch.ones(self.channels[tap]))

    def forward(self, x: Tensor, until: str | None = None) -> dict[str, Tensor]:
        """Features (N, C, h, w) by tap, up to and including the tap `until`; all by default."""
        found, features = self._features(x, until), dict[str, Tensor]()
        for i, tap in enumerate(self.taps):
            scale: Tensor = getattr(self, f"scale_{i}")
            features[tap] = found[tap] * scale.view(-1, 1, 1) if self.scaled else found[tap]
            if tap == until:
                break
        return features

    def layout(self, tap: str) -> tuple[int, ...]:
        """Output channels of the convolutions up to `tap`, with 0 for a pooling layer.

        For a network that does not say, two convolutions for each tap and a pooling for each factor 2.
        """
        self.check_tap(tap)
        own: Any = getattr(self.body, "layout", None)
        if own is not None:
            return tuple(own(tap))
        layers, stride = list[int](), 1
        for name in self.taps[: self.taps.index(tap) + 1]:
            while stride < self.stride[name]:
                layers.append(0)
                stride *= 2
            layers += [self.channels[name]] * (1 if name == tap else 2)
        return tuple(layers)

    def check_tap(self, tap: str) -> None:
        """Raise ModelError unless there is this tap."""
        if tap not in self.taps:
            allowed = ", ".join(self.taps)
            raise ModelError(
                f"tap {quote(tap)} is none of the encoder {self.spec}{nearest(tap, self.taps)}; "
                f"allowed: {allowed}"
            )

    @torch.no_grad()
    def calibrate(self, pictures: Tensor) -> None:
        """Scale the channels of every tap to a mean of 1 on `pictures` (N, 3, H, W).

        The divisor of a channel is at least a fifth of the mean over the channels, so that one that is hardly
        ever active does not dominate the losses.
        """
        own: Any = getattr(self.body, "calibrate", None)
        if own is not None:
            own(pictures)
        found = self._features(pictures, None)
        for i, tap in enumerate(self.taps):
            getattr(self, f"scale_{i}").copy_(1 / means_with_floor(found[tap]))

    def _features(self, x: Tensor, until: str | None) -> dict[str, Tensor]:
        found: Any = (
            self.body(x) if until is None or not hasattr(self.body, "layout") else self.body(x, until)
        )
        if not isinstance(found, Mapping):
            raise ModelError(
                f"the encoder {self.spec} returned {quote(found)}; give a dictionary of features by tap"
            )
        return dict(found)

    def train(self, mode: bool = True) -> Encoder:
        """An encoder stays in eval mode, since it is not trained."""
        return super().train(False)


def means_with_floor(features: Tensor) -> Tensor:
    """The mean activation (C,) of each channel of (N, C, h, w), at least `FLOOR` of the mean of all."""
    means = features.abs().mean((0, 2, 3))
    return means.clamp(min=max(FLOOR * float(means.mean()), 1e-6))


def freeze(module: nn.Module) -> nn.Module:
    """Turn the parameters of `module` into buffers, which are neither trained nor saved.

    Its buffers are not saved either, except those that `module.calibrated`, if there is one, names.
    """
    kept = set(getattr(module, "calibrated", ()))
    for prefix, part in module.named_modules():
        own = {**part._parameters, **part._buffers}
        part._parameters.clear()
        for name, tensor in own.items():
            part._buffers.pop(name, None)
            value = None if tensor is None else tensor.detach().clone()
            part.register_buffer(name, value, persistent=f"{prefix}.{name}".lstrip(".") in kept)
    return module.eval()
