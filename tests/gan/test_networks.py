"""Sizes and shapes of the generators and discriminators, and how the class reaches them."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn import Blend, Split, route
from robustsabn.errors import InputError, ModelError
from robustsabn.models.gan import build, names
from robustsabn.models.gan.biggan import biggan128
from robustsabn.models.gan.norms import NORMS
from robustsabn.routing import Selection

SMALL: dict[str, Any] = {"width": 8, "d_width": 8}


def small(architecture: str) -> dict[str, Any]:
    return {"width": 2, "d_width": 2} if architecture.endswith("128") else SMALL


def numbers(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# counted in the published code, sabn.md 1.3
@pytest.mark.parametrize(
    ("architecture", "classes", "ccbn", "sabn", "discriminator"),
    [
        ("sngan-32", 10, 4_304_387, 4_307_459, 1_055_104),
        ("autogan-32", 10, 4_435_971, 4_439_043, 1_055_104),
        ("sngan-128", 143, 10_606_339, 10_612_099, 12_311_296),
    ],
)
def test_parameters_are_as_many_as_published(
    architecture: str, classes: int, ccbn: int, sabn: int, discriminator: int
) -> None:
    g, d = build(architecture, classes, "ccbn")
    assert (numbers(g), numbers(d)) == (ccbn, discriminator)
    assert numbers(build(architecture, classes, "sabn")[0]) == sabn


def test_biggan_has_as_many_as_others_count() -> None:
    """Google's compare_gan asserts 70,433,988 for its generator of 128x128 with 1000 classes."""
    assert numbers(biggan128(1000, "ccbn", init="normal")) == 70_433_988


@pytest.mark.parametrize(
    ("architecture", "norm"),
    [
        *((architecture, norm) for architecture in names() if architecture != "biggan-128" for norm in NORMS),
        ("biggan-128", "sabn"),  # the others differ in nothing that biggan-32 does not show
    ],
)
def test_shapes_ranges_and_gradients(architecture: str, norm: str) -> None:
    g, d = build(architecture, 5, norm, **small(architecture), seed=0)
    y = torch.tensor([0, 4, 4])
    with route(g, y):
        images = g(torch.randn(3, g.latent_dim))
    with route(d, y):
        scores = d(images)
    side = 8 if architecture == "digits" else int(architecture.rpartition("-")[2])
    assert images.shape == (3, 1 if architecture == "digits" else 3, side, side)
    assert scores.shape == (3,)
    assert images.abs().max() <= 1
    scores.sum().backward()
    assert all(parameter.grad is not None for network in (g, d) for parameter in network.parameters())


@pytest.mark.parametrize("architecture", names())
def test_the_class_changes_images_and_scores(architecture: str) -> None:
    g, d = build(architecture, 5, "sabn", affine_init="paper", **small(architecture), seed=0)
    g.eval()
    d.eval()
    z = torch.randn(1, g.latent_dim).expand(2, -1)
    with torch.no_grad(), route(g, torch.tensor([1, 3])):
        a, b = g(z)
    assert not torch.allclose(a, b)
    with torch.no_grad(), route(d, torch.tensor([1, 3])):
        one, other = d(torch.stack([a, a]))
    assert one != other


def selections() -> list[tuple[Selection, list[int]]]:
    """Selections of a whole batch or of parts, and the classes of three samples that they stand for."""
    sure = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0])
    return [(2, [2] * 3), (Split((4, 1), (1, 2)), [4, 1, 1]), (Blend(sure), [2] * 3)]


@pytest.mark.parametrize("architecture", [name for name in names() if name != "biggan-128"])
def test_every_selection_is_what_its_classes_are(architecture: str) -> None:
    g, d = build(architecture, 5, "sabn", affine_init="paper", **small(architecture), seed=0)
    g.eval()
    d.eval()
    z = torch.randn(3, g.latent_dim)

    def both(selection: Selection) -> tuple[Tensor, Tensor]:
        with torch.no_grad(), route(g, selection), route(d, selection):
            images: Tensor = g(z)
            return images, d(images)

    for selection, classes in selections():
        for found, expected in zip(both(selection), both(torch.tensor(classes)), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_without_a_class_the_score_is_that_of_the_linear_layer() -> None:
    _, d = build("digits", 10, seed=0)
    d.eval()
    x = torch.rand(2, 1, 8, 8) * 2 - 1
    with torch.no_grad():
        h = torch.relu(d.blocks(x)).sum((2, 3))
        with route(d, None):
            torch.testing.assert_close(d(x), d.linear(h).squeeze(1))


def test_a_seed_decides_the_weights_and_leaves_torch_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (build("digits", 10, seed=seed)[1].state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(
        first["linear.parametrizations.weight.original"], other["linear.parametrizations.weight.original"]
    )


@pytest.mark.parametrize("init", ["xavier_uniform", "normal", "orthogonal"])
def test_convolutions_start_as_named(init: str) -> None:
    g, _ = build("sngan-32", 10, "sabn", **SMALL, init=init, seed=0)
    kernel = g.blocks[1].conv2.weight.detach()
    fan = kernel[0].numel() + kernel[:, 0].numel()
    if init == "xavier_uniform":
        assert 0.9 * (6 / fan) ** 0.5 < kernel.abs().max() <= (6 / fan) ** 0.5
    elif init == "normal":
        assert 0.018 < kernel.std() < 0.022
    else:
        rows = kernel.flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(8), rtol=0, atol=1e-5)


def test_an_averaged_copy_can_be_made_after_a_forward() -> None:
    g, d = build("digits", 10, seed=0)
    y = torch.arange(4)
    with route(g, y), route(d, y):
        d(g(torch.randn(4, 32))).sum().backward()
    for network in (g, d):
        twin = copy.deepcopy(network)
        assert twin.state_dict().keys() == network.state_dict().keys()


def test_compiled_in_one_graph_they_compute_the_same() -> None:
    g, d = build("biggan-32", 5, "sabn", **SMALL, seed=0)  # the one with routes inside its forward
    z, y = torch.randn(4, g.latent_dim), torch.tensor([0, 4, 4, 1])
    twins = [copy.deepcopy(network) for network in (g, d)]
    compiled: list[Any] = [torch.compile(twin, backend="eager", fullgraph=True) for twin in twins]
    with route(g, y), route(d, y), route(twins[0], y), route(twins[1], y):
        expected = d(g(z))
        torch.testing.assert_close(compiled[1](compiled[0](z)), expected, rtol=1e-4, atol=1e-4)


def test_a_gradient_penalty_can_be_differentiated() -> None:
    _, d = build("digits", 10, seed=0)
    x = (torch.rand(4, 1, 8, 8) * 2 - 1).requires_grad_()
    with route(d, torch.arange(4)):
        (slope,) = torch.autograd.grad(d(x).sum(), x, create_graph=True)
    torch.autograd.backward(slope.square().sum())
    weight = d.blocks[0].conv1.parametrizations.weight.original
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(ModelError, match="did you mean sngan-32"):
        build("sngan32", 10)
    with pytest.raises(ModelError, match="allowed: bn, ccbn, sabn, ccin, sain"):
        build("digits", 10, "batchnorm")
    with pytest.raises(ModelError, match="allowed: xavier_uniform, normal, orthogonal"):
        build("digits", 10, init="he")
    with pytest.raises(ModelError, match="num_classes is 0"):
        build("digits", 0)
    g, d = build("digits", 10)
    with pytest.raises(InputError, match=r"takes z \(N, 32\)"):
        g(torch.randn(2, 31))
    with pytest.raises(InputError, match=r"takes \(N, 1, H, W\)"):
        d(torch.randn(2, 3, 8, 8))


@pytest.mark.parametrize("norms", [("ccbn", "sabn"), ("ccin", "sain")])
@pytest.mark.parametrize("architecture", ["sngan-32", "autogan-32", "digits"])
def test_equal_effective_affines_give_equal_images(architecture: str, norms: tuple[str, str]) -> None:
    (plain, _), (sandwich, _) = (
        build(architecture, 5, norm, affine_init="paper", **SMALL, seed=0) for norm in norms
    )
    torch.manual_seed(0)
    with torch.no_grad():
        state = sandwich.double().state_dict()
        for key, value in state.items():
            if "norm" in key and ("weight" in key or "bias" in key):
                value.normal_(0.0 if "bias" in key else 1.0, 0.5)
        sandwich.load_state_dict(state)
        folded = dict(state)
        for key in [key for key in state if key.endswith("route_weight")]:
            layer = key.removesuffix(".route_weight")
            g, b = state[key], state[f"{layer}.route_bias"]
            shared_g, shared_b = folded.pop(f"{layer}.weight"), folded.pop(f"{layer}.bias")
            folded[key], folded[f"{layer}.route_bias"] = g * shared_g, g * shared_b + b
        plain.double().load_state_dict(folded)
    z, y = torch.randn(4, plain.latent_dim, dtype=torch.float64), torch.tensor([0, 1, 4, 4])
    for mode in (True, False):
        with torch.no_grad(), route(plain.train(mode), y), route(sandwich.train(mode), y):
            torch.testing.assert_close(sandwich(z), plain(z))
