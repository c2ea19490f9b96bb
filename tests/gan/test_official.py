"""Published weights in our networks: the images and scores of the published code."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from robustsabn import route
from robustsabn.errors import ModelError
from robustsabn.models.gan import build, load_official
from tests.helpers.published_gans import AutoGANGen, SNGANDis, SNGANGen

CLASSES = 5
Y = torch.tensor([0, 4, 4])


def published(architecture: str, norm: str) -> Any:
    if architecture == "autogan-32":
        return AutoGANGen(8, CLASSES, norm)
    widths = [8] * 4 if architecture == "sngan-32" else [16, 16, 8, 8, 4, 2]
    return SNGANGen(widths, CLASSES, norm)


def published_discriminator(architecture: str) -> Any:
    large = architecture == "sngan-128"
    return SNGANDis([2, 4, 8, 16, 16, 16] if large else [4] * 4, 5 if large else 2, CLASSES)


def ours(architecture: str, norm: str = "sabn", classes: int = CLASSES) -> tuple[Any, Any]:
    large = architecture == "sngan-128"
    return build(architecture, classes, norm, width=2 if large else 8, d_width=2 if large else 4)


def used(network: Any, *inputs: Tensor) -> Any:
    """With statistics, affines and singular vectors that are not those of the start, in eval mode."""
    torch.manual_seed(1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and module.affine:
                module.weight.normal_(1, 0.3)
                module.bias.normal_(0, 0.3)
            elif isinstance(module, nn.Embedding) and "embed" in str(module):
                module.weight.normal_(1, 0.5)
        for _ in range(20):
            network(*inputs)
    return network.eval()


@pytest.mark.parametrize("norm", ["ccbn", "sabn"])
@pytest.mark.parametrize("architecture", ["sngan-32", "autogan-32", "sngan-128"])
def test_a_published_generator_gives_the_same_images(architecture: str, norm: str) -> None:
    z = torch.randn(3, 128)
    theirs = used(published(architecture, norm), z, Y)
    mine = load_official(ours(architecture, norm)[0], theirs.state_dict()).eval()
    with torch.no_grad(), route(mine, Y):
        expected = theirs(z, Y)
        torch.testing.assert_close(mine(z), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected[1], expected[2])
    assert expected.std() > 0.05


@pytest.mark.parametrize("architecture", ["sngan-32", "sngan-128"])
def test_a_published_discriminator_gives_the_same_scores(architecture: str) -> None:
    side = int(architecture[6:])
    x = torch.rand(3, 3, side, side) * 2 - 1
    theirs = used(published_discriminator(architecture), x, Y)
    mine = load_official(ours(architecture)[1], theirs.state_dict()).eval()
    with torch.no_grad(), route(mine, Y):
        torch.testing.assert_close(mine(x), theirs(x, Y).squeeze(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["sngan-32", "autogan-32"])
def test_in_training_images_and_gradients_are_the_same(architecture: str) -> None:
    theirs: Any = published(architecture, "sabn").double()
    mine = load_official(ours(architecture)[0].double(), theirs.state_dict())
    z = torch.randn(3, 128, dtype=torch.float64)
    weights = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    with route(mine, Y):
        (mine(z) * weights).sum().backward()
    (theirs(z, Y) * weights).sum().backward()
    torch.testing.assert_close(mine.linear.weight.grad, theirs.l1.weight.grad)
    twin = load_official(
        ours(architecture)[0].double(), theirs.state_dict()
    )  # with the statistics of the forward
    for key, value in mine.state_dict().items():
        if "running" in key:
            torch.testing.assert_close(value, twin.state_dict()[key])


def test_the_checkpoint_of_a_training(tmp_path: Path) -> None:
    networks: dict[str, Any] = {
        "gen": published("sngan-32", "sabn"),
        "avg_gen": published("sngan-32", "sabn"),
    }
    networks["dis"] = published_discriminator("sngan-32")
    content = {f"{name}_state_dict": network.state_dict() for name, network in networks.items()}
    torch.save({"epoch": 3, "model": "sngan", **content}, tmp_path / "checkpoint.pth")
    g, d = ours("sngan-32")
    load_official(g, tmp_path / "checkpoint.pth")
    load_official(d, tmp_path / "checkpoint.pth")
    assert torch.equal(g.linear.weight, networks["avg_gen"].l1.weight)
    assert torch.equal(d.linear.parametrizations.weight.original, networks["dis"].l5.weight_orig)
    save_file(networks["gen"].state_dict(), tmp_path / "generator.safetensors")
    load_official(g, tmp_path / "generator.safetensors")
    assert torch.equal(g.linear.weight, networks["gen"].l1.weight)


def test_what_does_not_fit_is_said_and_nothing_is_loaded() -> None:
    state = published("sngan-32", "sabn").state_dict()
    cases: list[tuple[nn.Module, Any, str]] = [
        (ours("sngan-32", "ccbn")[0], state, "has besides blocks.0.norm1.weight, .* and 10 more"),
        (ours("sngan-32", classes=7)[0], state, r"norm1.route_weight is \(5, 8\) in the file and \(7, 8\)"),
        (ours("sngan-128")[0], state, "build the network with the norm, classes and widths of the file"),
        (ours("sngan-32")[1], state, "lacks blocks.0"),
        (ours("sngan-32")[0], {**state, "epoch": 3}, "'epoch' is int, not a tensor"),
        (nn.Linear(2, 2), state, "no published layout"),
        (ours("sngan-32")[0], "nowhere.pth", "no such weight file"),
        (ours("sngan-32")[0], 5, "give a state dict"),
        (ours("sngan-32")[0], {3: torch.zeros(2)}, "the entry 3"),
        (ours("sngan-32")[0], {"gen_state_dict": 5}, "not a tensor"),
        (ours("sngan-32")[0], {}, "lacks"),
    ]
    for network, weights, message in cases:
        before = {key: value.clone() for key, value in network.state_dict().items()}
        with pytest.raises(ModelError, match=message):
            load_official(network, weights)
        assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
