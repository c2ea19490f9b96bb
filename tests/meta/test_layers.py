"""Every routed layer and selection on a device without values: nothing is read or copied there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import robustsabn as sa
from robustsabn import Blend, Split, convert, route
from robustsabn.errors import RouteError
from robustsabn.layers import PRESETS, RoutedBatchNorm, RoutedEmbedding
from robustsabn.routing import Selection
from tests.helpers.device import META, no_copies

N, ROUTES = 6, ("clean", "adv", "third")
SELECTIONS: dict[str, Callable[[], Selection]] = {
    "name": lambda: "adv",
    "number": lambda: 2,
    "by sample": lambda: torch.empty(N, dtype=torch.long, device=META),
    "split": lambda: Split(clean=2, adv=0, third=4),
    "empty split": lambda: Split(third=N, clean=0),
    "named blend": lambda: Blend(clean=0.3, third=0.7),
    "blend": lambda: Blend(torch.empty(3, device=META, requires_grad=True)),
    "none": lambda: None,
}
BATCH_NORMS: list[tuple[type[RoutedBatchNorm], tuple[int, ...], bool]] = [
    (sa.RoutedBatchNorm2d, (3, 3), True),
    (sa.RoutedBatchNorm2d, (3, 3), False),
    (sa.RoutedBatchNorm1d, (), True),
    (sa.RoutedBatchNorm3d, (2, 3, 3), True),
]
"""Positions, and whether there are running statistics."""
OTHERS: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...]]] = {
    "layer": (partial(sa.RoutedLayerNorm, 4), (5, 4)),
    "layer, channels first": (partial(sa.RoutedLayerNorm, 4, channels_first=True), (4, 3, 3)),
    "group": (partial(sa.RoutedGroupNorm, 2, 4), (4, 3, 3)),
    "instance 1d": (partial(sa.RoutedInstanceNorm1d, 4), (4, 5)),
    "instance 2d": (partial(sa.RoutedInstanceNorm2d, 4), (4, 3, 3)),
    "instance 3d": (partial(sa.RoutedInstanceNorm3d, 4), (4, 2, 3, 3)),
}


def passes(layer: Any, x: Tensor, selection: str) -> None:
    """A forward and a backward with the selection, in train and eval mode, with all expected gradients."""
    chosen = SELECTIONS[selection]()
    if chosen is None and not layer.has_shared_affine:
        return
    for training in (True, False):
        leaf = x.detach().clone().requires_grad_()
        with no_copies(), route(layer.train(training), chosen):
            y = layer(leaf)
            y.sum().backward()
        assert y.is_meta
        assert y.shape == x.shape
        assert leaf.grad is not None
        if isinstance(layer, RoutedBatchNorm):  # the memory format stays, and takes torch's kernels for it
            assert y.stride() == leaf.grad.stride() == x.stride()
    used = [p for name, p in layer.named_parameters() if chosen is not None or not name.startswith("route")]
    assert all(p.grad is not None for p in used)
    if (
        isinstance(chosen, Blend)
        and chosen.weights is not None
        and layer.affine in ("independent", "sandwich")
    ):
        assert chosen.weights.grad is not None


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("preset", PRESETS)
def test_batch_norms(preset: str, selection: str) -> None:
    statistics, affine = PRESETS[preset]
    for kind, positions, tracked in BATCH_NORMS[: 4 if affine == "sandwich" else 2]:
        layer = kind(
            4, ROUTES, statistics=statistics, affine=affine, track_running_stats=tracked, device=META
        )
        x = torch.empty(N, 4, *positions, device=META)
        passes(layer, x, selection)
        if x.ndim == 4 and tracked:
            passes(layer, x.contiguous(memory_format=torch.channels_last), selection)


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("norm", OTHERS)
def test_layers_without_statistics(norm: str, selection: str) -> None:
    make, shape = OTHERS[norm]
    for affine in ("sandwich", *(["shared", "independent", "none"] if norm == "group" else [])):
        passes(
            make(routes=ROUTES, affine=affine, device=META), torch.empty(N, *shape, device=META), selection
        )


@pytest.mark.parametrize("selection", SELECTIONS)
def test_layers_without_affine_and_in_half_precision(selection: str) -> None:
    for statistics, _ in (PRESETS["bn"], PRESETS["auxbn"]):
        layer = sa.RoutedBatchNorm2d(4, ROUTES, statistics=statistics, affine="none", device=META)
        passes(layer, torch.empty(N, 4, 3, 3, device=META), selection)
        half = sa.RoutedBatchNorm2d(4, ROUTES, statistics=statistics, device=META)
        passes(half, torch.empty(N, 4, 3, 3, device=META, dtype=torch.bfloat16), selection)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_plain_means_of_statistics(selection: str) -> None:
    for statistics, affine in (PRESETS["sabn"], PRESETS["saauxbn"]):
        layer = sa.RoutedBatchNorm2d(
            4, ROUTES, statistics=statistics, affine=affine, momentum=None, device=META
        )
        assert layer.num_batches_tracked is not None
        for shares in (None, torch.zeros_like(layer.num_batches_tracked, dtype=torch.float32)):
            layer.shares = shares
            passes(layer, torch.empty(N, 4, 3, 3, device=META), selection)


@pytest.mark.parametrize("norm", ["batch", *OTHERS])
def test_affines_from_vectors(norm: str) -> None:
    make, shape = OTHERS.get(norm, (partial(sa.RoutedBatchNorm2d, 4), (4, 3, 3)))
    for training in (True, False):
        layer = make(condition=8, device=META).train(training)
        x, y = (torch.empty(N, *each, device=META, requires_grad=True) for each in (shape, (8,)))
        with no_copies(), route(layer, sa.Condition(y)):
            layer(x).sum().backward()
        assert all(t.grad is not None for t in (x, y, *layer.parameters()))


@pytest.mark.parametrize("selection", SELECTIONS)
def test_embeddings(selection: str) -> None:
    layer = RoutedEmbedding(ROUTES, 8, device=META)
    with no_copies(), route(layer, SELECTIONS[selection]()):
        out = layer(N)
        if out.requires_grad:  # not under None
            out.sum().backward()
    assert out.is_meta
    assert (layer.weight.grad is None) == (selection == "none")


def test_adaptive_instance_norm() -> None:
    layer = sa.SaAdaIN(4).to(META)
    content = torch.empty(N, 4, 5, 5, device=META, requires_grad=True)
    style = torch.empty(1, 4, 3, 7, device=META, requires_grad=True)
    with no_copies():
        layer(content, style).sum().backward()
    assert all(t.grad is not None for t in (content, style, *layer.parameters()))


# selections made on the host


def network() -> nn.Module:
    """Two norms behind each other."""
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4))


@pytest.mark.parametrize("norm", ["saauxbn", "sabn"])
@pytest.mark.parametrize("kind", ["by sample", "blend"])
def test_a_selection_made_on_the_host_is_brought_over_once(norm: str, kind: str) -> None:
    model = convert(network(), norm).to(META)
    chosen: Selection = torch.arange(N) % 2 if kind == "by sample" else Blend(torch.tensor([0.3, 0.7]))
    with route(model, chosen), no_copies():
        model(torch.empty(N, 3, 3, 3, device=META)).sum().backward()


def test_a_selection_on_the_host_is_checked_there() -> None:
    model = convert(network(), "sabn").to(META)
    says = "from 0 to 2; this model has routes 0 to 1"
    with pytest.raises(RouteError, match=says), route(model, torch.arange(3)):
        pass
