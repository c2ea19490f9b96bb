"""The networks: sizes, module names, shapes, normalisation inside, and the registry's errors."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustsabn.errors import ModelError
from robustsabn.models import Normalize, build, names
from robustsabn.models.wide import wide_resnet


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def conv(i: int, o: int, k: int = 3) -> int:
    return i * o * k * k


def wide_size(n: int, widen: int) -> int:
    """Parameters of WRN-(6n+4)-widen from the layers of the paper."""
    total, channels = conv(3, 16), 16
    for width in (16 * widen, 32 * widen, 64 * widen):
        for _ in range(n):
            total += 2 * channels + conv(channels, width) + 2 * width + conv(width, width)
            total += conv(channels, width, 1) if channels != width else 0
            channels = width
    return total + 2 * channels + channels * 10 + 10


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("preact-resnet18-sabn", 11_171_146),
        ("preact-resnet18", 11_172_170),
        ("resnet18", 11_173_962),
        ("wrn-28-10", 36_479_194),
        ("wrn-34-10", 46_160_474),
    ],
)
def test_parameter_counts(name: str, size: int) -> None:
    with torch.device("meta"):
        assert count(build(name, 10)) == size


@pytest.mark.parametrize(("depth", "n"), [(28, 4), (34, 5)])
def test_wide_counts_follow_from_the_layers(depth: int, n: int) -> None:
    with torch.device("meta"):
        assert count(wide_resnet(depth, 10, 10)) == wide_size(n, 10)


def test_small_networks_are_small() -> None:
    assert count(build("resnet-digits", 10, 1)) < 100_000
    assert count(build("resnet-small", 10)) < 100_000


OPTIONS = {
    "nas-bench-201": {"cell": "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|none~2|"}
}


@pytest.mark.parametrize("name", [n for n in names() if not n.startswith("wrn")])
@pytest.mark.parametrize(
    ("channels", "size", "classes"), [(3, (32, 32), 10), (1, (28, 20), 7), (2, (8, 8), 2)]
)
def test_shapes(name: str, channels: int, size: tuple[int, int], classes: int) -> None:
    model = build(name, classes, channels, **OPTIONS.get(name, {})).eval()
    assert model(torch.rand(2, channels, *size)).shape == (2, classes)


def test_a_wide_network_runs() -> None:
    model = wide_resnet(10, 2, 5, 1)
    assert model(torch.rand(2, 1, 12, 12)).shape == (2, 5)
    weight = model.get_parameter("layer2.0.conv2.weight")
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    with pytest.raises(ModelError, match="depth"):
        wide_resnet(12, 2, 10)


def paper(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """The network of the paper in eval mode, written out from its description."""

    def norm(h: Tensor, key: str) -> Tensor:
        mean, var = state[f"{key}.running_mean"], state[f"{key}.running_var"]
        h = (h - mean[None, :, None, None]) / (var[None, :, None, None] + 1e-5).sqrt()
        return h * state[f"{key}.weight"][None, :, None, None] + state[f"{key}.bias"][None, :, None, None]

    mean = torch.tensor([0.485, 0.456, 0.406], dtype=x.dtype).reshape(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], dtype=x.dtype).reshape(1, 3, 1, 1)
    x = F.conv2d((x - mean) / std, state["conv1.weight"], padding=1)
    for layer in (1, 2, 3, 4):
        for i in (0, 1):
            key, stride = f"layer{layer}.{i}", 2 if layer > 1 and i == 0 else 1
            h = norm(x, f"{key}.bn1").clamp(min=0)
            skip = F.conv2d(h, state[f"{key}.shortcut.0.weight"], stride=stride) if stride == 2 else x
            h = F.conv2d(h, state[f"{key}.conv1.weight"], stride=stride, padding=1)
            h = norm(h, f"{key}.bn2").clamp(min=0)
            x = F.conv2d(h, state[f"{key}.conv2.weight"], padding=1) + skip
    return F.avg_pool2d(x, 4).flatten(1) @ state["linear.weight"].T + state["linear.bias"]


def test_the_paper_network_is_the_one_described() -> None:
    torch.manual_seed(0)
    model = build("preact-resnet18-sabn", 10).double().eval()
    for buffer in model.modules():
        if isinstance(buffer, nn.BatchNorm2d):
            assert buffer.running_mean is not None
            assert buffer.running_var is not None
            buffer.running_mean.normal_()
            buffer.running_var.uniform_(0.5, 2)
            nn.init.normal_(buffer.weight)
            nn.init.normal_(buffer.bias)
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(model(x), paper(model.state_dict(), x), rtol=1e-6, atol=1e-6)


def test_the_paper_network_has_16_norms_of_the_published_widths() -> None:
    model = build("preact-resnet18-sabn", 10)
    widths = [m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert sorted(widths) == [64] * 5 + [128] * 4 + [256] * 4 + [512] * 3


@pytest.mark.parametrize("name", ["resnet-digits", "resnet-small", "resnet18"])
def test_every_parameter_has_a_gradient(name: str) -> None:
    model = build(name, 10)
    x = torch.rand(4, 3, 16, 16, requires_grad=True)
    torch.autograd.backward(F.cross_entropy(model(x), torch.arange(4)))
    assert x.grad is not None
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


# ------------------------------------------------------------------ normalisation


def test_normalisation_is_part_of_the_network() -> None:
    model = build("resnet-digits", 10, 3, mean=[0.1, 0.2, 0.3], std=[1.0, 2.0, 4.0])
    assert isinstance(model.normal, Normalize)
    x = torch.tensor([0.1, 2.2, 0.7]).reshape(1, 3, 1, 1).expand(2, 3, 5, 5)
    torch.testing.assert_close(model.normal(x)[:, :, 0, 0], torch.tensor([[0.0, 1.0, 0.1]] * 2))
    assert model.state_dict()["normal.std"].tolist() == [1, 2, 4]
    grey = build("resnet-digits", 10, 1).normal
    assert isinstance(grey, Normalize)
    assert grey(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)).flatten().tolist() == [-1, 1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Normalize([0.5], [0.5, 0.5]),
        lambda: Normalize([0.5], [0.0]),
        lambda: Normalize([], []),
        lambda: build("resnet-small", 10, 3, mean=[0.5], std=[0.5]),
    ],
)
def test_impossible_normalisation_is_refused(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(ModelError, match="mean and std need"):
        make()


# ------------------------------------------------------------------ registry


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("wrn-28", {}, r"unknown network 'wrn-28' \(did you mean wrn-28-10\?\); known: preact"),
        ("ResNet18", {}, "did you mean resnet18"),
        ("?", {}, "unknown network"),
        ("resnet18", {"depth": 3}, "resnet18 has no option 'depth'; its options: mean, std"),
        ("resnet18", {"num_classes": 0}, "1 to 1000000 classes"),
        ("resnet18", {"in_channels": 0}, "1 to 1000000 classes and channels"),
    ],
)
def test_what_cannot_be_built(name: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build(name, **({"num_classes": 10} | options))
