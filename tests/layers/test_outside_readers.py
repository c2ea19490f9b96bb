"""Code that reads tensors of a routed layer without calling it: right on the selected route, or refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from robustsabn import Blend, Split, _torchvision, bake, convert, route
from robustsabn.errors import RouteError
from robustsabn.layers import PRESETS, RoutedBatchNorm1d
from tests.helpers.randomise import randomise, small, through

ROUTED = ("ccbn", "sabn", "auxbn", "saauxbn")


class Functional(nn.Module):
    """Reads the affines of its norms."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.group, self.batch = nn.LayerNorm(5), nn.GroupNorm(2, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x, self.layer.normalized_shape, self.layer.weight, self.layer.bias, self.layer.eps)
        x = F.group_norm(x, self.group.num_groups, self.group.weight, self.group.bias, self.group.eps)
        x = F.batch_norm(x, None, None, self.batch.weight, self.batch.bias, True, 0.0, self.batch.eps)
        return x * self.layer.weight + self.batch.bias[:, None]


class Calling(Functional):
    """The same by calling them; the last line knows the affines in the test's own way."""

    last: Any

    def forward(self, x: Tensor) -> Tensor:
        x = self.batch(self.group(self.layer(x)))
        out: Tensor = x * self.last[0] + self.last[1][:, None]
        return out


@pytest.mark.parametrize("norm", ROUTED)
def test_a_parent_that_reads_affines_computes_the_selected_route(norm: str) -> None:
    routed = randomise(convert(Functional(), norm)).train()
    calling: Any = Calling()
    calling.load_state_dict(Functional().state_dict())
    calling = convert(calling, norm)
    calling.load_state_dict(routed.state_dict())
    x = torch.rand(3, 4, 5)
    for selection in ("clean", "adv", Blend(clean=0.3, adv=0.7)):
        resolved: Any = calling.layer.router.resolve(selection)
        scale, _ = calling.layer.effective_affine(resolved)
        _, shift = calling.batch.effective_affine(resolved)
        calling.last = (scale, shift)
        outs = [through(model, selection, x) for model in (routed, calling)]
        torch.testing.assert_close(*outs)
        grads = [
            torch.autograd.grad(out.square().sum(), list(m.parameters()))
            for out, m in zip(outs, (routed, calling), strict=True)
        ]
        for ours, theirs in zip(*grads, strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("selection", [Split(clean=2, adv=1), torch.tensor([0, 1, 1])])
def test_samples_of_different_routes_are_refused(selection: Split | Tensor) -> None:
    with pytest.raises(RouteError, match=r"take different routes; .* method\.forward=separate"):
        through(convert(Functional(), "sabn"), selection, torch.rand(3, 4, 5))


def test_without_a_route_block_nothing_is_guessed() -> None:
    with pytest.raises(RouteError, match="is that of a route, and none is selected"):
        convert(Functional(), "sabn")(torch.rand(3, 4, 5))


@pytest.mark.filterwarnings("ignore:To copy construct")
def test_a_copy_of_the_values_is_that_of_the_route() -> None:
    layer: Any = randomise(convert(nn.BatchNorm2d(3), "sabn"))
    for name in ("clean", "adv"):
        with route(layer, name):
            copied = torch.tensor(layer.weight)
            assert torch.equal(copied, layer.weight)
            assert not copied.requires_grad
    with pytest.raises(RouteError, match="none is selected"):
        torch.tensor(layer.weight)


def test_where_all_routes_are_one_the_parameter_is_read() -> None:
    layer = convert(nn.BatchNorm2d(3), "bn")
    assert layer.weight is dict(layer.named_parameters())["weight"]
    assert convert(nn.BatchNorm2d(3, affine=False), "auxbn").weight is None


def test_the_compiler_sees_the_effective_affine() -> None:
    routed = randomise(convert(Functional(), "sabn"))
    compiled, x = torch.compile(routed, backend="aot_eager", fullgraph=True), torch.rand(3, 4, 5)
    for name in ("clean", "adv"):
        with route(routed, name):
            torch.testing.assert_close(compiled(x), routed(x))


# fusing


@pytest.mark.parametrize("norm", ROUTED)
def test_fusing_takes_the_selected_route_or_is_refused(norm: str) -> None:
    conv: Any = nn.Conv2d(3, 4, 1)
    model: Any = randomise(convert(nn.Sequential(conv, nn.BatchNorm2d(4)), norm)).eval()
    x = torch.rand(2, 3, 5, 5)
    with pytest.raises(RouteError, match=r"bake\(model, name\)"):
        fuse_conv_bn_eval(conv, model[1])
    for name in ("clean", "adv"):
        expected = through(model, name, x)
        baked: Any = bake(model, name)
        torch.testing.assert_close(fuse_conv_bn_eval(baked[0], baked[1])(x), expected)
        with route(model, name):
            if norm in ("auxbn", "saauxbn"):
                with pytest.raises(RouteError, match=r"per route.*bake\(model, name\)"):
                    fuse_conv_bn_eval(conv, model[1])
            else:
                torch.testing.assert_close(fuse_conv_bn_eval(conv, model[1])(x), expected)


@pytest.mark.parametrize("affine", ["shared", "none", "sandwich"])
def test_fusing_statistics_per_route_is_refused_where_shapes_would_fit(affine: Any) -> None:
    layer = RoutedBatchNorm1d(1, statistics="per_route", affine=affine).eval()
    with route(layer, "adv"), pytest.raises(RouteError, match=r"bake\(model, name\)"):
        fuse_linear_bn_eval(nn.Linear(3, 1).eval(), layer)


@pytest.mark.filterwarnings("ignore")
def test_quantisation_fuses_no_routed_layer() -> None:
    model = convert(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))).eval()
    with pytest.raises(AssertionError, match="did not find fuser"):
        torch.ao.quantization.fuse_modules(model, [["0", "1"]])  # type: ignore[no-untyped-call]


def test_timm_reparameterizes_a_baked_network_and_no_routed_one() -> None:
    _torchvision.load()
    timm = pytest.importorskip("timm")
    from timm.utils.model import reparameterize_model

    model = timm.create_model("repvgg_a0", num_classes=3).eval()
    x = torch.rand(1, 3, 32, 32)
    convert(model, "sabn")
    with pytest.raises(RouteError, match="give tools that fold or fuse layers the plain network bake"):
        reparameterize_model(model)
    torch.testing.assert_close(
        reparameterize_model(bake(model, "adv"))(x), through(model, "adv", x), atol=1e-4, rtol=1e-4
    )


# torch's encoders


@pytest.mark.parametrize("norm", ["ccbn", "sabn"])
@pytest.mark.parametrize("selection", ["adv", Split(clean=1, adv=2)])
def test_encoders_with_padding_take_the_route_in_inference(norm: str, selection: str | Split) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = randomise(convert(nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8)), norm)).eval()
    x, padded = (
        torch.rand(3, 5, 8),
        torch.tensor([[False] * 5, [False] * 4 + [True], [False] * 3 + [True] * 2]),
    )
    outs = []
    for enabled in (True, False):
        torch.backends.mha.set_fastpath_enabled(enabled)
        try:
            with torch.no_grad(), route(model, selection):
                outs.append(model(x, src_key_padding_mask=padded)[~padded])
        finally:
            torch.backends.mha.set_fastpath_enabled(True)
    torch.testing.assert_close(*outs)
    with torch.no_grad(), route(model, "clean"):
        assert not torch.allclose(model(x, src_key_padding_mask=padded)[~padded], outs[0])


# writing


def test_a_copy_inside_a_route_stays_what_it_was() -> None:
    layer: Any = randomise(convert(nn.LayerNorm(5), "sabn"))
    with route(layer, "adv"):
        snapshot = layer.weight.detach().clone()
        expected = layer.effective_affine(1)[0].detach().clone()
        assert layer.weight.detach().numpy().tolist() == layer.weight.tolist()
        assert layer.weight.nbytes == expected.nbytes
    with torch.no_grad():
        layer._parameters["route_weight"].add_(1)
    with route(layer, "clean"):
        torch.testing.assert_close(snapshot, expected)


def test_no_gradient_flows_through_a_detached_affine() -> None:
    layer: Any = randomise(convert(nn.LayerNorm(5), "sabn"))
    x = torch.rand(2, 5, requires_grad=True)
    with route(layer, "adv"):
        out = F.layer_norm(x, (5,), layer.weight.detach(), layer.bias.detach()).square().sum()
    out.backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert all(parameter.grad is None for parameter in layer.parameters())


@pytest.mark.parametrize("norm", ROUTED)
def test_what_would_write_or_train_the_computed_affine_is_refused(norm: str) -> None:
    layer: Any = convert(nn.BatchNorm2d(3), norm)
    before = copy.deepcopy(layer.state_dict())
    for write in (
        lambda: nn.init.constant_(layer.weight, 2),
        lambda: layer.weight.data.fill_(2),
        lambda: layer.bias.detach().add_(2),
        lambda: layer.weight.requires_grad_(False),
        lambda: setattr(layer.weight, "requires_grad", False),
        lambda: setattr(layer.weight, "data", torch.ones(3)),
        lambda: layer.weight.__setitem__(0, 2.0),
        lambda: layer.weight.grad,
        lambda: torch.optim.SGD([layer.weight], 0.1),
        lambda: torch.add(layer.weight, 1, out=layer.weight),
    ):
        with pytest.raises(RouteError, match="can be neither written nor trained"):
            write()
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])


def test_parameters_are_replaced_by_ones_of_their_shape_alone() -> None:
    sandwich: Any = convert(nn.BatchNorm2d(3), "sabn")
    sandwich.weight = nn.Parameter(torch.full((3,), 2.0))
    with route(sandwich, "adv"):
        assert sandwich.weight.tolist() == [2, 2, 2]
    independent: Any = convert(nn.BatchNorm2d(3), "auxbn")
    for name, shape in (("weight", (3,)), ("route_weight", (2, 3)), ("route_bias", (3,))):
        with pytest.raises(RouteError, match=r"whose parameters are route_weight \(6,\), route_bias \(6,\)"):
            setattr(independent, name, nn.Parameter(torch.ones(shape)))
    independent.route_weight = nn.Parameter(torch.arange(6.0))
    assert independent.route_weight.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_traced_program_keeps_the_route_of_its_trace_and_graphs_are_refused() -> None:
    model = randomise(convert(small(), "saauxbn")).eval()
    x = torch.rand(2, 3, 5, 5)
    with route(model, "adv"):
        program: Any = torch.export.export(model, (x,)).module()
    with route(model, "clean"):
        torch.testing.assert_close(program(x), through(model, "adv", x))
    with pytest.raises(RouteError):
        torch.fx.symbolic_trace(model)
    torch.fx.symbolic_trace(bake(model, "adv"))


def test_initialising_after_conversion_is_refused_and_reset_parameters_works() -> None:
    def init(module: nn.Module) -> None:
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)

    model = randomise(convert(small()))
    with pytest.raises(RouteError, match="reset_parameters"):
        model.apply(init)
    for layer in model.children():
        layer.reset_parameters()  # type: ignore[operator]
    x = torch.rand(2, 3, 5, 5)
    fresh: Any = convert(nn.Sequential(copy.deepcopy(model[0]), nn.BatchNorm2d(4), nn.BatchNorm2d(4)))  # type: ignore[index]
    for name in ("clean", "adv"):
        torch.testing.assert_close(through(model, name, x), through(fresh, name, x))


@pytest.mark.parametrize("wrap", ["prune", "spectral_norm", "weight_norm"])
def test_reparametrising_a_routed_affine_is_refused(wrap: str) -> None:
    def wrapped() -> Tensor:
        layer = convert(nn.BatchNorm2d(3))
        if wrap == "prune":
            prune.l1_unstructured(layer, "weight", 1)  # type: ignore[no-untyped-call]
        else:
            getattr(parametrizations, wrap)(layer)
        return through(layer, "adv", torch.rand(2, 3, 4, 4))

    with pytest.raises((RouteError, ValueError)):
        wrapped()


@pytest.mark.parametrize("norm", PRESETS)
def test_functional_call_swaps_the_parameters(norm: str) -> None:
    model = randomise(convert(small(), norm)).eval()
    other = randomise(copy.deepcopy(model), 0.5)
    x = torch.rand(2, 3, 5, 5)
    for state in (dict(other.named_parameters()) | dict(other.named_buffers()), other.state_dict()):
        with route(model, "adv"):
            torch.testing.assert_close(torch.func.functional_call(model, state, x), through(other, "adv", x))
