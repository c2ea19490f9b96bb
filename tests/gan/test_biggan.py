"""BigGAN against the published code: chunks of the latent, vectors in the norms, attention."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn import Blend, route
from robustsabn.errors import ModelError
from robustsabn.models.gan import build, load_official
from robustsabn.models.gan.blocks import Attention
from tests.helpers.published_biggan import BigDis, BigGen

CLASSES = 5
Y = torch.tensor([0, 4, 4])
SMALL: dict[str, Any] = {"width": 8, "d_width": 8}


def published(architecture: str, hierarchical: bool) -> tuple[Any, Any]:
    shared = 128 if hierarchical else None
    if architecture == "biggan-32":
        return BigGen([32] * 4, CLASSES, 128, shared), BigDis([32] * 4, 2, CLASSES)
    widths = [128, 128, 64, 32, 16, 8]
    return BigGen(widths, CLASSES, 120, shared, 3), BigDis([8, 16, 32, 64, 128, 128], 5, CLASSES, 0)


def used(network: Any, *inputs: Tensor) -> Any:
    """With statistics, gains and singular vectors that are not those of the start, in eval mode."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(0.7)
            elif name.endswith("gain") or "gain.weight" in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
        for _ in range(5):
            network(*inputs)
    return network.eval()


@pytest.mark.parametrize("hierarchical", [True, False])
@pytest.mark.parametrize("architecture", ["biggan-32", "biggan-128"])
def test_published_weights_give_the_same_images_and_scores(architecture: str, hierarchical: bool) -> None:
    g, d = build(architecture, CLASSES, "ccbn", hierarchical=hierarchical, **SMALL)
    z = torch.randn(3, g.latent_dim)
    their_g, their_d = published(architecture, hierarchical)
    used(their_g, z, Y)
    with torch.no_grad():
        expected = their_g(z, Y)
        used(their_d, expected, Y)
        load_official(g, their_g.state_dict()).eval()
        load_official(d, their_d.state_dict()).eval()
        with route(g, Y), route(d, Y):
            torch.testing.assert_close(g(z), expected, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(d(expected), their_d(expected, Y).squeeze(1), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(expected[1], expected[2])


def test_entries_that_cannot_be_meant_are_said() -> None:
    g, d = build("biggan-32", CLASSES, "ccbn", **SMALL)
    states = [network.state_dict() for network in published("biggan-32", True)]
    for network, state, key in zip((g, d), states, ("linear.u0", "embed.u0"), strict=True):
        for changed in (
            {key: torch.zeros(3)},
            {"linear.weight": torch.tensor(1.0)},
            {"other.u0": torch.zeros(3)},
        ):
            with pytest.raises(ModelError, match="do not fit"):
                load_official(network, {**state, **changed})


def test_every_chunk_and_the_class_reach_the_image_and_its_gradient() -> None:
    g, _ = build("biggan-32", CLASSES, "sabn", **SMALL, seed=0)
    z = torch.randn(3, 128, requires_grad=True)
    with route(g, Y):
        g(z).square().sum().backward()
    assert z.grad is not None
    assert (z.grad.view(3, 4, 32).abs().sum(2) > 0).all()
    rows = g.embedding.weight.grad.abs().sum(1)
    assert (rows > 0).tolist() == [True, False, False, False, True]


def test_between_two_classes_lies_the_mean_of_their_embeddings() -> None:
    g, _ = build("biggan-32", CLASSES, "sabn", **SMALL, seed=0)
    g.eval()
    z = torch.randn(2, 128)
    with torch.no_grad():
        with route(g, Blend(torch.tensor([0.25, 0.75, 0.0, 0.0, 0.0]))):
            between = g(z)
        g.embedding.weight[2] = 0.25 * g.embedding.weight[0] + 0.75 * g.embedding.weight[1]
        with route(g, 2):
            torch.testing.assert_close(between, g(z))


def test_without_chunks_the_latent_is_read_whole() -> None:
    for norm, hierarchical in (("bn", True), ("sabn", False)):
        g, _ = build("biggan-32", CLASSES, norm, hierarchical=hierarchical, **SMALL)
        assert g.linear.in_features == 128
        assert g.embedding is None
        with route(g, Y):
            assert g(torch.randn(3, 128)).shape == (3, 3, 32, 32)


def test_attention_is_at_64_and_starts_as_nothing() -> None:
    g, d = build("biggan-128", CLASSES, **SMALL, seed=0)
    kinds = [[isinstance(block, Attention) for block in network.blocks] for network in (g, d)]
    assert kinds == [[False] * 4 + [True, False], [False, True] + [False] * 5]
    layer = Attention(8)
    x = torch.randn(2, 8, 4, 6)
    assert torch.equal(layer(x), x)


def test_weights_have_the_norm_one() -> None:
    g, d = build("biggan-32", CLASSES, **SMALL, init="normal", seed=0)
    for network in (g, d):
        for name, layer in network.named_modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                largest = torch.linalg.svdvals(layer.weight.detach().flatten(1))[0]
                assert 0.95 < largest < 1.3, name  # a power iteration comes from below


def test_a_latent_that_cannot_be_split() -> None:
    with pytest.raises(ModelError, match="a multiple of 4"):
        build("biggan-32", CLASSES, latent_dim=126)
    with pytest.raises(ModelError, match="an option of BigGAN"):
        build("sngan-32", CLASSES, hierarchical=False)
