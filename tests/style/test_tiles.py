"""Tiles cover a picture once, and give what the whole picture gives."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustsabn.errors import InputError
from robustsabn.layers import instance_moments
from robustsabn.models.style import Encoder, build_stylizer
from robustsabn.models.style.encoders.convolutions import Convolutions
from robustsabn.style import Picture, picture_statistics, stylize, transfer
from robustsabn.style.tiles import MomentSums, fade_in, spans, tiles
from tests.helpers.style.stylizers import random_stylizer

RNG = np.random.default_rng(0)


def noise(height: int, width: int) -> Picture:
    """A picture with structure at every scale and unequal quarters."""
    pixels = RNG.integers(0, 256, (height, width, 3)).astype(float)
    pixels[: height // 2] *= 0.4
    pixels[:, width // 3 :, 0] *= 0.5
    return Picture(pixels=pixels.astype(np.uint8))


@pytest.mark.parametrize("length", [1, 7, 64, 65, 100, 127, 128, 129, 500, 1001])
@pytest.mark.parametrize(("overlap", "fade", "stride"), [(0, 0, 1), (8, 8, 4), (16, 8, 8), (20, 4, 4)])
def test_cores_cover_a_side_once_and_starts_are_multiples_of_the_stride(
    length: int, overlap: int, fade: int, stride: int
) -> None:
    found = spans(length, 64, overlap, fade, stride)
    assert [x for span in found for x in range(*span.core)] == list(range(length))
    for k, span in enumerate(found):
        assert span.outer[1] - span.outer[0] <= 64
        assert {span.outer[0] % stride, span.inner[0] % stride, span.core[0] % stride} == {0}
        assert span.inner == (max(span.core[0] - fade, 0) if k else 0, span.core[1])
        assert span.outer[0] == max(span.inner[0] - overlap, 0)
        assert span.outer[1] == (length if len(found) == 1 else min(span.inner[1] + overlap, length))
    assert (len(found) == 1) == (length <= 64)


def test_tiles_that_are_too_small_are_refused() -> None:
    with pytest.raises(InputError, match="tile is 64, but this network needs tiles of at least 76 pixels"):
        spans(100, 64, 32, 8, 4)


def test_faded_tiles_of_one_colour_keep_it_and_edges_of_two_are_no_steeper_than_the_ramp() -> None:
    parts, result = tiles((100, 130), 64, 8, 8, 4), np.zeros((100, 130))
    for k, part in enumerate(parts):
        weights = fade_in(part).numpy()
        result[part.inner] = result[part.inner] * (1 - weights) + weights * k
    steps = max(np.abs(np.diff(result, axis=axis)).max() for axis in (0, 1))
    most = max(abs(i - j) for i in range(len(parts)) for j in range(len(parts)))
    assert steps <= most / 9 + 1e-6  # a ramp of 8 pixels has 9 steps
    flat = np.zeros((100, 130))
    for part in parts:
        weights = fade_in(part).numpy()
        flat[part.inner] = flat[part.inner] * (1 - weights) + weights
    assert np.allclose(flat, 1, atol=1e-6)


def test_moments_of_parts_are_those_of_the_whole() -> None:
    x = 5 + torch.randn(2, 3, 11, 13) * torch.tensor([1.0, 0.01, 4]).view(3, 1, 1)
    sums = MomentSums()
    for rows in (x[:, :, :1], x[:, :, 1:7], x[:, :, 7:]):
        for columns in (slice(4), slice(4, None)):
            sums.add(rows[..., columns])
    for found, expected in zip(sums.moments(), instance_moments(x.double()), strict=True):
        assert (found - expected.flatten(1)).abs().max() < 1e-5


@pytest.mark.parametrize("size", [(40, 201), (201, 40), (141, 150)])
@pytest.mark.parametrize("tap", ["relu2_1", "relu3_1"])
def test_tiles_give_the_whole_picture(size: tuple[int, int], tap: str) -> None:
    stylizer, content = random_stylizer(tap=tap), noise(*size)
    style = picture_statistics(stylizer, noise(40, 40))
    whole = stylize(stylizer, content, style).pixels
    seen = list[tuple[int, int]]()
    parted = stylize(stylizer, content, style, tile=128, progress=lambda *done: seen.append(done)).pixels
    assert len(seen) > 1
    assert seen[-1] == (len(seen), len(seen))
    # float32 rounds sums of other sizes differently, by far less than a level: only ties round apart
    assert np.abs(parted.astype(int) - whole).max() <= 1
    assert (parted != whole).mean() < 0.001  # errors of 1e-6 in [0, 1] change 1 of 2,000 roundings
    assert whole.std() > 5


def test_statistics_of_tiles_are_those_of_the_whole_picture() -> None:
    stylizer, picture = random_stylizer(), noise(45, 203)
    whole = stylizer.style_statistics(torch.from_numpy(picture.pixels).permute(2, 0, 1)[None] / 255)
    for found, expected in zip(picture_statistics(stylizer, picture, tile=128), whole, strict=True):
        assert (found - expected).abs().max() < 1e-4


class Shifts(nn.Module):
    """An encoder that sees as far as it is told, or the whole picture."""

    def __init__(self, far: int, everything: bool = False) -> None:
        super().__init__()
        self.far, self.everything = far, everything
        self.taps, self.channels, self.stride = ("t",), {"t": 3}, {"t": 1}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        moved = nn.functional.pad(x, (self.far, self.far, 0, 0), mode="replicate")
        seen = x + moved[..., : x.shape[3]] + moved[..., 2 * self.far :]
        return {"t": seen + x.mean((2, 3), keepdim=True) if self.everything else seen}


@pytest.mark.parametrize("far", [1, 5, 32])
def test_the_reach_is_as_far_as_the_network_sees(far: int) -> None:
    stylizer = build_stylizer(Encoder(Shifts(far), "shifts"))
    assert transfer.reach(stylizer) == far + 1  # and one of the decoder's convolution


def test_tiles_of_a_network_as_deep_as_a_vgg_give_the_whole_picture() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = Convolutions((16, 16, 0, 16, 16, 0, 16, 16, 16, 16, 0, 16))  # a thin VGG-19, to relu4_1
        for weight in body.weights:
            nn.init.kaiming_normal_(weight)
        stylizer = build_stylizer(Encoder(body, "thin"), "saadain").eval()
    # convolutions: 2 at full size, 2 at a half, 4 at a quarter, 1 at an eighth, and as many in the decoder
    seen = 2 * (2 + 2 * 2 + 4 * 4 + 8)
    assert seen <= transfer.reach(stylizer) <= seen + 8  # whole positions of eight pixels
    content = noise(60, 500)
    style = picture_statistics(stylizer, noise(64, 64))
    whole = stylize(stylizer, content, style).pixels
    parted = stylize(stylizer, content, style, tile=256).pixels
    assert np.abs(parted.astype(int) - whole).max() <= 1
    assert whole.std() > 1


def test_a_network_that_sees_everything_has_tiles_that_fade_into_each_other() -> None:
    stylizer = build_stylizer(Encoder(Shifts(1, everything=True), "mean"))
    assert transfer.reach(stylizer) == transfer.FARTHEST
    content = noise(40, 1500)
    style = picture_statistics(stylizer, noise(40, 40))
    parted = stylize(stylizer, content, style, tile=600)
    assert parted.size == (40, 1500)
