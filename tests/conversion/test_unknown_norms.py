"""Norm classes that `convert` does not know: refused in one message, declared, or plain with a warning."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from robustsabn import bake, convert
from robustsabn.errors import ConversionError, PlainNormWarning
from robustsabn.layers import RoutedNorm
from tests.helpers.randomise import randomise, through


class OwnLayerNorm(nn.LayerNorm):
    """Over dimension 1, as in ConvNeXt."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class EitherNorm(nn.Module):
    """No subclass of torch's; the instance says which dimension."""

    def __init__(self, channels: int, first: bool) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.eps, self.normalized_shape, self.first = 1e-6, (channels,), first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.movedim(1, -1) if self.first else x
        y = nn.functional.layer_norm(y, self.normalized_shape, self.weight, self.bias, self.eps)
        return y.movedim(-1, 1) if self.first else y


class DoubledNorm(nn.BatchNorm2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


class FrozenBatchNorm2d(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.get_buffer("weight")[:, None, None]


class GRN(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.gamma[:, None, None] * x / x.square().sum((2, 3), keepdim=True).sqrt()


def with_norms(*own: Callable[[], nn.Module]) -> nn.Sequential:
    layers = [make() for _ in range(5) for make in own]
    return nn.Sequential(nn.Conv2d(3, 4, 3), *layers, nn.BatchNorm2d(4))


def refusal(model: nn.Module, **options: Any) -> str:
    with pytest.raises(ConversionError) as caught:
        convert(model, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def advised(message: str) -> Any:
    found = re.search(r"filter_fn=(lambda .*)$", message)
    assert found is not None, message
    return eval(found[1])


def spectral() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        out: nn.Module = nn.utils.weight_norm(nn.BatchNorm2d(4))
        return out


@pytest.mark.parametrize(
    "own",
    [
        [lambda: OwnLayerNorm(4)],
        [lambda: OwnLayerNorm(4), lambda: DoubledNorm(4)],
        [lambda: DoubledNorm(4), spectral],
        [spectral],
        [lambda: nn.LazyBatchNorm2d(), lambda: OwnLayerNorm(4)],
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_one_message_names_all_and_its_filter_works_as_it_stands(own: list[Callable[[], nn.Module]]) -> None:
    message = refusal(with_norms(*own))
    for make in own:
        assert type(make()).__name__ in message
    assert message.count("and 2 more") == len(own)
    converted = convert(with_norms(*own), filter_fn=advised(message))
    assert [isinstance(layer, RoutedNorm) for layer in converted.children()] == [False] * (
        5 * len(own) + 1
    ) + [True]


def test_the_advice_holds_beside_a_filter_that_was_there_before() -> None:
    own = (lambda: OwnLayerNorm(4), lambda: DoubledNorm(4))
    message = refusal(with_norms(*own), filter_fn=lambda module, name: not isinstance(module, OwnLayerNorm))
    convert(with_norms(*own), filter_fn=advised(message))


def test_a_known_class_of_the_same_name_is_not_filtered_out() -> None:
    double = type("BatchNorm2d", (DoubledNorm,), {})
    converted = convert(
        with_norms(lambda: double(4)), filter_fn=advised(refusal(with_norms(lambda: double(4))))
    )
    assert isinstance(list(converted.children())[-1], RoutedNorm)


def test_no_filter_is_advised_where_nothing_would_be_left() -> None:
    message = refusal(nn.Sequential(OwnLayerNorm(4), OwnLayerNorm(4)))
    assert message.endswith("No other norm layer would be left to convert")
    assert "filter_fn" not in message


def test_the_message_says_what_a_class_seems_to_be() -> None:
    assert 'known={OwnLayerNorm: "LayerNorm2d"}' in refusal(with_norms(lambda: OwnLayerNorm(4)))
    assert "known=" not in refusal(with_norms(lambda: DoubledNorm(4)))


@pytest.mark.parametrize("norm", ["ccbn", "sabn", "auxbn", "saauxbn"])
def test_told_what_a_class_is_it_converts_and_bakes_back(norm: str) -> None:
    x = torch.rand(3, 4, 5, 6)
    for own, said in (
        (lambda: OwnLayerNorm(4), {OwnLayerNorm: "LayerNorm2d"}),
        (lambda: type("Own", (nn.GroupNorm,), {})(2, 4), None),
        (lambda: EitherNorm(4, True), {EitherNorm: lambda m: "LayerNorm2d" if m.first else nn.LayerNorm}),
    ):
        plain: Any = randomise(nn.Sequential(own(), nn.BatchNorm2d(4))).eval()
        known: Any = said or {type(plain[0]): nn.GroupNorm}
        routed = convert(copy.deepcopy(plain), norm, known=known)
        assert isinstance(routed.get_submodule("0"), RoutedNorm)
        for name in ("clean", "adv"):
            torch.testing.assert_close(through(routed, name, x), plain(x))
        randomise(routed)
        baked = bake(routed, "adv")
        assert type(baked.get_submodule("0")) is type(plain[0])
        torch.testing.assert_close(baked(x), through(routed, "adv", x))


def test_what_is_said_of_a_class_is_tried() -> None:
    model = with_norms(lambda: OwnLayerNorm(4))
    assert "does not compute what `known` says" in refusal(model, known={OwnLayerNorm: nn.LayerNorm})
    doubled = with_norms(lambda: DoubledNorm(4))
    assert "does not compute" in refusal(doubled, known={DoubledNorm: "BatchNorm2d"})
    assert "allowed: BatchNorm1d," in refusal(model, known={OwnLayerNorm: nn.RMSNorm})
    assert "the model has no layer of DoubledNorm" in refusal(model, known={DoubledNorm: nn.BatchNorm2d})
    assert "give a dict of classes and what they compute" in refusal(
        model, known={"OwnLayerNorm": nn.LayerNorm}
    )


def test_random_numbers_go_on_as_if_nothing_had_been_tried() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    model = nn.Sequential(OwnLayerNorm(4))
    convert(model, known={OwnLayerNorm: "LayerNorm2d"})
    assert torch.equal(torch.rand(2), expected)


# norms that stay plain


def test_norms_without_a_counterpart_are_said_in_one_warning() -> None:
    model = with_norms(lambda: FrozenBatchNorm2d(4), lambda: GRN(4), lambda: nn.RMSNorm(6))
    with pytest.warns(PlainNormWarning) as caught:
        convert(model)
    assert len(caught) == 1
    for said in (r"5 FrozenBatchNorm2d \(1, 4, 7 and 2 more\)", r"5 GRN", r"5 RMSNorm"):
        assert re.search(said, str(caught[0].message))
    assert caught[0].filename == __file__


def test_the_warning_says_which_would_convert() -> None:
    with pytest.warns(PlainNormWarning, match=r'known=\{EitherNorm: "LayerNorm"\} would convert them'):
        convert(with_norms(lambda: EitherNorm(4, False)))


def test_no_word_on_norms_that_the_filter_or_the_preset_leaves_or_that_hold_nothing() -> None:
    convert(with_norms(lambda: GRN(4)), filter_fn=lambda module, name: not isinstance(module, GRN))
    convert(with_norms(lambda: GRN(4)), "bn")
    convert(with_norms(lambda: nn.RMSNorm(6, elementwise_affine=False), lambda: nn.LocalResponseNorm(2)))
    nested = type("ConvNormAct", (nn.Sequential,), {})
    convert(nn.Sequential(nested(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))))


def test_a_warning_made_an_error_leaves_the_model_as_it_was() -> None:
    model = with_norms(lambda: GRN(4))
    with pytest.raises(PlainNormWarning):  # pytest makes it one
        convert(model)
    assert not any(isinstance(layer, RoutedNorm) for layer in model.modules())
