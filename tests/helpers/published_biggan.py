"""BigGAN written out plainly, with the names of modules that github.com/ajbrock/BigGAN-PyTorch gives them."""

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    avg_pool2d,
    batch_norm,
    conv2d,
    embedding,
    interpolate,
    linear,
    max_pool2d,
    normalize,
    relu,
)


class Spectral:
    """One left singular vector `u0`, moved by a power iteration in train mode."""

    def normalised(self: Any) -> Tensor:
        matrix = self.weight.flatten(1)
        with torch.no_grad():
            v = normalize(self.u0 @ matrix)
            u = normalize(v @ matrix.T)
            if self.training:
                self.u0.copy_(u)
        sigma = (v @ matrix.T @ u.T).squeeze()
        if self.training:
            self.sv0.fill_(sigma.item())
        weight: Tensor = self.weight / sigma
        return weight

    def vectors(self: Any) -> Any:
        self.register_buffer("u0", torch.randn(1, len(self.weight)))
        self.register_buffer("sv0", torch.ones(1))
        return self


class SNConv(nn.Conv2d, Spectral):
    def forward(self, input: Tensor) -> Tensor:
        return conv2d(input, self.normalised(), self.bias, padding=self.padding)


class SNLinear(nn.Linear, Spectral):
    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.normalised(), self.bias)


class SNEmbedding(nn.Embedding, Spectral):
    def forward(self, input: Tensor) -> Tensor:
        return embedding(input, self.normalised())


def conv(a: int, b: int, size: int = 3, bias: bool = True) -> Any:
    return SNConv(a, b, size, padding=size // 2, bias=bias).vectors()


class Stored(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))

    def normal(self: Any, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        return batch_norm(x, self.stored_mean, self.stored_var, scale, shift, self.training, 0.1, 1e-5)


class CCBN(Stored):
    """By a vector of `size`, or without a size by a table of classes."""

    def __init__(self, channels: int, size: int | None, classes: int) -> None:
        super().__init__(channels)
        for name in ("gain", "bias"):
            table = nn.Embedding(classes, channels)
            self.add_module(
                name, SNLinear(size, channels, bias=False).vectors() if size is not None else table
            )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        gain, bias = self.get_submodule("gain")(y), self.get_submodule("bias")(y)
        out: Tensor = self.normal(x) * (1 + gain)[:, :, None, None] + bias[:, :, None, None]
        return out


class PlainBN(Stored):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.gain, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.normal(x, self.gain, self.bias)


class GBlock(nn.Module):
    def __init__(self, a: int, b: int, size: int | None, classes: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv_sc = conv(a, b), conv(b, b), conv(a, b, 1)
        self.bn1, self.bn2 = CCBN(a, size, classes), CCBN(b, size, classes)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = interpolate(relu(self.bn1(x, y)), scale_factor=2)
        h = self.conv2(relu(self.bn2(self.conv1(h), y)))
        out: Tensor = h + self.conv_sc(interpolate(x, scale_factor=2))
        return out


class DBlock(nn.Module):
    def __init__(self, a: int, b: int, *, first: bool, down: bool) -> None:
        super().__init__()
        self.first, self.down = first, down
        self.conv1, self.conv2 = conv(a, b), conv(b, b)
        if down or a != b:
            self.conv_sc = conv(a, b, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(relu(self.conv1(x if self.first else relu(x))))
        shortcut = self.conv_sc(x) if hasattr(self, "conv_sc") else x
        return avg_pool2d(h, 2) + avg_pool2d(shortcut, 2) if self.down else h + shortcut


class Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.theta, self.phi = (conv(channels, channels // 8, 1, bias=False) for _ in range(2))
        self.g, self.o = conv(channels, channels // 2, 1, False), conv(channels // 2, channels, 1, False)
        self.gamma = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        theta, phi = self.theta(x).flatten(2), max_pool2d(self.phi(x), 2).flatten(2)
        g = max_pool2d(self.g(x), 2).flatten(2)
        beta = torch.softmax(torch.bmm(theta.transpose(1, 2), phi), -1)
        out: Tensor = self.o(torch.bmm(g, beta.transpose(1, 2)).view(len(x), -1, *x.shape[2:]))
        return self.gamma * out + x


class BigGen(nn.Module):
    def __init__(
        self, widths: list[int], classes: int, latent: int, shared: int | None, attention: int = -1
    ) -> None:
        super().__init__()
        blocks = len(widths) - 1
        self.chunk = latent // (blocks + 1) if shared else latent
        size = shared + self.chunk if shared else None
        self.shared = nn.Embedding(classes, shared) if shared else nn.Identity()
        self.linear = SNLinear(self.chunk, 16 * widths[0]).vectors()
        parts: list[list[nn.Module]] = [[GBlock(a, b, size, classes)] for a, b in itertools.pairwise(widths)]
        if attention >= 0:
            parts[attention].append(Attention(widths[attention + 1]))
        self.blocks = nn.ModuleList(nn.ModuleList(part) for part in parts)
        self.output_layer = nn.Sequential(PlainBN(widths[-1]), nn.ReLU(), conv(widths[-1], 3))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        z, *chunks = z.chunk(z.shape[1] // self.chunk, 1)
        of_class = self.shared(y)
        h = self.linear(z).view(len(z), -1, 4, 4)
        for i, parts in enumerate(self.blocks):
            for part in parts:  # type: ignore[attr-defined]
                h = part(h, torch.cat([of_class, chunks[i]], 1) if chunks else of_class)
        return torch.tanh(self.output_layer(h))


class BigDis(nn.Module):
    def __init__(self, widths: list[int], pooled: int, classes: int, attention: int = -1) -> None:
        super().__init__()
        parts: list[list[nn.Module]] = [
            [DBlock(a, b, first=i == 0, down=i < pooled)]
            for i, (a, b) in enumerate(zip([3, *widths], widths, strict=False))
        ]
        if attention >= 0:
            parts[attention].append(Attention(widths[attention]))
        self.blocks = nn.ModuleList(nn.ModuleList(part) for part in parts)
        self.linear = SNLinear(widths[-1], 1).vectors()
        self.embed = SNEmbedding(classes, widths[-1]).vectors()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        for parts in self.blocks:
            for part in parts:  # type: ignore[attr-defined]
                x = part(x)
        h = relu(x).sum((2, 3))
        score: Tensor = self.linear(h) + (self.embed(y) * h).sum(1, keepdim=True)
        return score
