"""What the network of a cell costs, from the sizes of its layers."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from robustsabn.errors import ModelError
from robustsabn.nas.cell import OPERATIONS, Cell
from robustsabn.scalars import whole
from robustsabn.text import quote

__all__ = ["REDUCTIONS", "STAGES", "Costs", "Reduction", "check_reduction", "costs"]

Reduction = Literal["resnet", "pool"]

REDUCTIONS: tuple[Reduction, ...] = ("resnet", "pool")
"""Blocks between stages: residual with 3x3 convolutions, or only average pooling and a 1x1 convolution."""

STAGES = 3
"""Each stage but the first halves the image and doubles the channels."""


class Costs(NamedTuple):
    """`flops` are the multiply-accumulates of the convolutions and of the linear layer with its bias, for one
    image; `parameters` count the affines of the norms, too."""

    flops: int
    parameters: int


class _Convolution(NamedTuple):
    inputs: int
    outputs: int
    kernel: int
    size: int
    norm: bool = True


def costs(
    cell: Cell,
    num_classes: int = 10,
    image_size: int = 32,
    in_channels: int = 3,
    channels: int = 16,
    cells: int = 5,
    reduction: Reduction = "resnet",
) -> Costs:
    """The costs of the network `nas-bench-201` of a cell, as the benchmark counts them.

    With n3 and n1, the numbers of 3x3 and 1x1 convolutions in the cell, the defaults give

        flops      = 7,783,050 + 35,389,440 n3 + 3,932,160 n1
        parameters =    73,306 +    243,040 n3 +    28,000 n1

    - image_size: height and width of the image in pixels.
    - channels, cells: channels of the first stage, and cells in each of the three stages.
    - reduction: one of `REDUCTIONS`.

    Raises ModelError for a number below 1 and an unknown reduction.

    Example:

        >>> from robustsabn.nas import Cell, costs
        >>> costs(Cell((1, 1, 1, 1, 1, 1)))
        Costs(flops=7783050, parameters=73306)
    """
    given = {"num_classes": num_classes, "image_size": image_size, "in_channels": in_channels}
    for name, number in {**given, "channels": channels, "cells": cells}.items():
        if (whole(number) or 0) < 1:
            raise ModelError(f"{name} is {quote(number)}; give a whole number of at least 1")
    check_reduction(reduction)
    last = channels * 2 ** (STAGES - 1)
    head = (last + 1) * num_classes
    flops, parameters = head, head + 2 * last  # with the norm before the head
    for conv in _convolutions(cell, image_size, in_channels, channels, cells, reduction):
        weights = conv.inputs * conv.outputs * conv.kernel**2
        flops += weights * conv.size**2
        parameters += weights + 2 * conv.outputs * conv.norm
    return Costs(flops, parameters)


def _convolutions(
    cell: Cell, size: int, in_channels: int, channels: int, cells: int, reduction: Reduction
) -> Iterator[_Convolution]:
    yield _Convolution(in_channels, channels, 3, size)
    for stage in range(STAGES):
        if stage:
            narrow, channels, size = channels, 2 * channels, (size + 1) // 2
            yield _Convolution(narrow, channels, 1, size, norm=False)
            if reduction == "resnet":
                yield _Convolution(narrow, channels, 3, size)
                yield _Convolution(channels, channels, 3, size)
        kernels = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
        for operation in (OPERATIONS[i] for i in cell.operations * cells):
            if operation in kernels:
                yield _Convolution(channels, channels, kernels[operation], size)


def check_reduction(reduction: object) -> None:
    """Raise ModelError unless `reduction` is one of `REDUCTIONS`."""
    if reduction not in REDUCTIONS:
        raise ModelError(f"reduction is {quote(reduction)}; allowed: {', '.join(REDUCTIONS)}")
