"""Convolutions that change the resolution beside the two steps that they stand for."""

import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate

from robustsabn.models.gan.convolutions import pooled_conv, upsampled_conv


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (2, 3)])
def test_equal_to_two_steps_with_gradients(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 3, padding=1).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    pairs = [
        (upsampled_conv(x, conv), conv(interpolate(x, scale_factor=2))),
        (pooled_conv(x, conv), avg_pool2d(conv(x), 2)),
    ]
    for found, expected in pairs:
        torch.testing.assert_close(found, expected)
        weights = torch.randn_like(expected)
        mine = torch.autograd.grad((found * weights).sum(), [x, *conv.parameters()])
        theirs = torch.autograd.grad((expected * weights).sum(), [x, *conv.parameters()])
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b)
