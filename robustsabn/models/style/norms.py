"""Norms of style transfer: which gain and shift the features of the content get in a style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn

from robustsabn.errors import ModelError
from robustsabn.layers import AdaIN, SaAdaIN, SaIN2d
from robustsabn.layers.adain import Pair
from robustsabn.routing import current_selection, record_selection
from robustsabn.routing.selections import Selection
from robustsabn.text import nearest, quote

__all__ = ["NORMS", "IlmIN", "Mix", "Norm", "Style", "StyleRoutes", "StyleStatistics", "build_norm"]

Norm = Literal["adain", "saadain", "ilm", "routes"]
NORMS: tuple[Norm, ...] = get_args(Norm)


class StyleStatistics(NamedTuple):
    """Mean and deviation (N, C) of the features of N styles; deviations are those of `instance_moments`."""

    mean: Tensor
    std: Tensor


Mix: TypeAlias = "Sequence[tuple[StyleStatistics | str, float]]"
"""Styles with weights, which usually sum to 1."""
Style: TypeAlias = "StyleStatistics | Selection | Mix"
"""Statistics, a mix, or, in a network with fixed styles, a selection of its routes."""


class IlmIN(nn.Module):
    """Instance-level meta normalisation (ILM+IN): gain and shift predicted from statistics of the style.

    As in Jia et al., CVPR 2019 (arXiv 1904.03516): mean and deviation of groups of 16 channels are the key
    features; one linear layer with ReLU embeds each; two others predict, for each group, a gain (sigmoid) and
    a shift (tanh), which are added to the learned `weight` and `bias` (C,). There the statistics are those of
    the normalised features. Ours: they are those of the style; the embedding is as wide as there are groups,
    not 16 times narrower, since two numbers hardly describe a style.
    """

    def __init__(self, channels: int, group: int = 16) -> None:
        super().__init__()
        if channels % group:
            raise ModelError(f"norm ilm needs a multiple of {group} channels, this tap has {channels}")
        keys = channels // group
        self.group = group
        self.embed = nn.Linear(keys, keys, bias=False)
        self.gain, self.shift = (nn.Linear(keys, keys, bias=False) for _ in range(2))
        self.weight = nn.Parameter(torch.full((channels,), 0.5))  # sigmoid(0) more is 1
        self.bias = nn.Parameter(torch.zeros(channels))

    def affine(self, mean: Tensor, std: Tensor) -> Pair:
        """Gain and shift (N, C, 1, 1) from the mean and deviation (N, C, 1, 1) of the style."""
        groups, deviations = (v.reshape(len(v), -1, self.group) for v in (mean, std))
        key_mean, within = groups.mean(2), deviations.square().mean(2)
        key_std = (within + groups.var(2, correction=0)).sqrt()
        gain = torch.sigmoid(self.gain(self.embed(key_std).relu()))
        shift = torch.tanh(self.shift(self.embed(key_mean).relu()))
        each = [v.repeat_interleave(self.group, 1) for v in (gain, shift)]
        return (each[0] + self.weight)[..., None, None], (each[1] + self.bias)[..., None, None]


class StyleRoutes(SaIN2d):
    """Fixed styles in one network: instance norm with a sandwich affine, whose routes are the styles.

    Statistics are those of `instance_moments`, as for all norms here.
    """

    def selected(self) -> Pair:
        """Gain and shift (N or 1, C, 1, 1) of the selected route, of one per sample, or of a `Blend`."""
        selection, _ = current_selection(self.router)
        gain, shift = self.per_sample_affine(selection)
        assert gain is not None
        assert shift is not None
        record_selection(self.router, selection, gain)
        return gain.view(-1, self.num_features, 1, 1), shift.view(-1, self.num_features, 1, 1)

    @torch.no_grad()
    def start_from(self, style: str, statistics: StyleStatistics) -> None:
        """Let a style begin with the statistics (1, C) of its picture, as plain AdaIN."""
        row = self.router.names.index(style)
        for table, value in ((self.route_weight, statistics.std), (self.route_bias, statistics.mean)):
            assert table is not None
            table[row] = value[0]


def build_norm(name: str, channels: int, styles: Sequence[str] = ()) -> AdaIN | SaAdaIN | IlmIN | StyleRoutes:
    """The norm of this name, one of `NORMS`; `styles` names the routes of `routes`."""
    if name == "routes":
        if not styles:
            raise ModelError("norm routes needs the names of its styles")
        return StyleRoutes(channels, tuple(styles))
    if name == "adain":
        return AdaIN()
    if name == "saadain":
        return SaAdaIN(channels)
    if name == "ilm":
        return IlmIN(channels)
    raise ModelError(f"norm {quote(name)} is unknown{nearest(name, NORMS)}; allowed: {', '.join(NORMS)}")
