"""What the styles of a network do: the gradients of each on the same photos."""

import torch
from torch import Tensor

from robustsabn.analysis import RouteBatch, route_gradients
from robustsabn.models.style import StyleStatistics
from robustsabn.trainers.loop.compiling import uncompiled
from robustsabn.trainers.runs.analysis import analysis_record
from robustsabn.trainers.runs.metrics import Record
from robustsabn.trainers.style.losses import moments
from robustsabn.trainers.style.step import StyleStep

__all__ = ["MOST_STYLES", "analysed"]

MOST_STYLES = 8


def analysed(step: StyleStep, contents: Tensor, styles: Tensor, first: int) -> Record:
    """Gradients of styles on contents, both (N, 3, H, W) in [0, 1], and the affines of fixed styles.

    In a network with fixed styles, style k is route first + k.
    """
    network, config = step.stylizer, step.config

    def batch_of(k: int) -> RouteBatch:
        repeated = styles[k : k + 1].expand_as(contents)
        wanted = moments(network.encoder(repeated, step.last), (*step.taps, step.tap))

        def loss(output: tuple[Tensor, Tensor], _: None) -> Tensor:
            content_loss, by_tap = step.compared(*output, wanted)[1:]
            style_loss = torch.stack(list(by_tap.values())).sum()
            return config.content_weight * content_loss + config.style_weight * style_loss

        if network.styles:
            return RouteBatch(first + k, features, None, loss, network.styles[first + k])
        mean, std = wanted[step.tap]
        statistics = StyleStatistics(mean.flatten(1), std.flatten(1))
        return RouteBatch(0, (features, statistics), None, loss, f"style {k}")

    with uncompiled(network):
        with torch.no_grad():
            features = network.encode(contents)
            batches = [batch_of(k) for k in range(len(styles))]
        return analysis_record(network, route_gradients(network, routes=batches))
