"""Batched crops and flips against a loop over the images."""

import pytest
import torch
from torch import Tensor

from robustsabn.data.augment import apply_crop_flip, crop_flip, draw_crop_flip


def loop(x: Tensor, draws: Tensor, padding: int) -> Tensor:
    out = torch.zeros_like(x)
    n, channels, height, width = x.shape
    for i in range(n):
        top, left, following_copy = (int(v) for v in draws[i])
        for c in range(channels):
            for row in range(height):
                for column in range(width):
                    r = row + top - padding
                    k = (width - 1 - column if following_copy else column) + left - padding
                    if 0 <= r < height and 0 <= k < width:
                        out[i, c, row, column] = x[i, c, r, k]
    return out


@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("shape", [(7, 3, 6, 5), (4, 1, 8, 8), (1, 2, 3, 9)])
def test_equals_the_loop(shape: tuple[int, ...], padding: int, flip: bool) -> None:
    x = torch.rand(shape)
    ours = crop_flip(x, torch.Generator().manual_seed(3), padding, flip)
    draws = draw_crop_flip(shape[0], torch.Generator().manual_seed(3), padding=padding, flip=flip)
    assert torch.equal(ours, loop(x, draws, padding))


def test_draws_cover_their_range_evenly_and_independently() -> None:
    draws = draw_crop_flip(9000, torch.Generator().manual_seed(0), padding=4)
    for column, values in ((0, 9), (1, 9), (2, 2)):
        counts = draws[:, column].bincount(minlength=values)
        assert len(counts) == values
        assert counts.min() > 0.85 * 9000 / values
    joint = (draws[:, 0] * 9 + draws[:, 1]).bincount(minlength=81)
    assert joint.min() > 0.6 * 9000 / 81


def test_without_flip_nothing_is_mirrored_and_the_crops_are_the_same() -> None:
    with_flip, without = (draw_crop_flip(50, torch.Generator().manual_seed(1), flip=f) for f in (True, False))
    assert without[:, 2].sum() == 0
    assert torch.equal(with_flip[:, :2], without[:, :2])


def test_a_slice_of_the_global_draws_is_the_slice_of_the_batch() -> None:
    x = torch.rand(10, 3, 8, 8)
    draws = draw_crop_flip(10, torch.Generator().manual_seed(5))
    assert torch.equal(apply_crop_flip(x, draws)[4:], apply_crop_flip(x[4:], draws[4:]))


def test_same_generator_state_same_result_and_the_global_one_is_left_alone() -> None:
    x = torch.rand(6, 3, 8, 8)
    before = torch.get_rng_state()
    first, second = (crop_flip(x, torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
def test_keeps_shape_type_and_input(dtype: torch.dtype) -> None:
    x = (torch.rand(5, 3, 8, 8) * 255).to(dtype).to(memory_format=torch.channels_last)
    copy = x.clone()
    out = crop_flip(x, torch.Generator().manual_seed(0))
    assert (out.shape, out.dtype) == (x.shape, dtype)
    assert torch.equal(x, copy)
    assert crop_flip(x[:0]).shape == (0, 3, 8, 8)
