"""Class-conditional GANs written out plainly, with the names of modules that the published code gives them.

github.com/VITA-Group/Sandwich-Batch-Normalization, folder GAN (SNGAN and AutoGAN).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, relu
from torch.nn.utils import spectral_norm


class ConditionalNorm(nn.Module):
    """Batch norm, with an affine for sabn and without for ccbn, then scale and shift of the class."""

    def __init__(self, channels: int, classes: int, norm: str) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, affine=norm == "sabn")
        self.embed = nn.Embedding(classes, 2 * channels)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        scale, shift = self.embed(y).chunk(2, 1)
        out: Tensor = scale[:, :, None, None] * self.bn(x) + shift[:, :, None, None]
        return out


class GenBlock(nn.Module):
    def __init__(self, a: int, b: int, classes: int, norm: str) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(a, b, 3, padding=1), nn.Conv2d(b, b, 3, padding=1)
        self.b1, self.b2 = ConditionalNorm(a, classes, norm), ConditionalNorm(b, classes, norm)
        self.c_sc = nn.Conv2d(a, b, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = self.c1(interpolate(relu(self.b1(x, y)), scale_factor=2))
        h = self.c2(relu(self.b2(h, y)))
        out: Tensor = h + self.c_sc(interpolate(x, scale_factor=2))
        return out


class SNGANGen(nn.Module):
    """`widths` around the blocks; norm and convolution at the end are b5 and c5, or b7 and c7."""

    def __init__(self, widths: list[int], classes: int, norm: str, latent: int = 128) -> None:
        super().__init__()
        self.widths, self.last = widths, len(widths) + 1
        self.l1 = nn.Linear(latent, 16 * widths[0])
        for k in range(2, self.last):
            self.add_module(f"block{k}", GenBlock(widths[k - 2], widths[k - 1], classes, norm))
        self.add_module(f"b{self.last}", nn.BatchNorm2d(widths[-1]))
        self.add_module(f"c{self.last}", nn.Conv2d(widths[-1], 3, 3, padding=1))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = self.l1(z).view(-1, self.widths[0], 4, 4)
        for k in range(2, self.last):
            h = self.get_submodule(f"block{k}")(h, y)
        h = relu(self.get_submodule(f"b{self.last}")(h))
        return torch.tanh(self.get_submodule(f"c{self.last}")(h))


class DisBlock(nn.Module):
    def __init__(self, a: int, b: int, *, down: bool, first: bool) -> None:
        super().__init__()
        hidden = b if first else a
        self.down, self.first = down, first
        self.c1 = spectral_norm(nn.Conv2d(a, hidden, 3, padding=1))
        self.c2 = spectral_norm(nn.Conv2d(hidden, b, 3, padding=1))
        if down or a != b:
            self.c_sc = spectral_norm(nn.Conv2d(a, b, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.c2(relu(self.c1(x if self.first else relu(x))))
        if self.first:
            shortcut: Tensor = self.c_sc(avg_pool2d(x, 2))
            return avg_pool2d(h, 2) + shortcut
        shortcut = self.c_sc(x) if hasattr(self, "c_sc") else x
        return avg_pool2d(h, 2) + avg_pool2d(shortcut, 2) if self.down else h + shortcut


class SNGANDis(nn.Module):
    """`widths` of the blocks, of which the first `pooled` halve the size; the last layer is l5 or l7."""

    def __init__(self, widths: list[int], pooled: int, classes: int) -> None:
        super().__init__()
        self.depth = len(widths)
        for k, (a, b) in enumerate(zip([3, *widths], widths, strict=False), 1):
            self.add_module(f"block{k}", DisBlock(a, b, down=k <= pooled, first=k == 1))
        self.add_module(f"l{self.depth + 1}", spectral_norm(nn.Linear(widths[-1], 1, bias=False)))
        self.l_y = spectral_norm(nn.Embedding(classes, widths[-1]))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        for k in range(1, self.depth + 1):
            x = self.get_submodule(f"block{k}")(x)
        h = relu(x).sum((2, 3))
        score: Tensor = self.get_submodule(f"l{self.depth + 1}")(h) + (self.l_y(y) * h).sum(1, keepdim=True)
        return score


class Cell(nn.Module):
    def __init__(self, width: int, mode: str, skips: int, shortcut: bool, classes: int, norm: str) -> None:
        super().__init__()
        self.mode = mode
        self.c1, self.c2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.n1, self.n2 = (ConditionalNorm(width, classes, norm) for _ in range(2))
        if shortcut:
            self.c_sc = nn.Conv2d(width, width, 1)
        self.skip_in_ops = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(skips))

    def forward(self, x: Tensor, y: Tensor, *skips: Tensor) -> tuple[Tensor, Tensor]:
        h = self.c1(interpolate(relu(self.n1(x, y)), scale_factor=2, mode=self.mode))
        kept = h
        for skip, tensor in zip(self.skip_in_ops, skips, strict=True):
            h += skip(interpolate(tensor, size=h.shape[2:], mode=self.mode))  # and so to `kept`
        out = self.c2(relu(self.n2(h, y)))
        if hasattr(self, "c_sc"):
            out = out + self.c_sc(interpolate(x, scale_factor=2, mode=self.mode))
        return kept, out


class AutoGANGen(nn.Module):
    def __init__(self, width: int, classes: int, norm: str, latent: int = 128) -> None:
        super().__init__()
        self.l1 = nn.Linear(latent, 16 * width)
        self.cell1 = Cell(width, "nearest", 0, True, classes, norm)
        self.cell2 = Cell(width, "bilinear", 1, True, classes, norm)
        self.cell3 = Cell(width, "nearest", 2, False, classes, norm)
        self.to_rgb = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 3, 3, padding=1), nn.Tanh()
        )

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = self.l1(z)
        skip1, h = self.cell1(h.view(len(z), -1, 4, 4), y)
        skip2, h = self.cell2(h, y, skip1)
        _, h = self.cell3(h, y, skip1, skip2)
        out: Tensor = self.to_rgb(h)
        return out
