"""The advice of `convert` about foreign norm layers, followed exactly, for classes of other packages."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn import bake, convert
from robustsabn.errors import ConversionError, PlainNormWarning
from robustsabn.layers import RoutedNorm
from tests.helpers.randomise import randomise, through

ADVICE = re.compile(r"known=\{(\w+): (.+?)\}")


class EitherLayerNorm(nn.LayerNorm):
    """Channels first or last by an attribute, as in transformers' ConvNext."""

    def __init__(self, channels: int, data_format: str = "channels_last") -> None:
        super().__init__(channels)
        self.data_format = data_format

    def forward(self, input: Tensor) -> Tensor:
        if self.data_format == "channels_last":
            return super().forward(input)
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class LayerNorm(nn.Module):
    """The official ConvNeXt's: no subclass of torch's class of the same name."""

    def __init__(self, channels: int, channels_first: bool) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.eps, self.normalized_shape, self.channels_first = 1e-6, (channels,), channels_first

    def forward(self, x: Tensor) -> Tensor:
        y = x.movedim(1, -1) if self.channels_first else x
        y = nn.functional.layer_norm(y, self.normalized_shape, self.weight, self.bias, self.eps)
        return y.movedim(-1, 1) if self.channels_first else y


class SquaredNorm(EitherLayerNorm):
    """Computes what no layer of ours does in one of its two forms."""

    def forward(self, input: Tensor) -> Tensor:
        out = super().forward(input)
        return out if self.data_format == "channels_last" else out.square()


class ByRank(nn.LayerNorm):
    """Channels first for images and last for tokens, as in segmentation-models-pytorch."""

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim == 4:
            return super().forward(input.movedim(1, -1)).movedim(-1, 1)
        return super().forward(input)


class AnyRank(nn.modules.batchnorm._BatchNorm):
    def _check_input_dim(self, input: Tensor) -> None:
        pass


class GainNorm(nn.Module):
    """Names and shapes of its own, as in vit-pytorch: nothing can be proposed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x / x.norm(dim=1, keepdim=True) * self.g
        return out


class Permuted(nn.Module):
    """Its layers see channels last."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x.movedim(1, -1))
        return out.movedim(-1, 1)


def either(cls: Any, first: Any, last: Any, *more: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), cls(6, first), Permuted(cls(6, last)), cls(6, first), *more
    ).eval()


def holds(model: nn.Module, advice: dict[Any, Any]) -> None:
    """Converted as advised: equal on each route, routes apart, and baked into the classes that were there."""
    randomise(model)
    x, classes = torch.rand(2, 3, 8, 8), [type(module) for module in model.modules()]
    with torch.no_grad():
        expected = model(x)
        convert(model, known=advice)
        for selection in ("clean", "adv"):
            torch.testing.assert_close(through(model, selection, x), expected, rtol=0, atol=1e-5)
        randomise(model)
        adv = through(model, "adv", x)
        assert not torch.allclose(through(model, "clean", x), adv)
        baked = bake(model, "adv")
        assert [type(module) for module in baked.modules()] == classes
        torch.testing.assert_close(baked(x), adv, rtol=0, atol=1e-5)


def read(message: str, *classes: type[nn.Module]) -> dict[type[nn.Module], Any]:
    """The proposals for `known` in a message, evaluated."""
    by_name = {cls.__name__: cls for cls in classes}
    return {by_name[name]: eval(value, {}) for name, value in ADVICE.findall(message)}


def test_one_class_of_two_kinds_is_told_apart_by_its_attribute() -> None:
    model = either(EitherLayerNorm, "channels_first", "channels_last")
    with pytest.raises(ConversionError) as refusal:
        convert(model)
    assert str(refusal.value).count("known=") == 1  # two proposals for one class could not both be followed
    holds(model, read(str(refusal.value), EitherLayerNorm))


def test_a_foreign_class_with_the_name_of_ours_is_named_with_its_module() -> None:
    model = either(LayerNorm, True, False)
    with pytest.raises(
        ConversionError, match=rf"3 {__name__}\.LayerNorm \(1, 2.layers.0, 3; known="
    ) as refusal:
        convert(model)
    holds(model, read(str(refusal.value), LayerNorm))


def test_what_is_left_plain_is_proposed_for_all_layers_of_the_class() -> None:
    model = either(LayerNorm, True, False, nn.BatchNorm2d(6))
    with pytest.warns(PlainNormWarning, match=f"3 {__name__}") as said:
        convert(model)
    assert sum(isinstance(module, RoutedNorm) for module in model.modules()) == 1
    holds(either(LayerNorm, True, False, nn.BatchNorm2d(6)), read(str(said[0].message), LayerNorm))


def test_nothing_is_proposed_where_one_layer_of_the_class_computes_something_else() -> None:
    model = either(SquaredNorm, "channels_first", "channels_last", nn.BatchNorm2d(6))
    with pytest.raises(ConversionError, match="SquaredNorm") as refusal:
        convert(model)
    assert "known=" not in str(refusal.value)
    advised = re.search(r"filter_fn=(lambda .*)$", str(refusal.value))
    assert advised is not None
    convert(model, filter_fn=eval(advised[1]))
    assert sum(isinstance(module, RoutedNorm) for module in model.modules()) == 1


def test_one_kind_needs_no_function() -> None:
    model = either(EitherLayerNorm, "channels_first", "channels_first", nn.BatchNorm2d(6))
    with pytest.raises(ConversionError, match=r'known=\{EitherLayerNorm: "LayerNorm2d"\}'):
        convert(model)


def test_a_norm_with_parameters_of_its_own_is_said_and_not_proposed() -> None:
    with pytest.raises(ConversionError, match="1 GainNorm") as refusal:
        convert(nn.Sequential(GainNorm(3)))
    assert "known=" not in str(refusal.value)
    with pytest.warns(PlainNormWarning, match="1 GainNorm") as said:
        convert(nn.Sequential(GainNorm(3), nn.BatchNorm2d(3)))
    assert "known=" not in str(said[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert(
            nn.Sequential(GainNorm(3), nn.BatchNorm2d(3)),
            filter_fn=lambda module, name: type(module).__name__ != "GainNorm",
        )


def test_a_layer_whose_dimension_depends_on_its_input_is_no_layer_norm() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), ByRank(6), nn.BatchNorm2d(6)
    )  # images of 6 columns would be mistaken
    with pytest.raises(ConversionError, match="ByRank") as refusal:
        convert(net)
    assert "known=" not in str(refusal.value)
    for name in ("LayerNorm", "LayerNorm2d"):
        with pytest.raises(ConversionError, match="does not compute what `known` says"):
            convert(net, known={ByRank: name})


def test_a_batch_norm_of_any_rank_is_told_by_its_user_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3), AnyRank(6)).eval()
    with pytest.raises(ConversionError, match="AnyRank") as refusal:
        convert(model)
    assert "known=" not in str(refusal.value)  # one rank would be proposed and another be seen
    holds(model, {AnyRank: "BatchNorm2d"})
