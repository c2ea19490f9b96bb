"""Residual networks for small images, with the activation before or after the addition."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn.functional import relu

from robustsabn.models.normalize import Normalize

__all__ = [
    "BasicBlock",
    "PreActBlock",
    "ResNet",
    "preact_resnet18",
    "preact_resnet18_sabn",
    "resnet18",
    "resnet_digits",
    "resnet_small",
]

Statistics = Sequence[float] | None


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


class PreActBlock(nn.Module):
    """conv2(relu(bn2(conv1(h)))) + shortcut with h = relu(bn1(x)); a 1x1 convolution if the shape changes.

    He et al. 2016, "Identity Mappings in Deep Residual Networks".
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut.append(nn.Conv2d(in_channels, channels, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        h = relu(self.bn1(x))
        skip = self.shortcut(h) if len(self.shortcut) else x
        out: Tensor = self.conv2(relu(self.bn2(self.conv1(h)))) + skip
        return out


class BasicBlock(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut); a 1x1 convolution and norm if the shape changes.

    He et al. 2016, "Deep Residual Learning for Image Recognition".
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut.append(nn.Conv2d(in_channels, channels, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        h = relu(self.bn1(self.conv1(x)))
        return relu(self.bn2(self.conv2(h)) + self.shortcut(x))


class ResNet(nn.Module):
    """Normalisation, 3x3 convolution, stages `layer1`, `layer2`, …, mean over the pixels, linear layer.

    The first block of each stage but the first has stride 2. `stem` is the number of channels of the first
    convolution; `stem_norm` adds norm and ReLU (`bn1`) after it, `final_norm` (`bn`) after the last stage.
    Images (N, in_channels, H, W) in [0, 1] of any size to logits (N, num_classes).
    """

    def __init__(
        self,
        block: Callable[[int, int, int], nn.Module],
        depths: Sequence[int],
        widths: Sequence[int],
        num_classes: int,
        in_channels: int,
        *,
        stem: int,
        stem_stride: int = 1,
        stem_norm: bool = False,
        final_norm: bool = False,
        mean: Statistics = None,
        std: Statistics = None,
    ) -> None:
        super().__init__()
        self.normal = Normalize.for_channels(in_channels, mean, std)
        self.conv1 = conv3x3(in_channels, stem, stem_stride)
        self.bn1: nn.Module | None = nn.BatchNorm2d(stem) if stem_norm else None
        self.stages = tuple(f"layer{i}" for i in range(1, len(depths) + 1))
        channels = stem
        for name, depth, width in zip(self.stages, depths, widths, strict=True):
            first = block(channels, width, 1 if name == "layer1" else 2)
            self.add_module(name, nn.Sequential(first, *(block(width, width, 1) for _ in range(depth - 1))))
            channels = width
        self.bn: nn.Module | None = nn.BatchNorm2d(channels) if final_norm else None
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(self.normal(x))
        if self.bn1 is not None:
            x = relu(self.bn1(x))
        for name in self.stages:
            x = self.get_submodule(name)(x)
        if self.bn is not None:
            x = relu(self.bn(x))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def preact_resnet18_sabn(
    num_classes: int, in_channels: int = 3, *, mean: Statistics = None, std: Statistics = None
) -> ResNet:
    """PreAct ResNet-18 without a norm after the last stage, as in the adversarial training of the SaBN paper.

    Module names are those of the official code. Gong et al. 2022, "Sandwich Batch Normalization".
    """
    widths = 64, 128, 256, 512
    return ResNet(PreActBlock, (2,) * 4, widths, num_classes, in_channels, stem=64, mean=mean, std=std)


def preact_resnet18(
    num_classes: int, in_channels: int = 3, *, mean: Statistics = None, std: Statistics = None
) -> ResNet:
    """PreAct ResNet-18 with the usual norm and ReLU after the last stage."""
    return ResNet(
        PreActBlock,
        (2, 2, 2, 2),
        (64, 128, 256, 512),
        num_classes,
        in_channels,
        stem=64,
        final_norm=True,
        mean=mean,
        std=std,
    )


def resnet18(
    num_classes: int, in_channels: int = 3, *, mean: Statistics = None, std: Statistics = None
) -> ResNet:
    """ResNet-18 for 32 x 32 images: a 3x3 convolution of stride 1 and no pooling before the stages."""
    return ResNet(
        BasicBlock,
        (2, 2, 2, 2),
        (64, 128, 256, 512),
        num_classes,
        in_channels,
        stem=64,
        stem_norm=True,
        mean=mean,
        std=std,
    )


def resnet_digits(
    num_classes: int, in_channels: int = 1, *, mean: Statistics = None, std: Statistics = None
) -> ResNet:
    """Three pre-activation blocks of 16, 32 and 64 channels, for digits of 8 x 8 or 28 x 28 pixels."""
    return ResNet(
        PreActBlock,
        (1, 1, 1),
        (16, 32, 64),
        num_classes,
        in_channels,
        stem=16,
        final_norm=True,
        mean=mean,
        std=std,
    )


def resnet_small(
    num_classes: int, in_channels: int = 3, *, mean: Statistics = None, std: Statistics = None
) -> ResNet:
    """Three pre-activation blocks of 16, 32 and 64 channels after a convolution of stride 2."""
    return ResNet(
        PreActBlock,
        (1, 1, 1),
        (16, 32, 64),
        num_classes,
        in_channels,
        stem=16,
        stem_stride=2,
        final_norm=True,
        mean=mean,
        std=std,
    )
