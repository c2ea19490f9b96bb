"""Gain and shift of every norm against slow float64 references, and mixes of styles."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from robustsabn import Blend, route
from robustsabn.errors import InputError, ModelError
from robustsabn.layers import AdaIN, SaAdaIN
from robustsabn.layers.adain import instance_moments
from robustsabn.models.style import NORMS, StyleStatistics, Stylizer, build_encoder, build_stylizer
from robustsabn.models.style.norms import IlmIN, StyleRoutes, build_norm
from tests.helpers.style.case import OWN


def statistics(n: int = 1) -> StyleStatistics:
    return StyleStatistics(torch.randn(n, 16).double(), torch.rand(n, 16).double() + 0.5)


def network(norm: str, styles: Sequence[str] = ()) -> Stylizer:
    built = build_stylizer(build_encoder(OWN), norm, "second", styles).double()
    for parameter in built.norm.parameters():
        nn.init.normal_(parameter)
    return built.eval()


def expected(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """`gain xhat + shift` of x (N, C, H, W), one channel at a time, with the unbiased variance."""
    y = torch.empty_like(x)
    for n in range(len(x)):
        for c in range(x.shape[1]):
            values = x[n, c].flatten().tolist()
            mean = sum(values) / len(values)
            variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
            y[n, c] = gain[n, c] * (x[n, c] - mean) / math.sqrt(variance + 1e-5) + shift[n, c]
    return y


def affine_of(norm: nn.Module, style: StyleStatistics) -> tuple[Tensor, Tensor]:
    """Gain and shift (N, C), written out."""
    mean, std = style
    if isinstance(norm, SaAdaIN):
        return std * norm.weight, std * norm.bias + mean
    if isinstance(norm, AdaIN):
        return std, mean
    assert isinstance(norm, IlmIN)
    gain, shift = torch.empty_like(mean), torch.empty_like(mean)
    for n in range(len(mean)):
        key_mean, key_std = [], []
        for start in range(0, mean.shape[1], 16):
            means, stds = mean[n, start : start + 16], std[n, start : start + 16]
            centre = means.sum() / 16
            key_mean.append(centre)
            key_std.append((((stds**2) + (means - centre) ** 2).sum() / 16).sqrt())
        for keys, last, act, out, base in (
            (key_std, norm.gain, torch.sigmoid, gain, norm.weight),
            (key_mean, norm.shift, torch.tanh, shift, norm.bias),
        ):
            embedded = (norm.embed.weight @ torch.stack(keys)).clamp(min=0)
            out[n] = act(last.weight @ embedded).repeat_interleave(16) + base
    return gain, shift


@pytest.mark.parametrize("norm", ["adain", "saadain", "ilm"])
def test_values_and_gradients_of_a_norm_are_those_of_the_formula(norm: str) -> None:
    torch.manual_seed(0)
    built, style = network(norm), statistics(3)
    x, direction = torch.randn(2, 3, 16, 4, 5).double()
    results = []
    makes: list[Callable[[Tensor], Tensor]] = [
        lambda x: built.normalise(x, None, style),
        lambda x: expected(x, *affine_of(built.norm, style)),
    ]
    for make in makes:
        leaf = x.clone().requires_grad_()
        y = make(leaf)
        wanted = [leaf, *built.norm.parameters()]
        results.append((y.detach(), torch.autograd.grad(torch.sum(y * direction), wanted)))
    (y, gradients), (reference, others) = results
    torch.testing.assert_close(y, reference)
    if norm == "adain":  # the reference reads the values of x, so only its affine has gradients
        return
    for own, other in zip(gradients[1:], others[1:], strict=True):
        torch.testing.assert_close(own, other)


def test_the_gradient_of_saadain_in_the_content_is_that_of_its_steps() -> None:
    layer = SaAdaIN(4).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    y = torch.randn(2, 4, 6, 3).double()
    x = torch.randn(2, 4, 3, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(layer, (x, y.requires_grad_()))
    mean, std = instance_moments(x)
    by_steps = (x - mean) / std * layer.weight.view(1, -1, 1, 1) + layer.bias.view(1, -1, 1, 1)
    mean, std = instance_moments(y)
    torch.testing.assert_close(layer(x, y), by_steps * std + mean)


def test_a_fixed_style_is_the_sandwich_of_its_route() -> None:
    torch.manual_seed(0)
    built, x = network("routes", ("a", "b", "c")), torch.randn(3, 16, 4, 5).double()
    norm = built.norm
    assert isinstance(norm, StyleRoutes)
    assert norm.route_weight is not None
    assert norm.route_bias is not None
    weight, bias = norm._parameters["weight"], norm._parameters["bias"]
    assert weight is not None
    assert bias is not None
    gain = norm.route_weight * weight
    shift = norm.route_weight * bias + norm.route_bias
    routes = torch.tensor([2, 0, 1])
    by_sample = expected(x, gain[routes], shift[routes])
    torch.testing.assert_close(built.normalise(x, None, routes), by_sample)
    with route(built, routes):
        torch.testing.assert_close(built.normalise(x), by_sample)
    torch.testing.assert_close(built.normalise(x[:1], None, "c"), by_sample[:1])
    mixed = expected(x[:1], (0.25 * gain[:1] + 0.75 * gain[2:]), (0.25 * shift[:1] + 0.75 * shift[2:]))
    torch.testing.assert_close(built.normalise(x[:1], None, Blend(a=0.25, c=0.75)), mixed)
    torch.testing.assert_close(built.normalise(x[:1], None, [("a", 0.25), ("c", 0.75)]), mixed)
    style = statistics()
    norm.start_from("b", style)
    nn.init.ones_(weight)
    nn.init.zeros_(bias)
    torch.testing.assert_close(
        built.normalise(x, None, "b"), expected(x, style.std.expand(3, -1), style.mean.expand(3, -1))
    )


@pytest.mark.parametrize("norm", ["adain", "saadain", "ilm"])
def test_a_mix_of_styles_is_the_mean_of_their_features(norm: str) -> None:
    built, x, styles = network(norm), torch.randn(1, 16, 4, 5).double(), [statistics() for _ in range(2)]
    first, second = (built.normalise(x, None, style) for style in styles)
    mixed = built.normalise(x, None, [(styles[0], 0.2), (styles[1], 0.8)])
    torch.testing.assert_close(mixed, 0.2 * first + 0.8 * second)


def test_saadain_starts_as_adain_and_adds_two_numbers_for_each_channel() -> None:
    x, style = torch.randn(2, 512, 4, 4), StyleStatistics(torch.randn(1, 512), torch.rand(1, 512) + 0.5)
    norms = [build_norm(name, 512) for name in ("adain", "saadain")]
    assert [sum(p.numel() for p in norm.parameters()) for norm in norms] == [0, 1024]
    mean, std = (value[..., None, None] for value in style)
    for plain, sandwich in zip(*(norm.affine(mean, std) for norm in norms), strict=True):
        assert torch.equal(plain, sandwich)
    y = torch.randn(2, 512, 3, 3)
    assert torch.equal(SaAdaIN(512)(x, y), AdaIN()(x, y))


def test_errors_say_what_the_network_takes() -> None:
    with pytest.raises(InputError, match="give one of their names: a, b"):
        network("routes", ("a", "b")).normalise(torch.rand(1, 16, 2, 2).double(), None, statistics())
    with pytest.raises(InputError, match=r"no style is called 'bb' \(did you mean b\?\)"):
        network("routes", ("a", "b")).normalise(torch.rand(1, 16, 2, 2).double(), None, "bb")
    with pytest.raises(InputError, match="takes a style from a picture"):
        network("adain").normalise(torch.rand(1, 16, 2, 2).double(), None, "a")
    with pytest.raises(ModelError, match="did you mean adain"):
        build_norm("adian", 16)
    with pytest.raises(ModelError, match="multiple of 16 channels, this tap has 24"):
        build_norm("ilm", 24)
    with pytest.raises(ModelError, match="names of its styles"):
        build_norm("routes", 16)
    assert NORMS == ("adain", "saadain", "ilm", "routes")
