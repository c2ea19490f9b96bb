"""Differentiable augmentation beside loops over images and pixels."""

import torch
from torch import Tensor

from robustsabn.trainers.gan.augment import DRAWS, augmented
from robustsabn.trainers.gan.config import DiffAugment

SHARE = 0.25  # of 8 pixels: 2


def drawn(n: int) -> Tensor:
    return torch.rand(n, DRAWS, dtype=torch.float64)


def test_translation_moves_whole_pixels_and_leaves_zeros() -> None:
    x, u = torch.randn(6, 2, 8, 8, dtype=torch.float64), drawn(6)
    found = augmented(x, u, DiffAugment(translation=SHARE))
    for i in range(6):
        down, right = (int(u[i, 3 + axis] * 5) - 2 for axis in (0, 1))
        for row in range(8):
            for column in range(8):
                inside = 0 <= row + down < 8 and 0 <= column + right < 8
                expected = x[i, :, row + down, column + right] if inside else torch.zeros(2).double()
                assert torch.equal(found[i, :, row, column], expected)


def test_cutout_is_a_square_of_zeros_that_may_reach_beyond_the_border() -> None:
    x, u = torch.rand(200, 1, 8, 8, dtype=torch.float64) + 1, drawn(200)
    gone = augmented(x, u, DiffAugment(cutout=0.5)) == 0
    sizes = [(int(image[0].any(1).sum()), int(image[0].any(0).sum())) for image in gone]
    assert all(int(image.sum()) == h * w for image, (h, w) in zip(gone, sizes, strict=True))
    assert {h for h, _ in sizes} == {w for _, w in sizes} == {2, 3, 4}  # 4 of 8, half of it lost at a border


def test_colour_changes_brightness_saturation_and_contrast() -> None:
    x, u = torch.rand(4, 3, 5, 5, dtype=torch.float64), drawn(4)
    found = augmented(x, u, DiffAugment(colour=True))
    for i in range(4):
        brightness, saturation, contrast = u[i, :3].tolist()
        image = x[i] + brightness - 0.5
        grey = sum(image[channel] for channel in range(3)) / 3
        image = torch.stack([grey + 2 * saturation * (image[channel] - grey) for channel in range(3)])
        mean = image.sum() / image.numel()
        torch.testing.assert_close(found[i], mean + (contrast + 0.5) * (image - mean))


def test_gradients_pass_and_nothing_is_changed_by_default() -> None:
    x, u = torch.rand(3, 3, 8, 8, dtype=torch.float64, requires_grad=True), drawn(3)
    assert augmented(x, u, DiffAugment()) is x
    every = DiffAugment(translation=SHARE, cutout=SHARE, colour=True)
    assert torch.autograd.gradcheck(lambda image: augmented(image, u, every), x)
